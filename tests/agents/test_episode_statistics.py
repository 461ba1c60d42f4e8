"""Means over the last episodes, whatever the mode in which environments reset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hierebm.agents.episode_statistics import EpisodeStatistics
from hierebm.goal_env.adapter import GoalEnv
from hierebm.logging.logger import Logger
from tests.toys import LineGoal


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_means_are_those_of_the_last_episodes_counted_by_hand(mode: AutoresetMode) -> None:
    n, last = 3, 4
    env = GoalEnv(SyncVectorEnv([LineGoal for _ in range(n)], autoreset_mode=mode))
    statistics = EpisodeStatistics(last)
    assert statistics.means() == {}
    rng = np.random.default_rng(0)
    statistics.begin(env.reset(seed=0))
    running: list[list[float]] = [[] for _ in range(n)]
    reached: list[list[bool]] = [[] for _ in range(n)]
    finished: list[tuple[float, int, bool, bool]] = []
    for t in range(75):
        if t == 30:
            # Reset from outside: what was running does not count.
            statistics.begin(env.reset())
            running, reached = [[] for _ in range(n)], [[] for _ in range(n)]
        step = env.step(rng.uniform(-1, 1, (n, 1)).astype(np.float32))
        ends = 0
        for i in np.flatnonzero(step.valid):
            running[i].append(float(step.reward[i]))
            reached[i].append(step.reward[i] == 0.0)
            if step.ended[i]:
                success = bool(step.success[i])
                finished.append((sum(running[i]), len(running[i]), success, any(reached[i])))
                running[i], reached[i] = [], []
                ends += 1
        assert statistics.count(step) == ends
    assert len(finished) > last and {length for _, length, *_ in finished} == {20}
    expected = np.mean(np.array(finished[-last:], float), axis=0)
    assert list(statistics.means().values()) == pytest.approx(expected.tolist())
    assert expected[-1] > expected[-2], "some goal was left again, or the two say the same"


def test_the_terminal_shows_the_reached_rate_where_it_is_another_one() -> None:
    def shown(success: bool) -> tuple[float, bool]:
        statistics, table = EpisodeStatistics(), Table()
        env = GoalEnv(LineGoal(limit=2))
        statistics.begin(env.reset(seed=0))
        step = env.step(np.zeros((1, 1), np.float32))
        yes, no = np.array([True]), np.array([False])
        statistics.count(replace(step, reached=yes))
        step = env.step(np.zeros((1, 1), np.float32))
        statistics.count(replace(step, reached=yes if success else no, success=np.array([success])))
        logger = Logger(None, [table])
        statistics.log(logger)
        logger.dump()
        return logger.latest["rollout/reached_rate"], "rollout/reached_rate" in table.values

    assert shown(success=True) == (1.0, False)
    assert shown(success=False) == (1.0, True)


class Table:
    """What the terminal would show."""

    name = "stdout"

    def write(self, values: Mapping[str, Any], step: int) -> None:
        self.values = values

    def close(self) -> None: ...
