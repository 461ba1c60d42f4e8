"""How episodes went lately, for the log and for diagnoses."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierebm.at_once import set_at_once
from hierebm.checkpoint.arrays import checked, rows_of
from hierebm.goal_env.adapter import StepResult
from hierebm.logging.logger import Logger
from hierebm.types import BoolArray, FloatArray, GoalObservation

# No sum of rewards is larger.
MOST = 1e30


class FinishedEpisode(NamedTuple):
    """What is remembered of one episode."""

    reward: float
    """Undiscounted sum."""
    length: int
    """Environment steps."""
    success: bool
    """At the last step."""
    reached: bool
    """At any step."""
    failure: bool
    """It ended in a failure terminal."""
    truncated: bool
    """It was ended by the time limit."""
    first: list[FloatArray]
    """Its task: observation (obs_dim,), achieved and desired goal (goal_dim,) at its beginning."""


class EpisodeStatistics:
    """Return, length, success, whether the goal was ever reached, and task of the last episodes.

    Args:
        last: how many episodes are remembered.

    Attributes:
        n_ended, n_successes: episodes, and those among them that succeeded, since the beginning.
    """

    def __init__(self, last: int = 100) -> None:
        self.n_ended = self.n_successes = 0
        self._finished: deque[FinishedEpisode] = deque(maxlen=last)

    def begin(self, first: GoalObservation) -> None:
        """All environments begin an episode here; those that were running do not count."""
        n_envs = len(first.observation)
        self._reward, self._reached = np.zeros(n_envs), np.zeros(n_envs, np.bool_)
        # Lengths are differences: there is nothing to add up on the way.
        self._now, self._began = 0, np.zeros(n_envs, np.int64)
        self._first = [part.copy() for part in first.parts]

    def running(self) -> dict[str, Any]:
        """What :meth:`resume` goes on with in the middle of episodes."""
        return {
            "reward": self._reward,
            "reached": self._reached,
            "lengths": self._now - self._began,
            "first": list(self._first),
        }

    def resume(self, running: Mapping[str, Any], n_envs: int, widths: Sequence[int]) -> None:
        """Go on in the middle of the episodes that :meth:`running` was asked in.

        Args:
            running: what it gave.
            n_envs: number of environments.
            widths: lengths of the parts of an observation.

        Raises:
            ValueError: it is of another number of environments, or damaged.
        """
        self._reward = checked(running, "reward", (n_envs,), low=-MOST, high=MOST)
        self._reached = checked(running, "reached", (n_envs,), "flags")
        self._now, self._began = 0, -checked(running, "lengths", (n_envs,), "whole numbers", low=0)
        self._first = rows_of(running["first"], "first", n_envs, widths)

    def count(self, step: StepResult) -> int:
        """Take one step into account; returns how many episodes ended with it."""
        self._now += 1
        self._reached |= step.reached
        if step.n_valid == len(self._reward):
            self._reward += step.reward
        else:
            np.add(self._reward, step.reward, out=self._reward, where=step.valid)
            self._began += ~step.valid
            self._begin_episodes(~step.valid, step.current)
        if not np.count_nonzero(step.ended):
            return 0
        rows = np.flatnonzero(step.ended)
        for row in rows.tolist():
            episode = FinishedEpisode(
                float(self._reward[row]),
                self._now - int(self._began[row]),
                bool(step.success[row]),
                bool(self._reached[row]),
                bool(step.failure[row]),
                bool(step.truncated[row]) and not step.terminated[row],
                [part[row].copy() for part in self._first],
            )
            self._finished.append(episode)
            set_at_once(
                self, n_ended=self.n_ended + 1, n_successes=self.n_successes + episode.success
            )
        self._reward[rows], self._reached[rows] = 0.0, False
        self._began[rows] = self._now
        # Where the reset is a step of its own, that step says it once more.
        self._begin_episodes(step.ended, step.current)
        return len(rows)

    def _begin_episodes(self, where: BoolArray, current: GoalObservation) -> None:
        for part, now in zip(self._first, current.parts, strict=True):
            part[where] = now[where]

    @property
    def time_limit(self) -> int | None:
        """Environment steps of the longest episode that a time limit ended; None without any."""
        return max((e.length for e in self._finished if e.truncated), default=None)

    def means(self) -> dict[str, float]:
        """By the names of the log; empty before an episode has ended."""
        if not self._finished:
            return {}
        rewards, lengths, successes, reached, *_ = zip(*self._finished, strict=True)
        n = len(self._finished)
        return {
            "rollout/ep_rew_mean": sum(rewards) / n,
            "rollout/ep_len_mean": sum(lengths) / n,
            "rollout/success_rate": sum(successes) / n,
            "rollout/reached_rate": sum(reached) / n,
        }

    def log(self, logger: Logger) -> None:
        """Record the means; the table on the terminal shows no figure twice."""
        means = self.means()
        logger.record_dict(means)
        reached = means.get("rollout/reached_rate")
        if reached is not None and reached == means["rollout/success_rate"]:
            logger.record("rollout/reached_rate", reached, exclude="stdout")

    @property
    def finished(self) -> list[FinishedEpisode]:
        """The last episodes, oldest first."""
        return list(self._finished)

    def tasks(self) -> GoalObservation | None:
        """First observations of the last episodes, oldest first; None before one has ended."""
        if not self._finished:
            return None
        return GoalObservation(*map(np.stack, zip(*(e.first for e in self._finished), strict=True)))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores the remembered episodes from."""
        arrays = {"totals": np.array([self.n_ended, self.n_successes])}
        if (tasks := self.tasks()) is not None:
            arrays["outcomes"] = np.array([e[:-1] for e in self._finished], np.float64)
            arrays |= dict(zip(_TASK, tasks.parts, strict=True))
        return arrays

    def load_state_dict(
        self, arrays: Mapping[str, NDArray[Any]], obs_dim: int, goal_dim: int
    ) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is of other lengths."""
        totals = checked(arrays, "totals", (2,), "whole numbers", low=0)
        outcomes = np.zeros((0, 6))
        tasks: list[NDArray[Any]] = []
        if "outcomes" in arrays:
            # Returns are sums of rewards.
            outcomes = checked(arrays, "outcomes", (None, 6), low=-MOST, high=MOST)
            n = len(outcomes)
            tasks = [
                checked(arrays, key, (n, width), "floats")
                for key, width in zip(_TASK, (obs_dim, goal_dim, goal_dim), strict=True)
            ]
        self.n_ended, self.n_successes = map(int, totals)
        self._finished.clear()
        for i, (reward, length, *flags) in enumerate(outcomes.tolist()):
            success, reached, failure, truncated = map(bool, flags)
            task = [part[i] for part in tasks]
            self._finished.append(
                FinishedEpisode(reward, int(length), success, reached, failure, truncated, task)
            )


_TASK = ("observation", "achieved_goal", "desired_goal")
