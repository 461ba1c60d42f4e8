"""Toy conditional densities: samples, exact densities and distances agree."""

from __future__ import annotations

import pytest
import torch

from hierebm.energy.toys.conditional_densities import AccelerateBrake, ConditionalRing, TwoBranches
from tests.energy.targets import seeded


def test_two_branches_density_and_sampler_agree():
    density = TwoBranches()
    x, y = density.sample(4000, seeded())
    assert float(((y.abs() - density.branch(x)).abs() < 3 * density.sigma).float().mean()) > 0.99
    assert float((y > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    grid = torch.linspace(-2, 2, 4001)[:, None]
    p = density.log_prob(grid, torch.full_like(grid, 0.2)).exp()
    assert float(p.sum() * 4 / 4000) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("dim", [2, 8])
def test_ring_distance_of_its_own_samples_is_the_noise(dim):
    density = ConditionalRing(dim)
    x = density.conditions(500, seeded())
    y = density.sample_given(x, seeded(1))
    distance, cell = density.ring_distance(y, x)
    # The component along the curve is lost: dim - 1 are left.
    assert float(distance.square().mean()) == pytest.approx((dim - 1) * density.sigma**2, rel=0.15)
    assert bool((torch.bincount(cell, minlength=16) > 10).all())
    assert bool(((y >= density.low) & (y <= density.high)).all())


def test_states_drawn_by_arc_length_are_uniform_and_by_time_pile_up_at_the_ends():
    moves = AccelerateBrake(sigma=0.0)
    for by, end in (("arc", 0.1), ("time", 0.22)):
        x, y = moves.sample(6000, seeded(), by=by)
        start, goal = x[:, :2], x[:, 2:]
        share = ((y - start) * (goal - start)).sum(-1) / (goal - start).square().sum(-1)
        assert float((share < 0.1 - 1e-6).float().mean()) == pytest.approx(end, abs=0.03)
    # The exact density agrees with the samples it is given for.
    moves = AccelerateBrake()
    x, y = moves.sample(1, seeded(1), by="time")
    axis = torch.linspace(-2, 2, 161)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    p = moves.log_prob(grid, x[0].expand(161, 161, 4), by="time").exp()
    assert float(p.sum() * (4 / 160) ** 2) == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match="by="):
        moves.sample(3, seeded(), by="space")
