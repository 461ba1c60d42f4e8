"""Whole episodes at once are stored as their steps one after the other."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.replay import EpisodeReplay, episodes, stored
from hierebm.replay.stored import StoredEpisodes
from hierebm.types import IntArray

OBS_DIM, ACTION_DIM = 3, 2


def _episodes(lengths: list[int], goal_dim: int, rng: np.random.Generator) -> StoredEpisodes:
    n = sum(lengths)
    end = np.zeros(n, np.bool_)
    end[np.cumsum(lengths, dtype=np.int64) - 1] = True
    observation, achieved_goal, goal, action = (
        rng.normal(size=(n, dim)).astype(np.float32)
        for dim in (OBS_DIM, goal_dim, goal_dim, ACTION_DIM)
    )
    return StoredEpisodes(observation, achieved_goal, goal, action, end)


def _add_step_by_step(replay: EpisodeReplay, env: int, run: StoredEpisodes) -> None:
    valid = np.arange(replay.n_envs) == env
    spread = lambda row: np.repeat(row[None], replay.n_envs, 0)  # noqa: E731
    for i in np.flatnonzero(~run.episode_end).tolist():
        replay.add(
            spread(run.observation[i]),
            spread(run.achieved_goal[i]),
            spread(run.goal[i]),
            spread(run.action[i]),
            spread(run.observation[i + 1]),
            spread(run.achieved_goal[i + 1]),
            failure=np.zeros(replay.n_envs, bool),
            ended=spread(run.episode_end[i + 1]),
            valid=valid,
        )


def _random_steps(replay: EpisodeReplay, n: int, rng: np.random.Generator) -> None:
    goal_dim, n_envs = replay.goal.shape[1], replay.n_envs
    for _ in range(n):
        ended = rng.random(n_envs) < 0.2
        replay.add(
            *(
                rng.normal(size=(n_envs, dim)).astype(np.float32)
                for dim in (OBS_DIM, goal_dim, goal_dim, ACTION_DIM, OBS_DIM, goal_dim)
            ),
            failure=ended & (rng.random(n_envs) < 0.7),
            ended=ended,
            valid=rng.random(n_envs) < 0.8,
        )


def _assert_same(one: EpisodeReplay, other: EpisodeReplay) -> None:
    assert one.n_added == other.n_added
    for name, array in one.state_dict().items():
        theirs = other.state_dict()[name]
        assert array.dtype == theirs.dtype
        assert np.array_equal(array, theirs), name


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), max_size=12),
    n_slots=st.integers(3, 60),
    n_envs=st.integers(1, 3),
    n_before=st.integers(0, 40),
    goal_dim=st.sampled_from([1, 2, 9]),
    at_once=st.sampled_from([1, 5, 1000]),
    by_column=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_buffer_is_that_of_single_steps_bit_for_bit(
    lengths: list[int],
    n_slots: int,
    n_envs: int,
    n_before: int,
    goal_dim: int,
    at_once: int,
    by_column: bool,
    seed: int,
) -> None:
    """Into an empty or a used buffer, with room for all, for some or for less than one episode."""
    rng = np.random.default_rng(seed)
    whole = _episodes(lengths, goal_dim, rng)
    bulk, single = (
        EpisodeReplay(n_slots * n_envs + n_envs - 1, OBS_DIM, goal_dim, ACTION_DIM, n_envs)
        for _ in range(2)
    )
    for replay in (bulk, single):
        _random_steps(replay, n_before, np.random.default_rng(seed))

    given_ = [np.asfortranarray(array) for array in whole] if by_column else whole
    with (
        mock.patch.object(episodes, "ROWS_AT_ONCE", at_once),
        mock.patch.object(stored, "ROWS_AT_ONCE", at_once),
    ):
        bulk.add_episodes(*given_)
    single.close_episodes()
    for env, run in enumerate(whole.with_transitions().split(n_envs)):
        _add_step_by_step(single, env, run)
    _assert_same(bulk, single)

    for replay in (bulk, single):
        _random_steps(replay, 10, np.random.default_rng(seed + 1))
    _assert_same(bulk, single)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), max_size=15), n=st.integers(1, 4))
def test_environments_get_consecutive_episodes_and_about_as_many_rows(
    lengths: list[int], n: int
) -> None:
    whole = _episodes(lengths, 1, np.random.default_rng(0))
    runs = list(whole.split(n))
    assert len(runs) == n
    for array, parts in zip(whole, zip(*runs, strict=True), strict=True):
        assert np.array_equal(np.concatenate(parts), array)
    for run in runs:
        assert not len(run.episode_end) or run.episode_end[-1]
        assert abs(len(run.episode_end) - len(whole.episode_end) / n) < max(lengths, default=1)


def test_rows_and_their_followers_are_those_of_the_episodes() -> None:
    lengths = [4, 1, 7, 2]
    whole = _episodes(lengths, 2, np.random.default_rng(0))
    whole.observation[:, 0] = np.arange(14)
    replay = EpisodeReplay(100, OBS_DIM, 2, ACTION_DIM)
    replay.add_episodes(*whole)
    assert replay.n_transitions == replay.n_added == 10
    rows: IntArray = np.flatnonzero(replay.has_action)
    assert replay.observation[rows, 0].tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10, 12]
    assert replay.steps_left(rows).tolist() == [3, 2, 1, 6, 5, 4, 3, 2, 1, 1]
    assert np.array_equal(
        replay.observation[replay.later(rows, 1), 0], replay.observation[rows, 0] + 1
    )
    moved = np.linalg.norm(np.diff(whole.achieved_goal[5:12], axis=0), axis=1)
    last = replay.later(rows[[3]], 6)
    assert replay.arc_length[last] == pytest.approx(moved.sum(), rel=1e-5)


def test_what_does_not_fit_is_refused_before_anything_is_stored() -> None:
    whole = _episodes([3, 4], 2, np.random.default_rng(0))
    replay = EpisodeReplay(100, OBS_DIM, 2, ACTION_DIM)
    cases = {
        "observation has the shape": {"observation": whole.observation[:, :1]},
        "action has the shape": {"action": whole.action[1:]},
        "goal has the shape": {"goal": whole.goal[:1]},
        "episode_end must be": {"episode_end": whole.episode_end.astype(float)},
        "the last episode has no end": {"episode_end": np.zeros(7, bool)},
    }
    for message, changed in cases.items():
        with pytest.raises(ValueError, match=message):
            replay.add_episodes(*whole._replace(**changed))
    assert replay.n_added == replay.n_transitions == 0 and replay.time[0] == 0
