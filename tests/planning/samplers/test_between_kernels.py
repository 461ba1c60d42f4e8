"""The energy's gradient step by hand is that of autograd."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hierebm.energy.losses import info_nce
from hierebm.errors import TrainingDiverged
from hierebm.planning.samplers import EBMSampler, EnergyConfig, between_kernels
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.planning.samplers.between_kernels import CHUNK_ROWS, FastBetweenEnergy
from hierebm.replay.scales import InputScales
from tests.planning.samplers.test_between_captured import batch, make


@pytest.mark.parametrize("n, k", [(1, 1), (12, 5), (40, 60)])
@pytest.mark.parametrize("goal_dim, depth", [(1, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("rows", [CHUNK_ROWS, 100])
def test_gradients_are_those_of_autograd_in_double_precision(
    rows: int, goal_dim: int, depth: int, n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(between_kernels, "CHUNK_ROWS", rows)
    config = EnergyConfig(energy_width=16, energy_depth=depth)
    energy = FastBetweenEnergy(goal_dim, config, torch.Generator().manual_seed(1))
    one = np.ones(goal_dim, np.float32)
    zero = np.zeros(goal_dim, np.float32)
    energy.fit_scale(InputScales(zero, one, zero + 0.3, 2.0 * one, 0.1 * one))
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(n, k + 1, goal_dim)).astype(np.float32))
    condition = torch.from_numpy(rng.normal(size=(n, 2 * goal_dim + 1)).astype(np.float32))
    assert energy._pass is not None
    # Twice: gradients of the last batch must not be left in it.
    with torch.no_grad():
        for some in (points + 1.0, points):
            energies, losses = energy._pass.gradients(some, condition)

    double = copy.deepcopy(energy.model).double()
    wanted = double(points.double(), condition.double()[:, None])
    loss, _ = info_nce(wanted[:, 0], wanted[:, 1:])
    torch.testing.assert_close(energies.double(), wanted.detach(), rtol=1e-3, atol=1e-4)
    assert float(losses.mean()) == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-5)
    slopes = torch.autograd.grad(loss, list(double.parameters()))
    largest = max(float(slope.abs().max()) for slope in slopes)
    for parameter, slope in zip(energy.model.parameters(), slopes, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad.double(), slope, rtol=1e-3, atol=1e-4 * largest + 1e-7
        )


def test_many_steps_are_those_of_the_plain_energy() -> None:
    plain, fast = make(BetweenEnergy), make(FastBetweenEnergy)
    rng = np.random.default_rng(0)
    for i in range(30):
        triplets, negatives = batch(rng, n=12 if i % 7 else 9)
        wanted, got = plain.update(triplets, negatives), fast.update(triplets, negatives)
        assert got == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    # All but the last bias: it is the same for all points, its gradient nothing but rounding.
    moved = [
        torch.cat([p.detach().flatten() for p in [*e.model.parameters()][:-1]])
        for e in (plain, fast, make(BetweenEnergy))
    ]
    assert (moved[0] - moved[1]).abs().max() < 0.01 * (moved[0] - moved[2]).abs().max()


def test_what_diverges_says_so() -> None:
    energy = make(FastBetweenEnergy)
    triplets, negatives = batch(np.random.default_rng(0))
    with pytest.raises(TrainingDiverged, match="loss of the energy came to nan"):
        energy.update(triplets, np.full_like(negatives, np.nan))


def test_a_network_of_ones_own_is_trained_by_autograd() -> None:
    class Own(BetweenEnergy):
        def make_network(self, goal_dim: int, generator: torch.Generator) -> nn.Module:
            return _Linear(goal_dim)

    class OwnFast(FastBetweenEnergy):
        make_network = Own.make_network

    triplets, negatives = batch(np.random.default_rng(0))
    config = EnergyConfig()
    rows = [
        kind(2, config, torch.Generator()).update(triplets, negatives) for kind in (Own, OwnFast)
    ]
    assert rows[0] == rows[1]


def test_the_sampler_takes_it_on_the_cpu_unless_it_is_given_another() -> None:
    class Own(BetweenEnergy):
        pass

    class OwnSampler(EBMSampler):
        energy_class = Own

    generator = torch.Generator()
    assert type(EBMSampler(2, EnergyConfig(), generator).energy) is FastBetweenEnergy
    assert type(OwnSampler(2, EnergyConfig(), generator).energy) is Own


class _Linear(nn.Module):
    def __init__(self, goal_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(goal_dim))

    def forward(self, points: Tensor, condition: Tensor) -> Tensor:
        return points @ self.weight
