"""The update that a GPU replays, run eagerly: it learns what the autograd update learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hierebm.control.config import DDPGConfig
from hierebm.control.ddpg import DistanceDDPG
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.replay import TransitionBatch
from hierebm.replay.device_batches import MOST_AT_ONCE, HostBatches
from hierebm.replay.scales import InputScales
from tests.control.test_ddpg_kernels import (
    ACTION_DIM,
    CONFIGS,
    GOAL_DIM,
    OBS_DIM,
    batches,
    parameters,
)
from tests.device_rules import GraphRules


def states_of(batch: TransitionBatch) -> tuple[np.ndarray, ...]:
    return batch.observation, batch.achieved_goal, batch.goal


def both(config: DDPGConfig) -> tuple[DistanceDDPG, CapturedDDPG]:
    sizes = OBS_DIM, GOAL_DIM, ACTION_DIM, config
    return (
        DistanceDDPG(*sizes, torch.Generator().manual_seed(0)),
        CapturedDDPG(*sizes, torch.Generator().manual_seed(0)),
    )


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("name", CONFIGS)
def test_many_updates_equal_the_reference(name: str, weight: float) -> None:
    reference, captured = both(CONFIGS[name])
    start = parameters(reference)
    assert torch.equal(start, parameters(captured))
    for i, batch in enumerate(batches(15)):
        expected, metrics = (a.update(batch, weight) for a in (reference, captured))
        assert metrics.keys() == expected.keys()
        for key in expected:
            assert metrics[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-4), (i, key)
    moved = (parameters(reference) - start).abs().max()
    assert (parameters(reference) - parameters(captured)).abs().max() < 0.01 * moved


@pytest.mark.parametrize("name", CONFIGS)
def test_one_update_is_exact_to_rounding(name: str) -> None:
    reference, captured = both(CONFIGS[name])
    (batch,) = batches(1)
    assert captured.update(batch) == pytest.approx(reference.update(batch), rel=1e-5, abs=1e-6)
    for network in ("actor", "critics"):
        for p, q in zip(
            getattr(reference, network).parameters(),
            getattr(captured, network).parameters(),
            strict=True,
        ):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 17, 300])
def test_queries_equal_the_reference_for_any_number_of_rows(rows: int) -> None:
    reference, captured = both(CONFIGS["categorical"])
    (batch,) = batches(1, max(rows, 1))
    states = batch.observation[:rows], batch.achieved_goal[:rows], batch.goal[:rows]
    np.testing.assert_allclose(captured.act(*states), reference.act(*states), atol=1e-6)
    for reduce in ("max", "mean", "none"):
        expected, got = (a.distance(*states, reduce=reduce) for a in (reference, captured))
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_recorded_obeys_the_rules_of_cuda_graphs(name: str) -> None:
    _, captured = both(CONFIGS[name])
    (batch,) = batches(1)
    (
        captured.update(batch, 0.5),
        captured.act(*states_of(batch)),
        captured.distance(*states_of(batch)),
    )
    works = [
        *captured._learner._graphs.values(),
        *(q._captured for q in captured._queries.values()),
    ]
    where = [t.data_ptr() for work in works for t in work._changes]
    for work in works:
        with GraphRules() as rules:
            work()
        assert rules.n_calls > 5
    assert [t.data_ptr() for work in works for t in work._changes] == where


@pytest.mark.parametrize("critic", ["categorical", "scalar"])
def test_nothing_mixes_devices_or_asks_one_for_values(critic: str) -> None:
    """On a device without values, where both raise."""
    config = dataclasses.replace(CONFIGS["categorical"], critic=critic)
    generator = torch.Generator().manual_seed(0)
    low_level = CapturedDDPG(OBS_DIM, GOAL_DIM, ACTION_DIM, config, generator, "meta")
    for optimizer in (low_level.actor_optimizer, low_level.critic_optimizer):
        # It has no rule for that device.
        optimizer._descend_ = lambda flat, grad, *_, **__: flat.sub_(grad)
    (batch,) = batches(1)
    size = len(batch.goal)
    source = HostBatches(lambda: batch, size, (OBS_DIM, GOAL_DIM, ACTION_DIM), "meta")
    ones, some = np.ones(OBS_DIM, np.float32), np.ones(GOAL_DIM, np.float32)
    known = InputScales(ones, ones, some, some, some, np.arange(GOAL_DIM) > 0)
    low_level.fit_scale(known)
    low_level.refit_scale(dataclasses.replace(known, goal_scale=3.0 * some))
    low_level.update_from(source, MOST_AT_ONCE + 1, 0.3)
    for what in ("policy", "distance"):
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            getattr(low_level, what)(*states_of(batch))
    with torch.no_grad():
        states = [torch.zeros(5, n, device="meta") for n in (OBS_DIM, GOAL_DIM, GOAL_DIM)]
        assert low_level._actions(*states).shape == (5, ACTION_DIM)
        assert low_level._steps(*states).shape == (5, config.n_critics)


def test_scales_that_change_between_updates_are_taken() -> None:
    reference, captured = both(CONFIGS["categorical"])
    given = batches(4)
    ones, some = np.ones(OBS_DIM, np.float32), np.ones(GOAL_DIM, np.float32)
    known = InputScales(ones, 2.0 * ones, some, 0.5 * some, 0.2 * some, np.arange(GOAL_DIM) > 0)
    for low_level in (reference, captured):
        low_level.update(given[0])
        low_level.fit_scale(known)
        low_level.update(given[1])
        low_level.refit_scale(dataclasses.replace(known, observation_scale=5.0 * ones))
        low_level.update(given[2])
    assert captured.update(given[3]) == pytest.approx(reference.update(given[3]), rel=1e-4)
    start = captured.state_dict()
    _, other = both(CONFIGS["categorical"])
    other.update(given[0])
    other.load_state_dict(start)
    assert other.update(given[2]) == pytest.approx(reference.update(given[2]), rel=1e-3)


def test_a_program_may_set_the_precision_of_products_either_way() -> None:
    _, captured = both(CONFIGS["categorical"])
    (batch,) = batches(1)
    matmul, before = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has one way")
    try:
        for precision in ("tf32", "ieee"):
            matmul.fp32_precision = precision
            captured.update(batch), captured.policy(*states_of(batch))
        torch.set_float32_matmul_precision("high")
        captured.update(batch), captured.policy(*states_of(batch))
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(captured._queries) == 2
