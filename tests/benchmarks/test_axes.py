"""The benchmark of six axes: its world and its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from benchmarks import axes as benchmark
from benchmarks.axes import Corridors
from tests.toys import SMALL


def test_walls_stop_and_doors_do_not() -> None:
    env = Corridors(far=True)
    check_env(env, skip_render_check=True)
    ahead = np.array([1.0, 0, 0, 0, 0, 0], np.float32)
    for seed in range(20):
        env.reset(seed=seed)
        assert env.point[0] < -1.7 and env.goal[0] > 0.2
        assert not env.in_wall(env.point) and not env.in_wall(env.goal)
    for second, most in ((0.0, -1.7), (0.9, -0.2)):
        env.point = np.array([-2.0, second, 0, 0, 0, 0], np.float32)
        for _ in range(60):
            observation, *_ = env.step(ahead)
        # Beyond the first door is a wall, as the next door is at the other end.
        assert observation["achieved_goal"][0] == pytest.approx(most, abs=0.1)
    rewards = env.compute_reward(np.stack([env.point, env.goal]), env.goal, {})
    assert rewards.tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("method", [benchmark.WITH, benchmark.WITHOUT])
def test_a_row_says_whether_there_was_a_map(method: str, monkeypatch: Any) -> None:
    import hierebm

    monkeypatch.setattr(benchmark, "LIMIT", 20)
    agent = hierebm.HierarchicalEBMAgent
    monkeypatch.setattr(hierebm, "HierarchicalEBMAgent", lambda **k: agent(**{**SMALL, **k}))
    (row,) = benchmark.train(method, seed=0, steps=300, tasks=1)
    assert row["env_steps"] == 300 and 0.0 <= row["success"] <= 1.0
    assert (row["landmarks"] is None) == (method == benchmark.WITHOUT)
