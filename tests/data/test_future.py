"""Goals of the future, and a data set on its way into the replay buffer."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.data import OfflineDataset, checks, future_goals
from hierebm.replay import EpisodeReplay, sample_transitions


def _numbered(lengths: list[int]) -> OfflineDataset:
    """The achieved goal is the number of the row."""
    n = sum(lengths)
    ends = np.zeros(n)
    ends[np.cumsum(lengths) - 1] = 1
    number = np.arange(n, dtype=np.float32)[:, None]
    return OfflineDataset.from_arrays(number, number / n, ends, goal=(0,))


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_goals_are_later_states_of_the_same_episode(lengths: list[int], seed: int) -> None:
    data = _numbered(lengths)
    goals = future_goals(data, np.random.default_rng(seed))
    assert goals.shape == data.achieved_goal.shape and goals.dtype == np.float32
    rows = np.arange(sum(lengths))
    last = np.repeat(np.cumsum(lengths) - 1, lengths)
    assert ((goals[:, 0] > rows) | (rows == last)).all()
    assert (goals[:, 0] <= last).all()
    assert np.array_equal(goals[last, 0], last), "a last state has its own"
    with mock.patch.object(checks, "AT_ONCE", 7):
        in_pieces = future_goals(data, np.random.default_rng(seed))
    assert np.array_equal(goals, in_pieces)


def test_all_later_states_are_drawn_equally_often() -> None:
    data = _numbered([6] * 20_000)
    ahead = future_goals(data, np.random.default_rng(0))[::6, 0] - np.arange(0, 120_000, 6)
    share = np.bincount(ahead.astype(int), minlength=6) / 20_000
    assert share[0] == 0.0
    assert np.allclose(share[1:], 0.2, atol=0.01)


def test_the_replay_buffer_gives_transitions_of_the_data() -> None:
    data = _numbered([20, 30, 2, 50])
    rng = np.random.default_rng(0)
    replay = EpisodeReplay(200, 1, 1, 1)
    goals = future_goals(data, rng)
    replay.add_episodes(data.observation, data.achieved_goal, goals, data.action, data.episode_end)
    assert replay.n_transitions == data.n_transitions
    batch = sample_transitions(replay, 500, lambda a, g: a[:, 0] == g[:, 0], rng)
    now = batch.observation[:, 0]
    assert np.array_equal(batch.next_observation[:, 0], now + 1)
    assert np.array_equal(batch.action, data.action[now.astype(int)])
    chased = batch.goal[325:, 0]
    assert np.array_equal(chased, goals[now[325:].astype(int), 0]), "the share of chased goals"
    assert not batch.failure.any()
