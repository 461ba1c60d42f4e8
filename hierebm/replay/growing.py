"""A larger replay buffer with the same experience."""

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
