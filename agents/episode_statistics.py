"""What the log says about episodes: how they went lately."""

from __future__ import annotations

from collections import deque

import numpy as np

from hierebm.goal_env.adapter import StepResult


class EpisodeStatistics:
    """Return, length and success of the last episodes, over all environments.

    Args:
        last: how many episodes are averaged.
    """

    def __init__(self, last: int = 100) -> None:
        self._finished: deque[tuple[float, int, bool]] = deque(maxlen=last)
        # Environment steps of the longest episode that a time limit ended.
        self.time_limit: int | None = None
        self.begin(0)

    def begin(self, n_envs: int) -> None:
        """All environments begin an episode; those that were running do not count."""
        self._reward = np.zeros(n_envs)
        # Lengths are differences: there is nothing to add up on the way.
        self._now, self._began = 0, np.zeros(n_envs, np.int64)

    def count(self, step: StepResult) -> int:
        """Take one step into account; returns how many episodes ended with it."""
        self._now += 1
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
            self._finished.append((float(self._reward[row]), length, bool(step.success[row])))
        self._reward[rows] = 0.0
        self._began[rows] = self._now
        return len(rows)

    def means(self) -> dict[str, float]:
        """By the names of the log; empty before an episode has ended."""
        if not self._finished:
            return {}
        rewards, lengths, successes = zip(*self._finished, strict=True)
        n = len(self._finished)
        return {
            "rollout/ep_rew_mean": sum(rewards) / n,
            "rollout/ep_len_mean": sum(lengths) / n,
            "rollout/success_rate": sum(successes) / n,
        }
