"""A replay buffer of another size, or for other environments, with the same experience."""

from __future__ import annotations

import numpy as np

from hierebm.replay.episodes import EpisodeReplay


def enlarged(replay: EpisodeReplay, n_more: int) -> EpisodeReplay:
    """A copy of a buffer that takes ``n_more`` more rows for each environment.

    Memory of rows that were not written yet is taken as they are filled.
    """
    replay.flush()
    n = replay.n_envs
    result = EpisodeReplay(
        replay.capacity + n_more * n,
        replay.observation.shape[1],
        replay.goal.shape[1],
        replay.action.shape[1],
        n,
    )
    arrays, copies = replay.rows(), result.rows()
    for env in range(n):
        now = int(replay.time[env])
        time = np.arange(max(0, now - replay.n_slots + 1), now + 1)
        old, new = time % replay.n_slots * n + env, time % result.n_slots * n + env
        for name, array in arrays.items():
            copies[name][new] = array[old]
    result.time[:], result.episode_start[:] = replay.time, replay.episode_start
    result.data_digests, result.data_times = replay.data_digests, replay.data_times
    result.n_added = replay.n_added
    return result


def spread(replay: EpisodeReplay, n_envs: int, capacity: int) -> EpisodeReplay:
    """A copy of a buffer for another number of environments, with all its episodes.

    Each environment gets a run of consecutive ones; those that are running end.

    Args:
        capacity: rows, over all environments, of the result; more where that is too few.
    """
    replay.close_episodes()
    columns = []
    for env in range(replay.n_envs):
        now = int(replay.time[env])
        time = np.arange(max(0, now - replay.n_slots + 1), now + 1)
        columns.append(time % replay.n_slots * replay.n_envs + env)
    rows = np.concatenate(columns)
    moves = replay.has_action[rows]
    # A state without an action is the last of its episode, or a row that waits for the next one.
    lengths = np.diff(np.flatnonzero(~moves), prepend=-1)
    result = EpisodeReplay(
        max(capacity, len(rows) + n_envs * (int(lengths.max()) + 3)),
        replay.observation.shape[1],
        replay.goal.shape[1],
        replay.action.shape[1],
        n_envs,
    )
    result.add_episodes(
        replay.observation[rows],
        replay.achieved_goal[rows],
        replay.goal[rows],
        replay.action[rows],
        ~moves,
    )
    # Transitions keep their order.
    there = np.arange(result.capacity).reshape(-1, n_envs).T.reshape(-1)
    result.failure[there[result.has_action[there]]] = replay.failure[rows[moves]]
    result.data_digests = replay.data_digests
    result.data_times = np.zeros((len(replay.data_digests), n_envs), np.int64)
    result.n_added = replay.n_added
    return result
