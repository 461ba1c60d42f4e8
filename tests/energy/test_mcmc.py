"""Markov chains leave the exact density as it is, stay in their box, and say what goes wrong."""

from __future__ import annotations

import math

import pytest
import torch

from hierebm.energy.default_sampler import SamplerConfig, draw
from hierebm.energy.mcmc import annealed_langevin, descent, langevin, mala, metropolis
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.proposals import ReplayProposal
from hierebm.energy.protocol import SamplingError
from tests.energy.targets import Gaussian, Quadratic, Valleys, box, seeded


@pytest.mark.parametrize("sampler", ["mala", "metropolis"])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("walls", [None, (-1.5, 0.8)])
def test_a_metropolis_step_leaves_the_density_as_it_is(sampler, temperature, walls):
    """Exact samples stay exact under long steps: any slip in the acceptance rule shows."""
    target, n = Valleys(), 20_000
    low, high = walls or (-5.0, 5.0)
    exact = target.quantiles(n, temperature, low, high)
    y = exact[torch.randperm(n, generator=seeded())].view(1, n, 1)
    bounds = None if walls is None else box(*walls, dim=1)
    if sampler == "mala":
        moved = mala(
            target, y, steps=20, step_size=0.4, temperature=temperature,
            generator=seeded(1), bounds=bounds,
        ).y  # fmt: skip
    else:
        moved, energy = metropolis(
            target, y, target(y), steps=20, step_size=0.4, temperature=temperature,
            generator=seeded(1), bounds=bounds,
        )  # fmt: skip
        torch.testing.assert_close(energy, target(moved))
    assert moved.dtype == torch.float64
    assert float((moved != y).double().mean()) > 0.9
    rank = torch.searchsorted(exact, moved.flatten().sort().values) / n
    uniform = (torch.arange(n) + 0.5) / n
    # Kolmogorov-Smirnov at one in a thousand.
    assert float((rank - uniform).abs().max()) < 1.95 / math.sqrt(n)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_langevin_and_mala_reach_the_right_variance(temperature):
    var = torch.tensor([1.0, 0.25])
    target = Gaussian(torch.tensor([1.0, -1.0]), var)
    y0 = torch.zeros(2, 4000, 2)
    y = langevin(target, y0, steps=300, step_size=0.02, temperature=temperature, generator=seeded())
    # Euler-Maruyama is stationary at var T / (1 - h / (2 var)).
    expected = var * temperature / (1 - 0.02 / (2 * var))
    torch.testing.assert_close(y.var(dim=1), expected.expand(2, 2), rtol=0.1, atol=0)
    torch.testing.assert_close(y.mean(dim=1), target.mean.expand(2, 2), atol=0.06, rtol=0)
    result = mala(
        target, y0, steps=100, step_size=0.2, temperature=temperature, generator=seeded(1)
    )
    expected = (var * temperature).expand(2, 2)
    torch.testing.assert_close(result.y.var(dim=1), expected, rtol=0.1, atol=0)
    torch.testing.assert_close(result.energy, target(result.y))
    assert 0.3 < result.acceptance < 1.0


def test_mala_adapts_a_bad_step_size_per_condition():
    target = Gaussian(torch.zeros(2), torch.tensor([[[1.0]], [[0.01]]]))
    start = 0.1 * torch.randn(2, 500, 2, generator=seeded())
    result = mala(target, start, steps=150, step_size=10.0, adapt=True, generator=seeded(1))
    wide, narrow = result.step_size[:, 0, 0].tolist()
    assert 20 < wide / narrow < 500
    later = mala(target, result.y, steps=50, step_size=result.step_size, generator=seeded(2))
    assert later.acceptance == pytest.approx(0.574, abs=0.1)


def test_descent_collects_and_annealing_ends_at_the_target():
    target = Gaussian(torch.zeros(2), torch.ones(2))
    y0 = 3 * torch.randn(1, 2000, 2, generator=seeded())
    assert float(descent(target, y0, steps=100, step_size=0.2).abs().max()) < 1e-4
    y = annealed_langevin(target, y0, steps=200, step_size=0.05, generator=seeded(1))
    assert float(y.var()) == pytest.approx(1.0, abs=0.15)


def test_annealing_without_cooling_is_langevin_and_descent_is_its_cold_end():
    y = torch.randn(1, 20, 2, generator=seeded())
    settings_ = {"steps": 7, "step_size": 0.05, "max_move": 0.1, "bounds": box(-1.0, 1.0)}
    constant = annealed_langevin(
        Quadratic(), y, start_temperature=0.7, temperature=0.7, generator=seeded(1), **settings_
    )
    plain = langevin(Quadratic(), y, temperature=0.7, generator=seeded(1), **settings_)
    torch.testing.assert_close(constant, plain)
    cold = langevin(Quadratic(), y, temperature=0.0, **settings_)
    assert torch.equal(descent(Quadratic(), y, **settings_), cold)


