"""Goals that teach, where the achieved goal moves now and then only."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.replay import EpisodeReplay, sample_transitions
from hierebm.replay.moving import MovingRows

TOLERANCE, LENGTH = 0.25, 11


def _reached(achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.abs(achieved - goal).max(-1) <= TOLERANCE


def _replay(places: list[np.ndarray], capacity: int = 2000, n_envs: int = 1) -> EpisodeReplay:
    """Episodes of a block whose places (LENGTH,) are given; observations count the states."""
    replay = EpisodeReplay(capacity, 1, 1, 1, n_envs)
    for number, place in enumerate(places):
        _add(replay, place, number)
    return replay


def _add(replay: EpisodeReplay, place: np.ndarray, number: int = 0) -> None:
    column = place.astype(np.float32)[:, None]
    end = np.arange(len(place)) == len(place) - 1
    seen = 100.0 * number + np.arange(len(place), dtype=np.float32)[:, None]
    replay.add_episodes(seen, column, np.full_like(column, 9.0), np.zeros_like(column), end)


STILL = np.zeros(LENGTH)
PUSHED = np.where(np.arange(LENGTH) < 6, 0.0, 1.0)


def test_rows_before_the_block_moves_are_found() -> None:
    replay = _replay([STILL, PUSHED, STILL])
    rows = MovingRows(replay, TOLERANCE).rows()
    np.testing.assert_array_equal(replay.observation[rows, 0], 100.0 + np.arange(6))


def test_trembling_is_no_motion() -> None:
    trembling = 0.01 * (np.arange(LENGTH) % 2)
    assert not len(MovingRows(_replay([trembling]), TOLERANCE).rows())


def test_a_block_that_comes_back_has_moved() -> None:
    back = np.where(np.arange(LENGTH) == 5, 1.0, 0.0)
    replay = _replay([back])
    rows = MovingRows(replay, TOLERANCE).rows()
    np.testing.assert_array_equal(replay.observation[rows, 0], np.arange(6))


def test_rows_of_new_episodes_are_found_and_overwritten_ones_are_not() -> None:
    replay = _replay([PUSHED], capacity=15 * LENGTH)
    moving = MovingRows(replay, TOLERANCE)
    assert len(moving.rows()) == 6
    _add(replay, PUSHED, 1)
    assert len(moving.rows()) == 12
    for number in range(2, 40):
        _add(replay, STILL if number > 30 else PUSHED, number)
    seen = replay.observation[moving.rows(), 0]
    assert seen.size and seen.min() >= 2500.0 and seen.max() < 3100.0


@pytest.mark.parametrize("n_envs", [1, 2])
def test_most_goals_teach_though_the_block_seldom_moves(n_envs: int) -> None:
    replay = _replay([STILL] * 60 + [PUSHED] * 2, n_envs=n_envs)
    rng = np.random.default_rng(0)
    shares = {"future": 0.5, "random": 0.2}
    batch = sample_transitions(replay, 1000, _reached, rng, **shares)
    assert _reached(batch.achieved_goal, batch.goal)[:500].mean() > 0.9
    moving = MovingRows(replay, TOLERANCE)
    batch = sample_transitions(replay, 1000, _reached, rng, **shares, moving=moving)
    # Staying is learned, too.
    assert _reached(batch.achieved_goal, batch.goal)[:500].mean() == pytest.approx(0.2, abs=0.01)
    # All rows are whole: the next state is the one that followed, the goal one that was seen.
    np.testing.assert_array_equal(batch.next_observation, batch.observation + 1.0)
    np.testing.assert_array_equal(batch.reached, _reached(batch.next_achieved_goal, batch.goal))
    assert set(np.unique(batch.goal[:700])) == {0.0, 1.0}
    assert set(np.unique(batch.goal[700:])) == {9.0}
    # Those with goals of the other kinds are mostly of episodes in which the block moves.
    assert (batch.observation[500:, 0] >= 6000.0).mean() == pytest.approx(0.6, abs=0.1)


def test_goals_of_replaced_rows_follow_in_their_own_episode() -> None:
    ways = [STILL] * 20 + [np.where(np.arange(LENGTH) < 6, x, x + 1.0) for x in (10.0, 20.0)]
    replay, rng = _replay(ways), np.random.default_rng(0)
    moving = MovingRows(replay, TOLERANCE)
    batch = sample_transitions(replay, 500, _reached, rng, future=1.0, random=0.0, moving=moving)
    changed = ~_reached(batch.achieved_goal, batch.goal)
    assert changed.mean() == pytest.approx(0.8, abs=0.01)
    np.testing.assert_array_equal(batch.goal[changed], batch.achieved_goal[changed] + 1.0)


def test_where_nothing_ever_moved_rows_are_drawn_as_elsewhere() -> None:
    replay = _replay([STILL] * 5)
    moving = MovingRows(replay, TOLERANCE)
    plain, same = (
        sample_transitions(replay, 64, _reached, np.random.default_rng(3), moving=m)
        for m in (None, moving)
    )
    np.testing.assert_array_equal(plain.observation, same.observation)
    np.testing.assert_array_equal(plain.goal, same.goal)
