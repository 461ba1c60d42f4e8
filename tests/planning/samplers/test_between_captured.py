"""The energy's gradient step that a GPU replays, run eagerly: it is the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierebm.errors import TrainingDiverged
from hierebm.planning.samplers import EnergyConfig
from hierebm.planning.samplers.between_captured import LOOK_EVERY, CapturedBetweenEnergy
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.replay import BetweenTriplets
from tests.device_rules import GraphRules
from tests.planning.world import SCALES

CONFIG = EnergyConfig(energy_width=16, energy_lr=3e-3)


def make(kind: type[BetweenEnergy]) -> BetweenEnergy:
    energy = kind(2, CONFIG, torch.Generator().manual_seed(0))
    energy.fit_scale(SCALES)
    return energy


def batch(rng: np.random.Generator, n: int = 12, k: int = 5) -> tuple[BetweenTriplets, np.ndarray]:
    start, goal, between = rng.normal(size=(3, n, 2)).astype(np.float32)
    negatives = rng.normal(size=(n, k, 2)).astype(np.float32)
    return BetweenTriplets(start, goal, between, rng.random(n) < 0.5), negatives


def test_many_steps_are_those_of_the_plain_energy() -> None:
    plain, captured = make(BetweenEnergy), make(CapturedBetweenEnergy)
    rng, told, seen = np.random.default_rng(0), [], []
    for i in range(LOOK_EVERY + 10):
        triplets, negatives = batch(rng, k=5 if i % 7 else 6)
        told.append(plain.update(triplets, negatives))
        if metrics := captured.update(triplets, negatives):
            seen.append(metrics)
    seen.append(captured.look())
    assert captured.look() == {}
    for some, mean in zip((told[:LOOK_EVERY], told[LOOK_EVERY:]), seen, strict=True):
        for name, value in mean.items():
            assert value == pytest.approx(np.mean([m[name] for m in some]), rel=1e-3, abs=1e-3)
    moved = [
        # All but the last bias: it is the same for all points, its gradient nothing but rounding.
        torch.cat([p.detach().flatten() for p in [*e.model.parameters()][:-1]])
        for e in (plain, captured, make(BetweenEnergy))
    ]
    assert (moved[0] - moved[1]).abs().max() < 0.01 * (moved[0] - moved[2]).abs().max()


def test_what_is_recorded_obeys_the_rules_of_cuda_graphs() -> None:
    captured = make(CapturedBetweenEnergy)
    assert isinstance(captured, CapturedBetweenEnergy)
    captured.update(*batch(np.random.default_rng(0)))
    (_, step), *_ = captured._steps.values()
    with GraphRules() as rules:
        step()
    assert rules.n_calls > 20


def test_nothing_mixes_devices_or_asks_one_for_values() -> None:
    """On a device without values, where both raise."""
    captured = CapturedBetweenEnergy(2, CONFIG, torch.Generator().manual_seed(0), "meta")
    # It has no rule for that device.
    captured.optimizer._descend_ = lambda flat, grad, *_, **__: flat.sub_(grad)
    assert captured.update(*batch(np.random.default_rng(0))) == {}


def test_an_energy_that_is_lost_is_named_with_the_step() -> None:
    captured, rng = make(CapturedBetweenEnergy), np.random.default_rng(0)
    captured.update(*batch(rng))
    captured.optimizer.lr = 1e20
    for _ in range(5):
        captured.update(*batch(rng))
    with pytest.raises(TrainingDiverged, match=r"the weights of the energy .* update 2, .*1e\+20"):
        captured.state_dict()