def test_bounds_hold_and_divergence_is_reported():
    target = Gaussian(torch.zeros(2), torch.ones(2))
    bounds = (torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 1.0]))
    y0 = torch.full((1, 200, 2), 0.3)
    y = langevin(target, y0, steps=20, step_size=0.3, generator=seeded(), bounds=bounds)
    assert bool(((y >= bounds[0]) & (y <= bounds[1])).all())
    y = mala(target, y0, steps=20, step_size=0.3, generator=seeded(), bounds=bounds).y
    assert bool(((y >= bounds[0]) & (y <= bounds[1])).all())
    with pytest.raises(SamplingError, match="step_size"):
        langevin(target, y0 + 1e30, steps=200, step_size=1e30, generator=seeded())


def test_proposals_of_nan_energy_are_rejected():
    class Hole(Quadratic):
        def __call__(self, y, x=None, z=None):
            return torch.where(y[..., 0] > 0.5, math.nan, super().__call__(y))

    y = torch.zeros(1, 500, 2)
    result = mala(Hole(), y, steps=50, step_size=0.2, generator=seeded())
    assert float(result.y[..., 0].max()) <= 0.5 and 0.2 < result.acceptance < 1.0
    moved, _ = metropolis(Hole(), y, Hole()(y), steps=50, step_size=0.2, generator=seeded())
    assert float(moved[..., 0].max()) <= 0.5 < float(moved[..., 1].max())


def test_a_step_of_zero_goes_nowhere_and_a_constant_coordinate_does_not_stop_the_others():
    y = torch.randn(1, 200, 2, generator=seeded())
    still = mala(Quadratic(), y, steps=5, step_size=0.0, generator=seeded())
    assert torch.equal(still.y, y) and still.acceptance == 1.0
    assert torch.equal(langevin(Quadratic(), y, steps=5, step_size=0.0, generator=seeded()), y)
    step = torch.tensor([0.1, 0.0])
    moved = mala(Quadratic(), y, steps=20, step_size=step, adapt=True, generator=seeded())
    assert torch.equal(moved.y[..., 1], y[..., 1])
    assert not bool((moved.y[..., 0] == y[..., 0]).any())
    # Candidates that are all alike in one coordinate: its width, and so its step, is zero.
    states = torch.stack([torch.randn(400, generator=seeded()), torch.ones(400)], dim=-1)
    config = SamplerConfig(method="mala", steps=30)
    y = draw(Quadratic(), 50, ReplayProposal(states), config=config, generator=seeded()).y[0]
    assert bool((y[:, 1] == 1.0).all())
    assert not bool(torch.isin(y[:, 0], states[:, 0]).any())


def test_no_steps_are_no_steps():
    y = torch.randn(2, 3, 2, generator=seeded())
    assert torch.equal(langevin(Quadratic(), y, steps=0, step_size=0.1), y)
    assert torch.equal(annealed_langevin(Quadratic(), y, steps=0, step_size=0.1), y)
    result = mala(Quadratic(), y, steps=0, step_size=0.1)
    assert torch.equal(result.y, y) and result.acceptance == 0.0
    assert torch.equal(metropolis(Quadratic(), y, y[..., 0], steps=0, step_size=0.1)[0], y)


def test_samplers_repeat_with_the_same_generator_and_keep_the_input():
    model = EnergyMLP(2, width=8, generator=seeded())
    y0 = torch.randn(1, 10, 2, generator=seeded(1))
    kept = y0.clone()
    a, b = (langevin(model, y0, steps=5, step_size=0.01, generator=seeded(2)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(y0, kept)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda y: langevin(Quadratic(), y, steps=1, step_size=-0.1), "step_size"),
        (lambda y: langevin(Quadratic(), y, steps=1, step_size=0.1, temperature=-1.0), "temperat"),
        (lambda y: annealed_langevin(Quadratic(), y, steps=1, step_size=0.1, temperature=0.0), "d"),
        (lambda y: mala(Quadratic(), y, steps=1, step_size=0.1, temperature=0.0), "temperature"),
        (lambda y: mala(Quadratic(), y, steps=1, step_size=-0.1), "step_size"),
    ],
)
def test_bad_chain_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(torch.zeros(1, 3, 2))
