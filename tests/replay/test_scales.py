"""Scales of inputs stand on enough data, and the length of a step on the steps that were made."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hierebm  # noqa: F401
from hierebm.envs.layouts import LAYOUTS
from hierebm.goal_env.adapter import GoalEnv
from hierebm.replay import EpisodeReplay
from hierebm.replay.scales import (
    InputScales,
    measure_again,
    measure_scales,
    moved_at_will,
    tell_still_axes,
)

INF = np.inf


def _replay(
    observation: np.ndarray, achieved: np.ndarray | None = None, goal: np.ndarray | None = None
) -> EpisodeReplay:
    """One long episode of (T, dim) states."""
    observation = np.asarray(observation, np.float32)
    n = len(observation)
    achieved = observation if achieved is None else np.asarray(achieved, np.float32)
    goal = achieved[::-1] if goal is None else np.asarray(goal, np.float32)
    replay = EpisodeReplay(n + 3, observation.shape[1], achieved.shape[1], 1)
    false, action = np.zeros(1, bool), np.zeros((1, 1), np.float32)
    for t in range(n - 1):
        here, there = slice(t, t + 1), slice(t + 1, t + 2)
        replay.add(
            observation[here], achieved[here], goal[here], action,
            observation[there], achieved[there], false, false,
        )  # fmt: skip
    return replay


def _measured(replay: EpisodeReplay, *, low: Any = -INF, high: Any = INF) -> InputScales:
    """With the same bounds for observation and goal."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)

    def bounds(key: str) -> Any:
        dim = (replay.observation if key == "observation" else replay.achieved_goal).shape[1]
        with np.errstate(invalid="ignore"):
            middle, half_range = (low + high) / 2, (high - low) / 2
        return tuple(np.full(dim, 1.0, np.float32) * x for x in (middle, half_range))

    return measure_scales(replay, bounds, np.random.default_rng(0))


def _walk(n: int = 3000, dim: int = 2, length: float = 0.1, seed: int = 0) -> np.ndarray:
    """A walk in [-1, 1] whose steps are uniform up to ``length``."""
    rng, at, way = np.random.default_rng(seed), np.zeros(dim), []
    for _ in range(n):
        at = np.clip(at + rng.uniform(-length, length, dim), -1, 1)
        way.append(at)
    return np.array(way)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("steps", [100, 1000])
def test_the_bounds_of_point_mass_are_believed(layout: str, steps: int) -> None:
    env = GoalEnv(gym.make("PointMassGoal-v0", layout=layout))
    observation, rng = env.reset(seed=0), np.random.default_rng(0)
    replay = EpisodeReplay(2000, 4, 2, 2)
    for _ in range(steps):
        action = rng.uniform(-1, 1, (1, 2)).astype(np.float32)
        step = env.step(action)
        o, after = observation, step.next_state
        replay.add(
            o.observation, o.achieved_goal, o.desired_goal, action,
            after.observation, after.achieved_goal, step.failure, step.ended,
        )  # fmt: skip
        observation = step.current
    scales = measure_scales(replay, env.spaces.bounds, np.random.default_rng(0))
    box: Any = env.spaces.observation_space["observation"]
    np.testing.assert_array_equal(scales.observation_shift, (box.high + box.low) / 2)
    np.testing.assert_array_equal(scales.observation_scale, (box.high - box.low) / 2)
    goal: Any = env.spaces.observation_space["desired_goal"]
    np.testing.assert_array_equal(scales.goal_scale, (goal.high - goal.low) / 2)
    # The 95% quantile of the steps, as ever.
    rows = replay.sample_rows(10_000, np.random.default_rng(0))
    moved = np.abs(replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows])
    np.testing.assert_array_equal(scales.step, np.quantile(moved, 0.95, axis=0).astype("f4"))
    again = measure_again(scales, replay, env.spaces.bounds, np.random.default_rng(1))
    assert again is scales


@pytest.mark.parametrize("constant", [0.0, 0.5, 3.0, -2000.0, 1e6])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_constant_entry_has_the_scale_of_its_magnitude(constant: float, noise: float) -> None:
    walk = _walk()
    rng = np.random.default_rng(1)
    entry = constant * (1.0 + noise * np.finfo(np.float32).eps * rng.uniform(-1, 1, (len(walk), 1)))
    scales = _measured(_replay(np.concatenate([walk, entry], 1)))
    want = max(abs(constant), 1.0)
    assert scales.observation_scale[2] == pytest.approx(want, rel=1e-5)
    assert scales.goal_scale[2] == pytest.approx(want, rel=1e-5)
    assert scales.observation_shift[2] == pytest.approx(constant, rel=1e-6)
    np.testing.assert_allclose(scales.observation_scale[:2], 2 * walk.std(0), rtol=0.1)


def test_a_small_variation_on_a_large_offset_is_no_noise() -> None:
    walk = _walk() + 1e4
    scales = _measured(_replay(walk))
    np.testing.assert_allclose(scales.observation_scale, 2 * walk.std(0), rtol=0.1)
    np.testing.assert_allclose(scales.observation_shift, walk.mean(0), rtol=1e-5)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("half_range", "believed"), [(1.0, True), (1.5, True), (100.0, False)])
def test_bounds_are_believed_where_they_are_plausible(
    half_range: float, believed: bool, unit: float
) -> None:
    walk = _walk() * unit
    bounds = half_range * unit
    scales = _measured(_replay(walk), low=-bounds, high=bounds)
    want = np.full(2, bounds) if believed else 2 * walk.std(0)
    np.testing.assert_allclose(scales.observation_scale, want, rtol=0.1)
    np.testing.assert_allclose(scales.goal_scale, want, rtol=0.1)


