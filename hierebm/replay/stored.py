"""What is put into the episode ring: one step of all environments, or whole episodes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from hierebm.types import BoolArray, FloatArray, GoalObservation

# Rows that are worked on together: many enough for speed, few enough to need little memory.
ROWS_AT_ONCE = 1 << 16


class StoredStep(NamedTuple):
    """One step of all n environments."""

    observation: FloatArray
    """(n, obs_dim)"""
    achieved_goal: FloatArray
    """(n, goal_dim)"""
    goal: FloatArray
    """(n, goal_dim) what the low level was given at this step, not the environment's own goal."""
    action: FloatArray
    """(n, action_dim)"""
    next_observation: FloatArray
    """(n, obs_dim)"""
    next_achieved_goal: FloatArray
    """(n, goal_dim)"""
    failure: BoolArray
    """(n,) terminated without any goal being reached."""
    ended: BoolArray
    """(n,) terminated or truncated: the next step is the first of a new episode."""
    valid: BoolArray
    """(n,) False where nothing happened and nothing is stored."""

    @classmethod
    def between(
        cls,
        before: GoalObservation,
        goal: FloatArray,
        action: FloatArray,
        after: GoalObservation,
        failure: BoolArray,
        ended: BoolArray,
        valid: BoolArray,
    ) -> StoredStep:
        """The step that led from one batch of observations to the next."""
        return cls(
            before.observation,
            before.achieved_goal,
            goal,
            action,
            after.observation,
            after.achieved_goal,
            failure,
            ended,
            valid,
        )


class StoredEpisodes(NamedTuple):
    """Whole episodes, one after the other; a row is a state."""

    observation: FloatArray
    """(N, obs_dim)"""
    achieved_goal: FloatArray
    """(N, goal_dim)"""
    goal: FloatArray
    """(N, goal_dim) what was chased; of no meaning in the last state of an episode."""
    action: FloatArray
    """(N, action_dim); of no meaning in the last state of an episode."""
    episode_end: BoolArray
    """(N,) the last state of an episode."""

    def check(self, obs_dim: int, goal_dim: int, action_dim: int) -> None:
        """Raise ValueError where an array has another shape, or the last episode no end."""
        n = len(self.episode_end)
        widths = (obs_dim, goal_dim, goal_dim, action_dim)
        for name, array, width in zip(self._fields[:4], self[:4], widths, strict=True):
            if array.shape != (n, width):
                raise ValueError(
                    f"{name} has the shape {array.shape}, with {n} rows of episode_end this replay "
                    f"buffer takes {(n, width)}"
                )
        if self.episode_end.shape != (n,) or self.episode_end.dtype != np.bool_:
            raise ValueError(
                f"episode_end must be ({n},) bool, got {self.episode_end.shape} "
                f"{self.episode_end.dtype}"
            )
        if n and not self.episode_end[-1]:
            raise ValueError(
                "the last episode has no end: set episode_end[-1] = True, or leave its rows out"
            )

    def with_transitions(self) -> StoredEpisodes:
        """The episodes of more than one state."""
        alone = self.episode_end.copy()
        alone[1:] &= self.episode_end[:-1]
        if not alone.any():
            return self
        return self._rows(~alone)

    def split(self, n: int) -> Iterator[StoredEpisodes]:
        """``n`` runs of consecutive episodes, of about as many rows each; views."""
        after_ends = np.flatnonzero(self.episode_end) + 1
        wanted = len(self.episode_end) * np.arange(1, n) // n
        # The first end at or after the row where a run would have to stop.
        cuts = after_ends[np.searchsorted(after_ends, wanted)] if len(after_ends) else wanted
        for start, stop in pairwise([0, *cuts.tolist(), len(self.episode_end)]):
            yield self._rows(slice(start, stop))

    def _rows(self, index: Any) -> StoredEpisodes:
        return StoredEpisodes(
            self.observation[index],
            self.achieved_goal[index],
            self.goal[index],
            self.action[index],
            self.episode_end[index],
        )

    def arc_length(self) -> FloatArray:
        """(N,) path length in goal space since the episode began, summed step by step."""
        arc = np.zeros(len(self.episode_end), np.float32)
        for start in range(1, len(arc), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(arc))
            # The order of the memory decides in which order squares are summed.
            moved = np.subtract(
                self.achieved_goal[start:stop], self.achieved_goal[start - 1 : stop - 1], order="C"
            )
            arc[start:stop] = np.sqrt(np.add.reduce(moved * moved, axis=-1))
        first = 0
        for end in np.flatnonzero(self.episode_end).tolist():
            arc[first] = 0.0
            np.cumsum(arc[first : end + 1], out=arc[first : end + 1])
            first = end + 1
        return arc
