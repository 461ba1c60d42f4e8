"""A packed ring of episodes: one row per state, no copy of the next state, no scan to sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


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
        ValueError: if ``capacity`` leaves fewer than three rows per environment.
    """

    def __init__(
        self, capacity: int, obs_dim: int, goal_dim: int, action_dim: int, n_envs: int = 1
    ) -> None:
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
        self.dead_end = np.zeros(rows, np.bool_)
        # Absolute time of the last state of the row's episode; -1 while the episode runs.
        self.episode_end = np.full(rows, -1, np.int64)
        # Absolute (never wrapping) time of each environment's newest state and of its episode.
        self.time = np.zeros(n_envs, np.int64)
        self.episode_start = np.zeros(n_envs, np.int64)
        self._every_env = np.arange(n_envs)

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
        return sum(array.nbytes for array in self.state_dict().values())

    def add(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        action: FloatArray,
        next_observation: FloatArray,
        next_achieved_goal: FloatArray,
        dead_end: NDArray[np.bool_],
        ended: NDArray[np.bool_],
        envs: IntArray | None = None,
    ) -> None:
        """Store one transition of each environment in ``envs`` (default: all of them).

        Args:
            observation, next_observation: (n, obs_dim).
            achieved_goal, next_achieved_goal, goal: (n, goal_dim); ``goal`` is what the low level
                was given at this step, not the environment's own goal.
            action: (n, action_dim).
            dead_end: (n,) terminated without any goal being reached.
            ended: (n,) terminated or truncated: the next call starts a new episode.
            envs: (n,) distinct environment indices.
        """
        if envs is None:
            row = self._flat(self.time, self._every_env)
            self.time += 1
        else:
            row = self._flat(self.time[envs], envs)
            self.time[envs] += 1
        next_row = self.later(row, 1)
        arc = self.arc_length[row]
        moved = next_achieved_goal - achieved_goal
        next_arc = arc + np.sqrt(np.einsum("ij,ij->i", moved, moved))
        self._packed[row] = np.concatenate(
            [observation, achieved_goal, arc[:, None], goal, action], axis=1
        )
        self._packed[next_row, : self._state_width] = np.concatenate(
            [next_observation, next_achieved_goal, next_arc[:, None]], axis=1
        )
        self.dead_end[row] = dead_end
        self.has_action[row] = True
        self.has_action[next_row] = False
        self.episode_end[next_row] = -1
        if np.count_nonzero(ended):
            for env in self._every_env[ended] if envs is None else envs[ended]:
                self._close_episode(int(env))

    def close_episodes(self) -> None:
        """End every running episode here: the environments were reset from outside."""
        for env in np.flatnonzero(self.time > self.episode_start):
            self._close_episode(int(env))

    def _close_episode(self, env: int) -> None:
        end = self.time[env]
        first = max(self.episode_start[env], end - self.n_slots + 1)
        self.episode_end[self._flat(np.arange(first, end + 1), np.int64(env))] = end
        self.time[env] += 1
        self.episode_start[env] = self.time[env]
        self._open_episode(env)

    def _open_episode(self, env: int) -> None:
        # The slot that the next episode starts in may still hold the oldest row.
        row = self._flat(int(self.time[env]), env)
        self.has_action[row] = False
        self.episode_end[row] = -1
        self.arc_length[row] = 0.0

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

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All arrays by name; :meth:`load_state_dict` restores the buffer bit for bit."""
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray) and not name.startswith("_")
        }

    def load_state_dict(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: if an array is missing or has another shape or type.
        """
        for name, mine in self.state_dict().items():
            if name not in arrays:
                raise ValueError(f"the saved replay buffer has no array {name!r}")
            theirs = arrays[name]
            if theirs.shape != mine.shape or theirs.dtype != mine.dtype:
                raise ValueError(
                    f"replay array {name!r} is {theirs.shape} {theirs.dtype}, this buffer needs "
                    f"{mine.shape} {mine.dtype}: load it into an agent with the same spaces, "
                    "buffer_size and number of environments"
                )
        for name, mine in self.state_dict().items():
            mine[...] = arrays[name]
        for env in np.flatnonzero(self.time == self.episode_start):
            self._open_episode(int(env))
