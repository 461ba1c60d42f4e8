"""A packed ring of episodes: one row per state, no copy of the next state, no scan to sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.at_once import set_at_once
from hierebm.replay.saved import DATA, DIGEST_BYTES, ROWS, TIMES, check_arrays, n_written
from hierebm.replay.stored import ROWS_AT_ONCE, StoredEpisodes, StoredStep
from hierebm.types import BoolArray, FloatArray, IntArray

__all__ = ["EpisodeReplay", "StoredStep"]

# Steps that are stored together, unless it is asked for before: many at once cost a fraction each.
STORED_AT_ONCE = 128


class EpisodeReplay:
    """Ring buffer of episodes, one column per environment.

    A row is a state: ``observation``, ``achieved_goal``, and, unless it is the last state of its
    episode, the ``action`` taken there and the ``goal`` that the low level was chasing. The next
    state of a row is the row after it, so nothing is stored twice. Rows are addressed by a flat
    index ``slot * n_envs + env``.

    A float32 row costs ``4 * (obs_dim + 2 * goal_dim + action_dim + 1) + 10`` bytes.

    Args:
        capacity: number of rows over all environments; the oldest rows are overwritten.
        obs_dim, goal_dim, action_dim: lengths of the flat vectors.
        n_envs: number of environments that write side by side.

    Raises:
        ValueError: no environment, or a ``capacity`` of fewer than three rows for each of them.
    """

    def __init__(
        self, capacity: int, obs_dim: int, goal_dim: int, action_dim: int, n_envs: int = 1
    ) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1, got {n_envs}")
        self.n_slots = capacity // n_envs
        if self.n_slots < 3:
            raise ValueError(
                f"buffer_size={capacity} leaves {self.n_slots} rows for each of {n_envs} "
                "environments; it must hold at least three rows each"
            )
        self.n_envs = n_envs
        rows = self.n_slots * n_envs
        # The numbers of a row lie side by side: a random row of a large buffer is then one access
        # to main memory, not five. What the state itself brings comes first.
        widths = (obs_dim, goal_dim, 1, goal_dim, action_dim)
        self._packed = np.zeros((rows, sum(widths)), np.float32)
        self._state_width = sum(widths[:3])
        observation, achieved_goal, arc_length, goal, action = np.split(
            self._packed, np.cumsum(widths)[:-1], axis=1
        )
        self.observation, self.achieved_goal = observation, achieved_goal
        self.goal, self.action = goal, action
        # Path length travelled in goal space since the episode began.
        self.arc_length = arc_length[:, 0]
        self.has_action = np.zeros(rows, np.bool_)
        # A failure that ends the world for every goal, as opposed to a goal that was reached.
        self.failure = np.zeros(rows, np.bool_)
        # Absolute time of the last state of the row's episode; -1 while the episode runs.
        self.episode_end = np.full(rows, -1, np.int64)
        # Absolute (never wrapping) time of each environment's newest state and of its episode.
        self.time = np.zeros(n_envs, np.int64)
        self.episode_start = np.zeros(n_envs, np.int64)
        # Transitions that were ever added, those overwritten since among them.
        self.n_added = 0
        self._pending: list[StoredStep] = []
        # Of data sets that were stored: their digests, and each environment's time before.
        self.data_digests = np.zeros((0, DIGEST_BYTES), np.uint8)
        self.data_times = np.zeros((0, n_envs), np.int64)

    @property
    def capacity(self) -> int:
        """Number of rows."""
        return self.n_slots * self.n_envs

    @property
    def n_transitions(self) -> int:
        """Number of transitions that can be sampled now."""
        return int(np.count_nonzero(self.has_action))

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays."""
        return sum(array.nbytes for array in [*self.rows().values(), self.time, self.episode_start])

    def append(self, step: StoredStep) -> None:
        """Store one step of all environments at the next :meth:`flush`, or when many have come."""
        n_added = self.n_added + int(np.count_nonzero(step.valid))
        set_at_once(self, _pending=[*self._pending, step], n_added=n_added)
        if len(self._pending) >= STORED_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Store the steps that were appended; until then the arrays lack them."""
        # A step takes a slot, and the end of an episode one more; the next state needs its own.
        most = (self.n_slots - 1) // 2
        while self._pending:
            self._write_block(self._pending[:most], self._pending[most:])

    def add(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        action: FloatArray,
        next_observation: FloatArray,
        next_achieved_goal: FloatArray,
        failure: BoolArray,
        ended: BoolArray,
        valid: BoolArray | None = None,
    ) -> None:
        """Store one step of all environments now; the arguments are those of
        :class:`StoredStep`, ``valid`` everywhere by default.
        """
        before, after = (observation, achieved_goal), (next_observation, next_achieved_goal)
        everywhere = np.ones(self.n_envs, np.bool_) if valid is None else valid
        self.append(StoredStep(*before, goal, action, *after, failure, ended, everywhere))
        self.flush()

    def _write_block(self, steps: list[StoredStep], others: list[StoredStep]) -> None:
        """Store these steps; only the others are pending then.

        What is written before the last line counts for nothing until then. An interrupt in between
        does no harm: the same is written again.
        """
        observation, achieved, goal, action, next_observation, next_achieved, *flags = (
            np.concatenate(parts) for parts in zip(*steps, strict=True)
        )
        failure, ended, valid = (flag.reshape(-1, self.n_envs) for flag in flags)
        ended = ended & valid
        # Where each step's state goes: all arrays are (step, environment), or flat in that order.
        taken = valid.astype(np.int64) + ended
        after = self.time + np.cumsum(taken, axis=0)
        time = after - taken
        row = self._flat(time, np.arange(self.n_envs))
        moved = next_achieved - achieved
        length = np.sqrt(np.add.reduce(moved * moved, axis=-1)).reshape(time.shape)
        arc = self._arcs(self.arc_length[row[0]], length * valid, ended)
        states = np.concatenate([observation, achieved, arc.reshape(-1, 1)], axis=1)
        next_arc = (arc + length).reshape(-1, 1)
        next_states = np.concatenate([next_observation, next_achieved, next_arc], axis=1)

        self._open_episodes(self.later(row[ended], 2))
        # Picking all of them by index would cost as much as writing them.
        stored: Any = slice(None) if np.all(valid) else np.flatnonzero(valid)
        row = row.reshape(-1)[stored]
        next_row = self.later(row, 1)
        self._packed[next_row, : self._state_width] = next_states[stored]
        self._packed[row] = np.concatenate([states, goal, action], axis=1)[stored]
        self.has_action[next_row] = False
        self.has_action[row] = True
        self.failure[row] = failure.reshape(-1)[stored]
        self.episode_end[next_row] = -1
        now, begun = after[-1].copy(), self.episode_start.copy()
        if np.count_nonzero(ended):
            for step, env in np.argwhere(ended).tolist():
                self._close_episode(env, int(time[step, env]) + 1, now, begun)
        set_at_once(self, time=now, episode_start=begun, _pending=others)

    def _arcs(self, arc: FloatArray, length: FloatArray, ended: BoolArray) -> FloatArray:
        """(T, n) path length since its episode began of each step's state, from (n,) of the first.

        Summed step by step, so that it does not depend on how many are stored at once.
        """
        arcs = np.empty((len(length) + 1, self.n_envs), np.float32)
        arcs[0] = arc
        with_ends = set(np.nonzero(ended)[0].tolist())
        for step, (before, moved, after) in enumerate(
            zip(arcs[:-1], length, arcs[1:], strict=True)
        ):
            np.add(before, moved, out=after)
            if step in with_ends:
                after[ended[step]] = 0.0
        return arcs[:-1]

    def add_episodes(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        action: FloatArray,
        episode_end: BoolArray,
    ) -> None:
        """Store whole episodes, N states in time order: what :meth:`add` makes of their steps, bit
        for bit and without failures, at a fraction of a microsecond a row.

        Episodes that are running end first, in all environments. Several environments get a run of
        consecutive episodes each, of about as many rows. What is too much for the buffer overwrites
        the oldest rows. Episodes of one state hold no transition and are left out.

        10 million rows of a point maze (2 numbers for each of state, goal and action) take 460 MB
        in the buffer, and 40 MB more while they are written.

        Args:
            observation: (N, obs_dim)
            achieved_goal: (N, goal_dim)
            goal: (N, goal_dim) what was chased, ignored in the last state of an episode.
            action: (N, action_dim) in [-1, 1], ignored in the last state of an episode.
            episode_end: (N,) the last state of an episode; the last row is one.

        Raises:
            ValueError: shapes disagree with each other or with this buffer, or the last episode
                has no end; nothing was stored.
        """
        episodes = StoredEpisodes(observation, achieved_goal, goal, action, episode_end)
        episodes.check(*(a.shape[1] for a in (self.observation, self.goal, self.action)))
        self.close_episodes()
        now, n_added = self.time.copy(), self.n_added
        for env, run in enumerate(episodes.with_transitions().split(self.n_envs)):
            if len(run.episode_end):
                self._write_episodes(env, run)
                now[env] += len(run.episode_end)
                n_added += int(np.count_nonzero(~run.episode_end))
                self._open_episodes(self._flat(now[[env]], env))
        begun = np.where(now > self.time, now, self.episode_start)
        set_at_once(self, time=now, episode_start=begun, n_added=n_added)

    def _write_episodes(self, env: int, episodes: StoredEpisodes) -> None:
        begun, n = int(self.time[env]), len(episodes.episode_end)
        arc_length, ends = episodes.arc_length(), np.flatnonzero(episodes.episode_end)
        start = 0
        while start < n:
            # Pieces that lie one after the other in the ring, so that no index is needed.
            slot = (begun + start) % self.n_slots
            stop = min(n, start + ROWS_AT_ONCE, start + self.n_slots - slot)
            here = slice(slot * self.n_envs + env, (slot + stop - start) * self.n_envs, self.n_envs)
            there = slice(start, stop)
            has_action = ~episodes.episode_end[there]
            self.observation[here] = episodes.observation[there]
            self.achieved_goal[here] = episodes.achieved_goal[there]
            self.arc_length[here] = arc_length[there]
            self.has_action[here] = has_action
            self.episode_end[here] = begun + ends[np.searchsorted(ends, np.arange(start, stop))]
            # Where no action was taken, the rest of a row is what it was.
            np.copyto(self.goal[here], episodes.goal[there], where=has_action[:, None])
            np.copyto(self.action[here], episodes.action[there], where=has_action[:, None])
            np.copyto(self.failure[here], False, where=has_action)
            start = stop

    def holds_data(self, digest: bytes) -> bool:
        """Whether a data set was stored, and nothing of it was overwritten since."""
        same = (self.data_digests == np.frombuffer(digest, np.uint8)).all(1)
        return bool((self.time - self.data_times[same] < self.n_slots).all(1).any())

    def note_data(self, digest: bytes, times: IntArray) -> None:
        """Remember that a data set was stored when :attr:`time` (n_envs,) was ``times``."""
        one = np.frombuffer(digest, np.uint8)[None]
        set_at_once(
            self,
            data_digests=np.concatenate([self.data_digests, one]),
            data_times=np.concatenate([self.data_times, times[None]]),
        )

    def close_episodes(self) -> None:
        """End every running episode here: the environments were reset from outside."""
        self.flush()
        now, begun = self.time.copy(), self.episode_start.copy()
        for env in np.flatnonzero(now > begun).tolist():
            now[env] += 1
            self._open_episodes(self._flat(now[[env]], env))
            self._close_episode(env, int(now[env]) - 1, now, begun)
        set_at_once(self, time=now, episode_start=begun)

    def _close_episode(self, env: int, end: int, now: IntArray, begun: IntArray) -> None:
        """Write down when it ended: the time of its last state.

        Args:
            now, begun: (n_envs,) what the times of the newest states and of the beginnings of their
                episodes will be; the latter is changed.
        """
        first = max(int(begun[env]), int(now[env]) - self.n_slots + 1)
        self.episode_end[self._flat(np.arange(first, end + 1), env)] = end
        begun[env] = end + 1

    def _open_episodes(self, rows: IntArray) -> None:
        """Clear the slots where episodes begin: they may still hold the oldest rows."""
        self.has_action[rows] = False
        self.episode_end[rows] = -1
        self.arc_length[rows] = 0.0

    def _flat(self, time: Any, env: Any) -> Any:
        return (time % self.n_slots) * self.n_envs + env

    # ---------------------------------------------------------------- sampling

    def sample_rows(self, n: int, rng: np.random.Generator) -> IntArray:
        """Draw ``n`` rows that have an action, uniformly with replacement.

        Raises:
            RuntimeError: if nothing was stored yet.
        """
        filled = int(min(self.time.max() + 1, self.n_slots)) * self.n_envs
        rows = rng.integers(filled, size=n)
        for _ in range(64):
            bad = np.flatnonzero(~self.has_action[rows])
            if not bad.size:
                return rows
            rows[bad] = rng.integers(filled, size=bad.size)
        usable = np.flatnonzero(self.has_action)
        if not usable.size:
            raise RuntimeError("the replay buffer holds no transitions yet; collect some first")
        return rng.choice(usable, size=n)

    def newest_rows(self, n: int) -> IntArray:
        """Up to ``n`` rows that have an action, among them all of the newest; oldest first."""
        per_env = min(-(-n // self.n_envs), self.n_slots)
        ago = np.arange(per_env, 0, -1)
        time = self.time - ago[:, None] + 1
        rows = self._flat(time, np.arange(self.n_envs))[time >= 0].reshape(-1)
        result: IntArray = rows[self.has_action[rows]]
        return result

    def steps_left(self, rows: IntArray) -> IntArray:
        """(n,) number of states that follow each row in its episode (at least 1)."""
        slot, env = np.divmod(rows, self.n_envs)
        now = self.time[env]
        # Absolute time of the row: the last time at or before `now` that fell into its slot.
        time = now - (now - slot) % self.n_slots
        end = self.episode_end[rows]
        return np.where(end < 0, now, end) - time

    def transitions(
        self, rows: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Copies of what happened at these rows, gathered row by row.

        Returns:
            observation, achieved_goal, goal, action, next_observation, next_achieved_goal, each
            (n, its length).
        """
        here = self._packed.take(rows, axis=0)
        after = self._packed.take(self.later(rows, np.ones_like(rows)), axis=0)
        o, g = self.observation.shape[1], self.goal.shape[1]
        goal_at = self._state_width
        return (
            here[:, :o],
            here[:, o : o + g],
            here[:, goal_at : goal_at + g],
            here[:, goal_at + g :],
            after[:, :o],
            after[:, o : o + g],
        )

    def later(self, rows: IntArray, steps: IntArray | int) -> IntArray:
        """(n,) the rows ``steps`` states later; keep ``steps <= steps_left(rows)``."""
        return (rows + steps * self.n_envs) % self.capacity

    # ------------------------------------------------------------- persistence

    def rows(self) -> dict[str, NDArray[Any]]:
        """The arrays with an entry for each row, by name."""
        return {name: getattr(self, name) for name in ROWS}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, rows up to the last one that was ever written."""
        n = n_written(self.time, self.n_slots)
        rows = {name: array[:n] for name, array in self.rows().items()}
        return rows | {name: getattr(self, name) for name in (*TIMES, *DATA)}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave, bit for bit, in a buffer that is new.

        Raises:
            ValueError: if an array is missing or has another shape or type, or they contradict one
                another, as where episodes end before they begin; the buffer is what it was.
        """
        arrays = {name: getattr(self, name) for name in DATA} | dict(arrays)
        check_arrays(arrays, self.state_dict(), self.n_slots, self.n_envs)
        for name, mine in self.rows().items():
            mine[: len(arrays[name])] = arrays[name]
        set_at_once(self, **{name: arrays[name].copy() for name in (*TIMES, *DATA)})
        begun = np.flatnonzero(self.time == self.episode_start)
        self._open_episodes(self._flat(self.time[begun], begun))
