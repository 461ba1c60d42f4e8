"""Episode rings on a device, kept up to date from the host: batches are drawn where they are used.

The host's ring stays the experience: it is what is saved, and what planners ask. The copy costs
about as much memory of the device as the ring takes on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hierebm.nn.capture import sent
from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import IntArray

# Rows that are sent together.
SENT_AT_ONCE = 1 << 17
# Of rows that were never written, behind all others in :attr:`DeviceReplay.rank`.
UNWRITTEN = 2**31 - 1


class DeviceReplay:
    """Copies of the rings of S agents, of equal size, side by side.

    All tensors stay where they are, so that a CUDA graph may read them. Rows are numbered within
    each ring, as on the host; (S, ...) row numbers are of one ring for each of the first index.

    Args:
        replays: the S rings, with equally many rows and environments.
        device: where the copies are.

    Raises:
        ValueError: rings of different sizes.
    """

    def __init__(self, replays: Sequence[EpisodeReplay], device: torch.device | str) -> None:
        self.replays, self.device = list(replays), torch.device(device)
        sizes = {_sizes(replay) for replay in replays}
        if len(sizes) != 1:
            raise ValueError(f"rings side by side must be of one size, got {sorted(sizes)}")
        first, s = self.replays[0], len(replays)
        self.capacity, self.n_envs = first.capacity, first.n_envs
        parts = first.observation, first.achieved_goal, first.goal, first.action
        # Of what a row holds: observation, achieved goal, goal, action, and 1 for a failure.
        self.widths = (*(part.shape[1] for part in parts), 1)
        rows = s * self.capacity
        self.packed = torch.zeros((rows, sum(self.widths)), device=device)
        # Absolute time of a row and of the last state of its episode, -1 while that runs.
        self.times = torch.zeros((rows, 2), dtype=torch.int64, device=device)
        self.has_action = torch.zeros((s, self.capacity), dtype=torch.int32, device=device)
        # Rows up to each one that have an action: the k-th of them is found by bisection.
        self.rank = torch.full_like(self.has_action, UNWRITTEN)
        self.n_usable = torch.zeros((s, 1), dtype=torch.int64, device=device)
        self.now = torch.zeros(s * self.n_envs, dtype=torch.int64, device=device)
        rings = torch.arange(s, device=device)[:, None]
        self._first_row, self._first_env = rings * self.capacity, rings * self.n_envs
        # Of each environment, what was sent last: time of the newest state and of its episode.
        self._sent_time, self._sent_start = np.zeros((2, s, self.n_envs), np.int64)

    # ------------------------------------------------------------------ from the host

    def sync(self) -> None:
        """Send what was stored since the last call; nothing is waited for.

        Raises:
            RuntimeError: nothing was stored yet.
        """
        for s, replay in enumerate(self.replays):
            replay.flush()
            if (replay.time < self._sent_time[s]).any():
                self._forget(s)
            if not replay.n_added:
                raise RuntimeError("the replay buffer holds no transitions yet; collect some first")
            rows, times = self._changed(s)
            for start in range(0, len(rows), SENT_AT_ONCE):
                part = slice(start, start + SENT_AT_ONCE)
                self._send(s, rows[part], times[part])
            if len(rows):
                self._rank(s)
                self._sent_time[s], self._sent_start[s] = replay.time, replay.episode_start

    def _forget(self, s: int) -> None:
        """Begin anew: another experience was loaded."""
        self.has_action[s].zero_()
        self.rank[s].fill_(UNWRITTEN)
        self._sent_time[s] = self._sent_start[s] = 0

    def _changed(self, s: int) -> tuple[IntArray, IntArray]:
        """Rows that are not on the device as they are here, and their times."""
        replay = self.replays[s]
        now, begun = replay.time, replay.episode_start
        sent_time, sent_start = self._sent_time[s], self._sent_start[s]
        if np.array_equal(now, sent_time) and np.array_equal(begun, sent_start):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # Where an episode has ended since, its end is news to all of its rows.
        start = np.where(begun > sent_start, sent_start, sent_time)
        start = np.maximum(start, np.maximum(now - replay.n_slots + 1, 0))
        count = now - start + 1
        env = np.repeat(np.arange(replay.n_envs), count)
        ago = np.arange(len(env)) - np.repeat(np.cumsum(count) - count, count)
        time = start[env] + ago
        return time % replay.n_slots * replay.n_envs + env, time

    def _send(self, s: int, rows: IntArray, times: IntArray) -> None:
        replay = self.replays[s]
        floats = (replay.observation, replay.achieved_goal, replay.goal, replay.action)
        whole = (
            rows + s * self.capacity,
            times,
            replay.episode_end[rows],
            replay.has_action[rows],
        )
        failure = replay.failure[rows, None].astype(np.float32)
        parts = [*(part[rows] for part in floats), failure]
        packed = sent(np.concatenate(parts, axis=1), self.device)
        marks = sent(np.stack(whole, axis=1, dtype=np.int64), self.device)
        index = marks[:, 0].contiguous()
        self.packed.index_copy_(0, index, packed)
        self.times.index_copy_(0, index, marks[:, 1:3])
        self.has_action.view(-1).index_copy_(0, index, marks[:, 3].to(torch.int32))

    def _rank(self, s: int) -> None:
        """Count anew which rows have an action."""
        replay = self.replays[s]
        written = int(min(replay.time.max() + 1, replay.n_slots)) * replay.n_envs
        rank = self.rank[s]
        torch.cumsum(self.has_action[s, :written], 0, dtype=torch.int32, out=rank[:written])
        self.n_usable[s].copy_(rank[written - 1])
        envs = slice(s * self.n_envs, (s + 1) * self.n_envs)
        self.now[envs].copy_(sent(replay.time.copy(), self.device), non_blocking=True)

    # -------------------------------------------------------- on the device, as on the host

    def rows_at(self, u: Tensor) -> Tensor:
        """(S, ...) rows that have an action, one for each float64 number u (S, ...) in [0, 1):
        ``sample_rows``, with the numbers drawn before."""
        shape, u = u.shape, u.flatten(1)
        # Rounding does not make the product n_usable: no float64 lies between it and this u.
        found = torch.searchsorted(self.rank, (u * self.n_usable).to(torch.int32), right=True)
        return found.view(shape)

    def steps_left(self, rows: Tensor) -> Tensor:
        """(S, ...) number of states that follow each row in its episode."""
        time, end = self.times[self._among_all(rows)].unbind(-1)
        env = rows % self.n_envs
        now = self.now[self._shifted(env, self._first_env)]
        return torch.where(end < 0, now, end) - time

    def later(self, rows: Tensor, steps: Tensor | int) -> Tensor:
        """(S, ...) the rows ``steps`` states later; keep ``steps <= steps_left(rows)``."""
        return (rows + steps * self.n_envs) % self.capacity

    def read(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Of (S, ...) rows, observation, achieved goal, goal, action, and 1 for a failure: (S, ...,
        their length) each."""
        return self.packed[self._among_all(rows)].split(self.widths, -1)

    def _among_all(self, rows: Tensor) -> Tensor:
        return self._shifted(rows, self._first_row)

    def _shifted(self, numbers: Tensor, by: Tensor) -> Tensor:
        """(S, ...) numbers within each ring, as numbers among all of them."""
        if len(self.replays) == 1:
            return numbers
        return numbers + by.view(-1, *[1] * (numbers.dim() - 1))


def _sizes(replay: EpisodeReplay) -> tuple[int, ...]:
    parts = replay.observation, replay.goal, replay.action
    return (replay.capacity, replay.n_envs, *(part.shape[1] for part in parts))
