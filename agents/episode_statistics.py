"""What the log says about episodes: how they went lately."""

from __future__ import annotations

from collections import deque

import numpy as np

from hierebm.goal_env.adapter import StepResult
from hierebm.logging.logger import Logger


class EpisodeStatistics:
    """Return, length, success and whether the goal was ever reached, of the last episodes.

    Args:
        last: how many episodes are averaged.
    """

    def __init__(self, last: int = 100) -> None:
        self._finished: deque[tuple[float, int, bool, bool]] = deque(maxlen=last)
        # Environment steps of the longest episode that a time limit ended.
        self.time_limit: int | None = None
        self.begin(0)

    def begin(self, n_envs: int) -> None:
        """All environments begin an episode; those that were running do not count."""
        self._reward, self._reached = np.zeros(n_envs), np.zeros(n_envs, np.bool_)
        # Lengths are differences: there is nothing to add up on the way.
        self._now, self._began = 0, np.zeros(n_envs, np.int64)

    def count(self, step: StepResult) -> int:
        """Take one step into account; returns how many episodes ended with it."""
        self._now += 1
        self._reached |= step.reached
        if step.n_valid == len(self._reward):
            self._reward += step.reward
        else:
            np.add(self._reward, step.reward, out=self._reward, where=step.valid)
            self._began += ~step.valid
        if not np.count_nonzero(step.ended):
            return 0
        rows = np.flatnonzero(step.ended)
        for row in rows.tolist():
            length = self._now - int(self._began[row])
            if step.truncated[row]:
                self.time_limit = max(length, self.time_limit or 0)
            outcome = bool(step.success[row]), bool(self._reached[row])
            self._finished.append((float(self._reward[row]), length, *outcome))
        self._reward[rows], self._reached[rows] = 0.0, False
        self._began[rows] = self._now
        return len(rows)

    def means(self) -> dict[str, float]:
        """By the names of the log; empty before an episode has ended."""
        if not self._finished:
            return {}
        rewards, lengths, successes, reached = zip(*self._finished, strict=True)
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