def test_bounds_are_believed_entry_by_entry() -> None:
    walk = _walk(dim=4)
    high = np.array([1.0, np.inf, np.finfo(np.float32).max, 0.01])
    scales = _measured(_replay(walk), low=-high, high=high)
    assert scales.observation_scale[0] == 1.0
    np.testing.assert_allclose(scales.observation_scale[1:], 2 * walk[:, 1:].std(0), rtol=0.1)


def test_a_step_is_that_of_full_speed_however_large_the_world() -> None:
    rng = np.random.default_rng(0)
    goals = rng.uniform(-50, 50, (5000, 2))
    at = np.cumsum(rng.uniform(-0.2, 0.2, (5000, 2)), 0)
    np.testing.assert_allclose(_measured(_replay(at, goal=goals)).step, 0.19, rtol=0.05)


def test_an_axis_that_moves_now_and_then_has_the_length_of_its_moves() -> None:
    rng, walk = np.random.default_rng(0), _walk(5000)
    moves = np.where(rng.random(5000) < 0.01, rng.uniform(0.01, 0.03, 5000), 0.0)
    trembling = rng.uniform(0, 1e-5, 5000)
    pushed = np.cumsum(moves + trembling)
    step = _measured(_replay(np.concatenate([walk, pushed[:, None]], 1))).step
    np.testing.assert_allclose(step[:2], 0.095, rtol=0.05)
    assert 0.01 <= step[2] <= 0.03


@pytest.mark.parametrize("trembling", [0.0, 1e-6])
def test_an_axis_that_never_moves_has_a_step_that_is_no_zero(trembling: float) -> None:
    walk = _walk()
    still = 0.4 + trembling * np.random.default_rng(0).normal(size=(len(walk), 1))
    goals = np.concatenate([walk, np.random.default_rng(1).uniform(0, 1, (len(walk), 1))], 1)
    scales = _measured(_replay(np.concatenate([walk, still], 1), goal=goals))
    assert scales.step[2] == pytest.approx(0.01 * scales.goal_scale[2])
    assert scales.step[0] == pytest.approx(0.095, rel=0.05)


def _unbounded(replay: EpisodeReplay) -> Any:
    def bounds(key: str) -> Any:
        dim = (replay.observation if key == "observation" else replay.achieved_goal).shape[1]
        return np.full(dim, np.nan, np.float32), np.full(dim, np.inf, np.float32)

    return bounds


def test_scales_that_turned_out_wrong_are_measured_again_and_only_those() -> None:
    early = np.concatenate([_walk(300), np.zeros((300, 1)), 0.01 * _walk(300, 1)], 1)
    later = np.concatenate([_walk(3000), 50 + 5 * _walk(3000, 1), _walk(3000, 1)], 1)
    first = _measured(_replay(early, early[:, :2]))
    replay = _replay(np.concatenate([early, later]), np.concatenate([early, later])[:, :2] * 30)
    again = measure_again(first, replay, _unbounded(replay), np.random.default_rng(0))
    want = 2 * replay.observation[:-3].std(0)
    np.testing.assert_allclose(again.observation_scale[2:], want[2:], rtol=0.1)
    near = want[:2] < 2 * first.observation_scale[:2]
    np.testing.assert_array_equal(
        again.observation_scale[:2][near], first.observation_scale[:2][near]
    )
    assert (again.goal_scale > 10 * first.goal_scale).all()
    np.testing.assert_array_equal(again.goal_shift, first.goal_shift)
    np.testing.assert_array_equal(again.step, first.step)
    assert measure_again(again, replay, _unbounded(replay), np.random.default_rng(5)) is again


def test_a_block_that_trembles_does_not_move_at_will_nor_in_tiny_steps() -> None:
    rng, n = np.random.default_rng(0), 3000
    hand = _walk(n)[:, :1]
    # Pushed in one step of fifty; its height trembles.
    block = np.cumsum(np.where(rng.random((n, 1)) < 0.02, 0.1, 0.0), 0)
    height = 1e-5 * rng.normal(size=(n, 1))
    replay = _replay(np.concatenate([hand, block, height], 1))
    tolerance = np.full(3, 0.2, np.float32)
    assert moved_at_will(replay, tolerance).tolist() == [True, False, False]
    before = _measured(replay)
    assert before.at_will.all() and before.step[2] < 1e-4
    scales = tell_still_axes(before, replay, tolerance)
    assert scales.at_will.tolist() == [True, False, False]
    np.testing.assert_array_equal(scales.step[:2], before.step[:2])
    assert scales.step[2] == pytest.approx(0.02)


@pytest.mark.parametrize("layout", ["four_rooms", "large"])
def test_a_point_among_walls_moves_at_will(layout: str) -> None:
    world = GoalEnv(gym.make("PointMassGoal-v0", layout=layout))
    observation, way = world.reset(seed=0), []
    rng, action = np.random.default_rng(0), np.zeros((1, 2), np.float32)
    for t in range(600):
        if t % 8 == 0:
            action = rng.uniform(-1, 1, (1, 2)).astype(np.float32)
        observation = world.step(action).current
        way.append(observation.achieved_goal[0])
    replay = _replay(np.array(way))
    goal = observation.desired_goal[0]
    tolerance = world.success_tolerance(goal, np.abs(goal) + np.float32(50.0))
    before = _measured(replay)
    scales = tell_still_axes(before, replay, tolerance)
    assert scales.at_will.all()
    np.testing.assert_array_equal(scales.step, before.step)
