"""What the transition energy learns online."""

from __future__ import annotations

import math

import pytest
import torch

from hierebm.planning.sequence import SequenceOptimizer
from tests.planning.sequence.random_walk import random_transitions, seeded, trained


def test_info_nce_learns_the_density_of_a_random_walk(open_optimizer: SequenceOptimizer) -> None:
    g, unit = seeded(3), open_optimizer.model.unit
    s = torch.rand(500, 2, generator=g) * 2 - 1
    step = 0.35 * torch.randn(500, 2, generator=g)
    with torch.no_grad():
        energy = open_optimizer.model.energy(s, s + step)
    sigma = 0.35 / unit
    exact = 0.5 * (step / unit / sigma).square().sum(-1) + (
        sigma.log().sum() + math.log(2 * math.pi)
    )
    assert float((energy - exact).abs().mean()) < 0.3
    assert float(torch.corrcoef(torch.stack([energy, exact]))[0, 1]) > 0.9


def test_the_wall_has_high_energy(wall_optimizer: SequenceOptimizer) -> None:
    y = torch.linspace(-1.5, 0.0, 20)
    left, right = (torch.stack([torch.full_like(y, x), y], -1) for x in (-0.35, 0.35))
    with torch.no_grad():
        across = wall_optimizer.model.energy(left, right)
        along = wall_optimizer.model.energy(left, left + torch.tensor([0.0, 0.7]))
    assert float(across.min()) > float(along.max())
    assert float(across.mean() - along.mean()) > 3.0


def test_missed_transitions_become_expensive() -> None:
    optimizer, g = trained(False, 80), seeded(9)
    start = torch.tensor([[-1.0, -1.0]]) + 0.1 * torch.randn(64, 2, generator=g)
    missed = torch.stack([start, start + torch.tensor([0.5, 0.0])], 1)

    def energy_of_missed() -> float:
        with torch.no_grad():
            return float(optimizer.model.energy(missed[:, 0], missed[:, 1]).mean())

    before = energy_of_missed()
    optimizer.add_negatives(missed)
    metrics = {}
    for _ in range(100):
        metrics = optimizer.update(random_transitions(128, False, g))
    assert energy_of_missed() > before + 0.5
    assert "energy/missed" in metrics


def test_both_objectives_train() -> None:
    optimizer = trained(False, 120, objective="squared")
    s = torch.zeros(64, 2)
    near, far = s + 0.2, s + 1.6
    with torch.no_grad():
        assert optimizer.model.energy(s, near).mean() < optimizer.model.energy(s, far).mean() - 0.3


def test_a_loss_that_is_not_finite_is_named() -> None:
    optimizer = SequenceOptimizer(2, None, seeded())
    pairs = random_transitions(16, False, seeded())
    optimizer.update(pairs)
    with pytest.raises(FloatingPointError, match=r"infonce.*update 1"):
        optimizer.update(torch.full_like(pairs, math.nan))
