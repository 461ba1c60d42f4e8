"""Means over the last episodes, whatever the mode in which environments reset."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hierebm.agents.episode_statistics import EpisodeStatistics
from hierebm.goal_env.adapter import GoalEnv
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
    finished: list[tuple[float, int, bool]] = []
    for t in range(75):
        if t == 30:
            # Reset from outside: what was running does not count.
            statistics.begin(env.reset())
            running = [[] for _ in range(n)]
        step = env.step(rng.uniform(-1, 1, (n, 1)).astype(np.float32))
        ends = 0
        for i in np.flatnonzero(step.valid):
            running[i].append(float(step.reward[i]))
            if step.ended[i]:
                finished.append((sum(running[i]), len(running[i]), bool(step.success[i])))
                running[i] = []
                ends += 1
        assert statistics.count(step) == ends
    assert len(finished) > last and {length for _, length, _ in finished} == {20}
    expected = np.mean(np.array(finished[-last:], float), axis=0)
    assert list(statistics.means().values()) == pytest.approx(expected.tolist())
