"""A data set of episodes in flat arrays, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hierebm.data.actions import scale_actions
from hierebm.data.checks import as_rows, check_finite, flags, float32
from hierebm.data.goals import GoalOf, achieved_goals_of
from hierebm.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False, repr=False)
class OfflineDataset:
    """Episodes one after the other; a row is a state, in the order of time.

    The next state of a row is the row after it, unless the row is the last state of its episode.
    :meth:`from_arrays` and :meth:`from_dict` make and check one; nothing is checked here.

    N rows of float32 take ``4 * (obs_dim + goal_dim + action_dim) + 1`` bytes each, without
    ``4 * goal_dim`` where the goal is a slice of the observation: 10 million rows of a point maze
    take 170 MB.
    """

    observation: FloatArray
    """(N, obs_dim)"""
    achieved_goal: FloatArray
    """(N, goal_dim)"""
    action: FloatArray
    """(N, action_dim) in [-1, 1]; of no meaning in the last state of an episode."""
    action_low: FloatArray
    """(action_dim,) the action that became -1."""
    action_high: FloatArray
    """(action_dim,) the action that became 1."""
    episode_end: BoolArray
    """(N,) whether the row is the last state of its episode."""

    def digest(self, size: int) -> bytes:
        """So many bytes that tell this data set from any other (BLAKE2)."""
        digest = blake2b(digest_size=size)
        for array in (getattr(self, field.name) for field in fields(self)):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.digest()

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        terminals: ArrayLike,
        *,
        goal: GoalOf | None = None,
        achieved_goals: ArrayLike | None = None,
        action_low: ArrayLike = -1.0,
        action_high: ArrayLike = 1.0,
    ) -> OfflineDataset:
        """Check arrays and make a data set of them; float32 arrays are used without a copy.

        Args:
            observations: (N, obs_dim) states.
            actions: (N, action_dim) the action taken in each state.
            terminals: (N,) 1 at the last state of each episode, else 0. The action there leads
                nowhere and is not looked at.
            goal: what of an observation is the achieved goal: its axes, or a function
                (N, obs_dim) -> (N, goal_dim). Axes at equal distances are a view, no copy.
            achieved_goals: (N, goal_dim), instead of ``goal``.
            action_low, action_high: bounds of the actions, one number or (action_dim,).

        Raises:
            ValueError: arrays that do not fit together, are not finite or out of bounds, no
                episode of two states, a last episode without an end, not one of ``goal`` and
                ``achieved_goals``.
        """
        observation = float32(as_rows("observations", observations))
        n = len(observation)
        end = flags("terminals", terminals, n)
        _check_ends(end)
        check_finite("observations", observation)
        acted = as_rows("actions", actions, n)
        check_finite("actions", acted, where=~end)
        if (goal is None) == (achieved_goals is None):
            raise ValueError(
                "say what the achieved goal is: either goal= (axes of the observation, or a "
                "function of it) or achieved_goals= (an array)"
            )
        if goal is None:
            achieved_goal = float32(as_rows("achieved_goals", achieved_goals, n))
            check_finite("achieved_goals", achieved_goal)
        else:
            achieved_goal = achieved_goals_of(observation, goal)
        return cls(
            observation,
            achieved_goal,
            *scale_actions(acted, ~end, action_low, action_high),
            episode_end=end,
        )

    @classmethod
    def from_dict(
        cls,
        arrays: Mapping[str, Any],
        *,
        goal: GoalOf | None = None,
        action_low: ArrayLike = -1.0,
        action_high: ArrayLike = 1.0,
    ) -> OfflineDataset:
        """A data set of the arrays ``observations``, ``actions`` and ``terminals`` of a dict.

        Args:
            arrays: these three, and any of

                * ``achieved_goals``, used where ``goal`` is None;
                * ``timeouts``, as D4RL has it: an episode ends at a terminal or a timeout. D4RL's
                  rows are transitions, the last state of an episode is missing. Its last row counts
                  as the last state here, and the transition from it is left out;
                * ``valids``, of OGBench's compact form, where ``terminals`` mark two rows an
                  episode: 0 at its last state.

                Others are not looked at.
            goal, action_low, action_high: as in :meth:`from_arrays`.

        Raises:
            ValueError: an array is missing, or as :meth:`from_arrays`.
        """
        for key in ("observations", "actions", "terminals"):
            if key not in arrays:
                raise ValueError(f"the data has no {key!r}, it has {', '.join(map(repr, arrays))}")
        n, ends = len(as_rows("observations", arrays["observations"])), arrays["terminals"]
        if "timeouts" in arrays:
            ends = flags("terminals", ends, n) | flags("timeouts", arrays["timeouts"], n)
        if "valids" in arrays:
            ends = ~flags("valids", arrays["valids"], n)
        return cls.from_arrays(
            arrays["observations"],
            arrays["actions"],
            ends,
            goal=goal,
            achieved_goals=arrays.get("achieved_goals") if goal is None else None,
            action_low=action_low,
            action_high=action_high,
        )

    def __repr__(self) -> str:
        steps = np.diff(np.flatnonzero(self.episode_end), prepend=-1) - 1
        return (
            f"OfflineDataset({self.n_episodes} episodes, {self.n_transitions} transitions, "
            f"{steps.min()} to {steps.max()} steps each; observations of "
            f"{self.observation.shape[1]} numbers, goals of {self.achieved_goal.shape[1]}, actions "
            f"of {self.action.shape[1]})"
        )

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return int(np.count_nonzero(self.episode_end))

    @property
    def n_transitions(self) -> int:
        """Number of transitions: of all rows but the last states."""
        return len(self.episode_end) - self.n_episodes

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays; goals that are a view of the observations count once."""
        arrays = [self.observation, self.action, self.episode_end]
        if not np.shares_memory(self.observation, self.achieved_goal):
            arrays.append(self.achieved_goal)
        return sum(array.nbytes for array in arrays)

    def every(self, k: int) -> OfflineDataset:
        """The same episodes seen at every k-th state, from the first of each.

        The action of a row is the mean of the k actions that led to the next row. What is left of
        an episode after its last full k steps is dropped, and so is an episode of fewer than k
        steps: all steps are of one length, and distances can be counted in them.

        Args:
            k: at least 1, which returns this data set itself.

        Raises:
            TypeError: k is no integer.
            ValueError: k < 1, or no episode has k steps.
        """
        k = index(k)
        if k < 1:
            raise ValueError(f"every({k}): k must be at least 1")
        if k == 1:
            return self
        ends = np.flatnonzero(self.episode_end)
        firsts = np.concatenate([[0], ends[:-1] + 1])
        n_steps = (ends - firsts) // k
        if not n_steps.any():
            raise ValueError(
                f"every({k}) leaves nothing: the longest episode has {int((ends - firsts).max())} "
                "steps; take a smaller k"
            )
        firsts, n_states = firsts[n_steps > 0], n_steps[n_steps > 0] + 1
        rows = _rows_from(firsts, n_states, k)
        end = np.zeros(len(rows), np.bool_)
        end[np.cumsum(n_states) - 1] = True
        begins, action = rows[~end], np.zeros((len(rows), self.action.shape[1]), np.float32)
        total = self.action[begins]
        for i in range(1, k):
            total += self.action[begins + i]
        # Rounding may have carried the mean of equal actions beyond them.
        action[~end] = np.clip(total / np.float32(k), -1.0, 1.0)
        return replace(
            self,
            observation=self.observation[rows],
            achieved_goal=self.achieved_goal[rows],
            action=action,
            episode_end=end,
        )


def _rows_from(firsts: IntArray, counts: IntArray, k: int) -> IntArray:
    """``counts[i]`` rows from ``firsts[i]`` on, k apart, for all i in one array."""
    before = np.cumsum(counts) - counts
    return k * np.arange(counts.sum()) + np.repeat(firsts - k * before, counts)


def _check_ends(ends: BoolArray) -> None:
    if len(ends) and not ends[-1]:
        last = np.flatnonzero(ends)
        cut = f"cut off the rows after row {int(last[-1])}, the last end, or " if last.size else ""
        raise ValueError(
            f"the last row ends no episode (terminals[-1] is 0): {cut}set it to 1 if the state is "
            "the last one of its episode"
        )
    if ends.all():
        raise ValueError(
            "no episode has two states: terminals must be 0 in all states of an episode but the "
            "last one"
        )
