"""Figures measured where the answer is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from hierebm.diagnosis import measure
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.replay import EpisodeReplay
from hierebm.replay.scales import InputScales
from hierebm.types import BoolArray, FloatArray

SCALES = InputScales(
    *(np.array(pair, np.float32) for pair in ([0, 0], [10, 10], [0, 0], [10, 10], [0.5, 0.5]))
)


class Config:
    her_future, her_random, her_horizon = 0.4, 0.25, 10.0


def reached(achieved: FloatArray, goal: FloatArray) -> BoolArray:
    return np.asarray(np.linalg.norm(achieved - goal, axis=-1) <= 1.0)


def walks(*paths: FloatArray) -> EpisodeReplay:
    """A buffer with an episode for each path (T, 2) of achieved goals."""
    replay = EpisodeReplay(10_000, 2, 2, 1)
    for path in paths:
        for i, (here, there) in enumerate(pairwise(path)):
            row, after = here[None], there[None]
            ended = np.array([i == len(path) - 2])
            none = np.zeros(1, np.bool_)
            replay.add(row, row, row, np.zeros((1, 1), np.float32), after, after, none, ended)
    return replay


def line(x: FloatArray, y: float = 0.0) -> FloatArray:
    return np.stack([x, np.full_like(x, y)], 1).astype(np.float32)


def to_and_fro(low: float, high: float, y: float = 0.0) -> FloatArray:
    there = np.arange(low, high, 0.5)
    return line(np.concatenate([there, there[::-1], there, there[::-1]]), y)


def mapped(replay: EpisodeReplay) -> TransitionMap:
    result = TransitionMap(SCALES.step)
    result.add(replay, replay.newest_rows(10_000))
    return result


def test_ground_in_two_pieces() -> None:
    one, two = to_and_fro(-9, 0), to_and_fro(-9, 0, y=8.0)
    whole, pieces = (measure.ground(mapped(walks(*p))) for p in ((one,), (one, two)))
    assert whole["connected_ground"] == 1.0
    assert pieces["connected_ground"] == 0.5
    assert pieces["landmarks"] == 2 * whole["landmarks"]
    # One way only: nothing leads back.
    assert measure.ground(mapped(walks(line(np.arange(-9, 9, 0.5)))))["connected_ground"] < 0.2


def test_goals_outside_of_known_ground() -> None:
    replay = walks(to_and_fro(-9, 0))
    goals = np.array([[-5, 0], [-2, 0.9], [5, 0], [-5, 6]], np.float32)
    states = replay.achieved_goal[: replay.n_transitions]
    for known in (mapped(replay), None):
        assert measure.known_goals(goals, states, known, reached, SCALES) == 0.5
    # The map remembers what a small sample of states lacks.
    goals, states = np.array([[-1, 0]], np.float32), np.array([[-9, 0]], np.float32)
    assert measure.known_goals(goals, states, None, reached, SCALES) == 0.0
    assert measure.known_goals(goals, states, mapped(replay), reached, SCALES) == 1.0


def test_an_axis_that_never_moves_and_the_clock_of_the_other() -> None:
    rng = np.random.default_rng(0)
    motion = measure.Motion.of_replay(walks(to_and_fro(-9, 9)), SCALES, rng)
    assert motion.still_axes == (1,)
    assert motion.step[0] == 0.5
    tolerance = np.array([1.5, 1e-3], np.float32)
    clock = measure.clock(SCALES, tolerance, motion)
    assert clock["tolerance_in_steps"] == 3.0
    assert clock["goal_range"] == (20.0, 20.0)
    # Without experience, the step scale says how far a step goes.
    assert measure.clock(SCALES, tolerance, None)["tolerance_in_steps"] == pytest.approx(2e-3)


def test_a_step_shorter_than_the_step_scale_can_tell() -> None:
    slow = line(np.arange(0, 4, 0.01))
    motion = measure.Motion.of_replay(walks(slow), SCALES, np.random.default_rng(0))
    tolerance = np.ones(2, np.float32)
    ratio = measure.clock(SCALES, tolerance, motion)["tolerance_in_steps"]
    assert ratio == pytest.approx(100.0, rel=1e-3)


def test_an_object_that_is_hardly_ever_pushed_teaches_nothing() -> None:
    x = np.zeros(200)
    x[150:] = 0.5
    figures = {}
    for name, path in (("still", line(x)), ("moving", to_and_fro(-9, 9))):
        replay, rng = walks(path), np.random.default_rng(0)
        motion = measure.Motion.of_replay(replay, SCALES, rng)
        figures[name] = measure.experience(replay, motion, reached, Config, rng)
    assert figures["still"]["moving"] < 0.02 and figures["still"]["still_axes"] == (0, 1)
    assert figures["still"]["already_reached"] == 1.0
    assert figures["moving"]["moving"] > 0.95
    assert 0.0 < figures["moving"]["already_reached"] < 0.5


def test_pairs_of_experience_are_as_far_apart_as_they_say() -> None:
    replay = walks(line(np.arange(-9, 9, 0.5)))
    pairs = measure.Pairs.of_replay(replay, reached, np.random.default_rng(0))
    assert len(pairs.goal) > 50 and (pairs.steps == measure.PAIR_STEPS).all()
    np.testing.assert_allclose(pairs.goal - pairs.achieved_goal, [[4.0, 0.0]] * len(pairs.goal))
    # Within the success tolerance there is nothing to predict.
    near = measure.Pairs.of_replay(walks(line(np.arange(0, 4, 0.01))), reached,
                                   np.random.default_rng(0))  # fmt: skip
    assert not len(near.goal)


def test_pairs_of_the_map_are_as_far_apart_as_they_say() -> None:
    replay = walks(to_and_fro(-9, 9))
    known = mapped(replay)
    known.search()
    model: Any = None
    context = PlanningContext(Config, 2, model, reached, torch.Generator(), torch.device("cpu"))
    context.transition_map = known
    # Many states lie within a single step: pairs of those say nothing.
    rows = np.linspace(-9, 8.5, 4000, dtype=np.float32)
    context.pool = NodePool(line(rows), line(rows))
    pairs = measure.Pairs.of_map(context, np.random.default_rng(0))
    assert pairs is not None and len(pairs.goal) == measure.N_PAIRS
    steps = np.abs(pairs.goal - pairs.achieved_goal)[:, 0] / 0.5
    assert np.abs(pairs.steps - measure.PAIR_STEPS).max() <= 2.0
    assert 6.0 < np.median(steps) < 10.0
    context.transition_map = None
    assert measure.Pairs.of_map(context, np.random.default_rng(0)) is None
