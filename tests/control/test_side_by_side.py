"""Low levels that learn side by side learn what each learns alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.rendezvous import _Stacked
from hierebm.control.side_by_side import SideBySide
from hierebm.replay.device_batches import MOST_AT_ONCE, HostBatches
from hierebm.replay.scales import InputScales
from tests.control.test_ddpg_captured import states_of
from tests.control.test_ddpg_kernels import (
    ACTION_DIM,
    CONFIGS,
    GOAL_DIM,
    OBS_DIM,
    batches,
    parameters,
)
from tests.device_rules import GraphRules

SEEDS, ROWS = 3, 20


def make(name: str, seed: int) -> CapturedDDPG:
    generator = torch.Generator().manual_seed(seed)
    low_level = CapturedDDPG(OBS_DIM, GOAL_DIM, ACTION_DIM, CONFIGS[name], generator)
    ones, some = np.ones(OBS_DIM, np.float32), np.ones(GOAL_DIM, np.float32)
    scale = np.float32(1.0 + 0.1 * seed)
    low_level.fit_scale(InputScales(ones, scale * ones, some, scale * some, scale * some))
    return low_level


def source(seed: int) -> HostBatches:
    given = iter(batches(100, ROWS, seed))
    return HostBatches(lambda: next(given), ROWS, (OBS_DIM, GOAL_DIM, ACTION_DIM), "cpu")


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_each_learns_what_it_learns_alone(name: str, weight: float) -> None:
    alone = [make(name, seed) for seed in range(SEEDS)]
    expected = []
    for seed, low_level in enumerate(alone):
        # Some updates before, of which there are moments.
        low_level.update_from(source(10 + seed), 2)
        low_level.take_metrics()
    together = [make(name, seed) for seed in range(SEEDS)]
    for mine, theirs in zip(together, alone, strict=True):
        mine.load_state_dict(theirs.state_dict())
    start = [parameters(low_level) for low_level in alone]
    seeds = SideBySide(together)
    sources = [source(seed) for seed in range(SEEDS)]
    for low_level, batches_ in zip(alone, sources, strict=True):
        low_level.update_from(batches_, MOST_AT_ONCE + 4, weight)
        expected.append(low_level.take_metrics())
    seeds.learn(_Stacked([source(seed) for seed in range(SEEDS)]), MOST_AT_ONCE + 4, weight)
    for mine, theirs in zip(seeds.take_metrics(), expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    (batch,) = batches(1)
    before = [low_level.policy(*states_of(batch)) for low_level in together]
    seeds.give_back()
    for i, (mine, theirs) in enumerate(zip(together, alone, strict=True)):
        moved = (parameters(theirs) - start[i]).abs().max()
        assert (parameters(mine) - parameters(theirs)).abs().max() < 0.01 * moved
        states = [low_level.state_dict() for low_level in (mine, theirs)]
        for optimizer in ("actor_optimizer", "critic_optimizer"):
            a, b = (state[optimizer] for state in states)
            assert float(a["step"]) == float(b["step"]) == MOST_AT_ONCE + 6
            torch.testing.assert_close(a["exp_avg"], b["exp_avg"], rtol=1e-2, atol=1e-4)
        got = mine.policy(*states_of(batch))
        np.testing.assert_allclose(got, theirs.policy(*states_of(batch)), atol=1e-4)
        assert not np.array_equal(got, before[i])
        assert mine.held_to_data == (weight > 0.0)


def test_what_is_recorded_obeys_the_rules_of_cuda_graphs() -> None:
    seeds = SideBySide([make("categorical", seed) for seed in range(SEEDS)])
    seeds.learn(_Stacked([source(seed) for seed in range(SEEDS)]), 1)
    (work,) = seeds._learner._graphs.values()
    with GraphRules() as rules:
        work()
    one = make("categorical", 0)
    one.update_from(source(0), 1)
    (alone,) = one._learner._graphs.values()
    with GraphRules() as rules_alone:
        alone()
    # But for the batches, which are put together here: as many calls as for one.
    assert abs(rules.n_calls - rules_alone.n_calls) < 50


def test_others_than_equal_ones_are_refused() -> None:
    first, second = make("categorical", 0), make("categorical", 1)
    second.update_from(source(0), 1)
    with pytest.raises(ValueError, match="need the same updates"):
        SideBySide([first, second])
    config = dataclasses.replace(CONFIGS["categorical"], tau=0.5)
    other = CapturedDDPG(OBS_DIM, GOAL_DIM, ACTION_DIM, config, torch.Generator())
    with pytest.raises(ValueError, match="need the same settings"):
        SideBySide([first, other])
