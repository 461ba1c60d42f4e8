"""Rows and goals from data that others recorded: rare ground counts, and what lies beside it."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.replay import CoveredGround, EpisodeReplay, sample_transitions

TOLERANCE = np.array([0.5, 1.0], np.float32)


def _reached(achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.square((achieved - goal) / TOLERANCE).sum(-1) <= 1.0


def _replay(points: np.ndarray, n_envs: int = 1) -> EpisodeReplay:
    """Episodes (n, length, 2) of achieved goals; an observation is the number of its state."""
    n, length, _ = points.shape
    # Larger than what is stored: empty rows are never drawn.
    replay = EpisodeReplay(2 * n * length, 1, 2, 1, n_envs)
    seen = np.arange(n * length, dtype=np.float32)[:, None]
    end = np.arange(n * length) % length == length - 1
    flat = points.reshape(-1, 2).astype(np.float32)
    replay.add_episodes(seen, flat, flat + 9.0, np.zeros_like(seen), end)
    return replay


def _rare(n_envs: int = 1) -> EpisodeReplay:
    """99 episodes stay in one cell, one goes through ten others."""
    points = np.full((100, 11, 2), 0.2)
    points[7, 1:, 0] = 0.2 + 0.5 * np.arange(1, 11)
    return _replay(points, n_envs)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_half_of_the_rows_are_even_over_the_ground(n_envs: int) -> None:
    replay, rng = _rare(n_envs), np.random.default_rng(0)
    rows = CoveredGround(replay, TOLERANCE).sample_rows(20_000, rng)
    assert replay.has_action[rows].all()
    visited = replay.achieved_goal[rows, 0] // 0.5
    # The last state of an episode has no action: nine cells of ten, and the common one.
    share = np.array([(visited == cell).mean() for cell in range(11)])
    assert share[1:10] == pytest.approx(0.05, abs=0.01)
    assert share[10] == 0.0
    assert share[0] == pytest.approx(0.55, abs=0.02)
    # Every half of the draws is like the other: no order by cell.
    assert (visited[:10_000] == 0).mean() == pytest.approx(0.55, abs=0.03)


def test_nothing_is_drawn_from_an_empty_buffer() -> None:
    with pytest.raises(RuntimeError, match="no transitions yet"):
        CoveredGround(EpisodeReplay(10, 1, 2, 1, 1), TOLERANCE)


def test_cells_have_the_length_of_the_tolerance_however_far_away() -> None:
    points = np.zeros((2, 5, 2))
    points[0, :, 0] = 1e4 + 0.6 * np.arange(5)
    points[1, :, 1] = -1e4 + 0.6 * np.arange(5)
    replay = _replay(points)
    rows = CoveredGround(replay, TOLERANCE).sample_rows(20_000, np.random.default_rng(0))
    share = np.bincount(replay.observation[rows, 0].astype(int), minlength=9) / 20_000
    # The first axis has a cell for each state, the second, twice as long, one for two states.
    assert share[:4] == pytest.approx(0.5 / 6 + 0.5 / 8, abs=0.01)
    assert share[5:9] == pytest.approx(0.5 / 12 + 0.5 / 8, abs=0.01)


def test_random_goals_come_from_rare_ground_too() -> None:
    replay, rng = _rare(), np.random.default_rng(0)
    covered = CoveredGround(replay, TOLERANCE)
    shares = {"future": 0.0, "random": 1.0}
    batch = sample_transitions(replay, 4000, _reached, rng, **shares, covered=covered)
    assert (batch.goal[:, 0] > 0.6).mean() == pytest.approx(0.45, abs=0.03)
    assert (batch.achieved_goal[:, 0] > 0.5).mean() == pytest.approx(0.45, abs=0.03)
    # Rows are whole.
    np.testing.assert_array_equal(batch.next_observation, batch.observation + 1.0)


def test_goals_around_lie_evenly_in_a_ball_within_the_tolerance() -> None:
    goals = np.tile(np.array([[3.0, -2.0]], np.float32), (20_000, 1))
    everywhere = np.random.default_rng(1).uniform(-5.0, 5.0, (4, 10, 2))
    covered = CoveredGround(_replay(everywhere), TOLERANCE)
    moved = covered.around(goals, np.random.default_rng(0))
    assert moved.dtype == np.float32
    radius = np.linalg.norm((moved - goals) / TOLERANCE, axis=1)
    assert radius.max() <= 0.7701
    # Even over a disc: a quarter lies within half of its radius, as many on each side.
    assert (radius < 0.385).mean() == pytest.approx(0.25, abs=0.02)
    assert (moved > goals).mean(0) == pytest.approx(0.5, abs=0.02)


def test_reached_means_within_a_smaller_radius_while_learning() -> None:
    replay, rng = _rare(), np.random.default_rng(0)
    covered = CoveredGround(replay, TOLERANCE)
    batch = sample_transitions(replay, 4000, _reached, rng, covered=covered)
    apart = np.linalg.norm((batch.next_achieved_goal - batch.goal) / TOLERANCE, axis=1)
    sure = np.abs(apart - 0.85) > 1e-4
    np.testing.assert_array_equal(batch.reached[sure], (apart <= 0.85)[sure])
    assert (apart[:1600] < 1e-6).any(), "goals from the future are states"
    chased = slice(-1000, None)
    beside = batch.goal[chased] - 9.0
    assert (np.abs((beside - batch.achieved_goal[chased]) / TOLERANCE) > 1e-3).any()


def test_without_it_rows_and_goals_come_as_they_did() -> None:
    replay = _rare()
    one, other = (
        sample_transitions(replay, 64, _reached, np.random.default_rng(5), **kwargs)
        for kwargs in ({}, {"covered": None})
    )
    np.testing.assert_array_equal(one.goal, other.goal)
    np.testing.assert_array_equal(one.reached, _reached(one.next_achieved_goal, one.goal))


def test_axes_of_no_length_and_without_end_are_taken() -> None:
    points = np.full((2, 5, 2), 3.0)
    points[0, :, 0] = np.arange(5)
    # The first counts as reached nowhere else, on the second the reward does not look.
    covered = CoveredGround(_replay(points), np.array([0.0, 1e6], np.float32))
    rng = np.random.default_rng(0)
    share = np.bincount(covered.sample_rows(9000, rng), minlength=10)[:10] / 9000
    assert share[:3] == pytest.approx(0.5 / 4 + 0.5 / 8, abs=0.02)
    goals = np.float32([[1.0, 3.0]] * 100)
    np.testing.assert_array_equal(covered.around(goals, rng), goals)
