"""What an environment returns wrongly is one message: the key, the row, the step, the expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from benchmarks.reliability import faults
from hierebm import DDPGHERAgent
from hierebm.goal_env.adapter import GoalEnv
from hierebm.goal_env.spaces import GoalSpaces
from tests.toys import LineGoal

STEP = 4


class Odd(LineGoal):
    """Returns something else under a key from the fourth step on."""

    def __init__(self, key: str, value: Any) -> None:
        super().__init__()
        self.key, self.value = key, value

    def step(self, action: Any) -> Any:
        observation, reward, *rest, info = super().step(action)
        if self.total_steps >= STEP:
            if self.key == "reward":
                reward = self.value
            elif self.key == "info":
                info = self.value
            elif self.value is KeyError:
                del observation[self.key]
            else:
                observation[self.key] = self.value
        return observation, reward, *rest, info


def _message(env: Any, n: int = 1) -> str:
    goal_env = GoalEnv(env)
    goal_env.reset(seed=0)
    for _ in range(STEP - 1):
        goal_env.step(np.zeros((n, 1), np.float32))
    with pytest.raises(ValueError) as caught:
        goal_env.step(np.zeros((n, 1), np.float32))
    return str(caught.value)


VALUES = [
    (np.zeros(8), "(8,)"),
    (np.zeros((2, 3)), "(2, 3)"),
    (None, "None"),
    ("north", "'north'"),
    ("1.5", "'1.5'"),
    (1e30, "1e+30"),
    (np.array([np.nan]), "nan"),
    (np.array([np.inf]), "inf"),
    (KeyError, "lacks the key"),
]


@pytest.mark.parametrize(("value", "told"), VALUES)
@pytest.mark.parametrize("key", ["achieved_goal", "desired_goal"])
@pytest.mark.parametrize("n", [1, 3])
def test_a_wrong_value_is_named(key: str, value: Any, told: str, n: int) -> None:
    if np.ndim(value) == 0 and isinstance(value, float):
        value = np.array([value])
    env: Any = Odd(key, value)
    if n > 1:
        env = SyncVectorEnv([LineGoal, LineGoal, lambda: Odd(key, value)])
    message = _message(env, n)
    assert repr(key) in message and f"step {STEP}" in message and told in message
    if value is not KeyError:
        assert "(1,)" in message, "what was expected"
    if n > 1:
        assert "row 2" in message


@pytest.mark.parametrize("value", [None, "good", np.nan, np.inf, 1e30, np.zeros(2)])
@pytest.mark.parametrize("n", [1, 3])
def test_a_wrong_reward_is_named(value: Any, n: int) -> None:
    env: Any = Odd("reward", value)
    if n > 1:
        env = SyncVectorEnv([LineGoal, LineGoal, lambda: Odd("reward", value)])
    message = _message(env, n)
    assert "reward" in message and f"step {STEP}" in message and "expected" in message
    if n > 1:
        assert "row 2" in message


def test_a_reset_of_the_old_kind_is_named() -> None:
    class Old(LineGoal):
        def reset(self, **kwargs: Any) -> Any:
            return super().reset(**kwargs)[0]

    with pytest.raises(ValueError, match=r"at its reset a dict by reset, expected observation and"):
        GoalEnv(Old()).reset()


def test_errors_of_the_environment_itself_are_left_alone() -> None:
    class Bug(LineGoal):
        def step(self, action: Any) -> Any:
            return np.zeros(3)[np.zeros(5, bool)]

    for env, n in ((Bug(), 1), (SyncVectorEnv([LineGoal, Bug]), 2)):
        goal_env = GoalEnv(env)
        goal_env.reset(seed=0)
        with pytest.raises(IndexError):
            goal_env.step(np.zeros((n, 1), np.float32))


@pytest.mark.parametrize("value", [np.nan, None, "far", np.inf, 1e30])
@pytest.mark.parametrize("batched", [True, False])
def test_a_compute_reward_that_is_no_number_is_named_with_its_goals(
    value: Any, batched: bool
) -> None:
    class Late(LineGoal):
        broken = False

        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            reward = super().compute_reward(achieved, desired, info)
            if self.broken:
                return [value] * len(reward) if np.ndim(reward) else value
            return reward

    line = Late(batched=batched)
    env = GoalEnv(line)
    points = np.array([[0.0], [0.25]], np.float32)
    env.reached(points, points[::-1])
    line.broken = True
    with pytest.raises(ValueError, match=r"compute_reward.*row 0 of .*\[0\.0\].*\[0\.25\]"):
        env.reached(points, points[::-1])


def test_stacked_goals_say_what_to_do() -> None:
    env = gym.wrappers.FrameStackObservation(gym.make("PointMassGoal-v0"), 4)
    agent = DDPGHERAgent(seed=0)
    with pytest.raises(ValueError, match=r"shape \(4, 2\).*FrameStackObservation.*of its own"):
        agent.learn(env, 100)


def test_dict_goals_say_what_to_do() -> None:
    box = spaces.Box(-1.0, 1.0, (2,))
    nested = spaces.Dict(x=box, y=box)
    observed = spaces.Dict(observation=box, achieved_goal=nested, desired_goal=nested)
    with pytest.raises(TypeError, match=r"'achieved_goal'\] is Dict.*FlattenGoalEnv\(env\)"):
        GoalSpaces(observed, box)


def test_a_seeded_sample_of_faults_loses_nothing(tmp_path: Path) -> None:
    rows = list(faults.measure(24, 1, tmp_path))
    assert sum(row["tried"] for row in rows) == 24
    assert not [row for row in rows if row["losses"]], rows
    assert all(re.fullmatch(r"named, agent intact \d+", row["outcomes"]) for row in rows)


@pytest.mark.parametrize(
    ("key", "value", "told", "shared"),
    [
        ("achieved_goal", np.zeros(8), r"shape \(8,\)", False),
        ("achieved_goal", KeyError, "lacks the key 'achieved_goal'", False),
        ("desired_goal", "north", "'north'", False),
        ("achieved_goal", np.zeros(8), r"broke off in step 4 \(could not broadcast.*\(8,\)", True),
        ("desired_goal", np.array([np.nan]), r"'desired_goal' nan \(row 2\)", True),
        ("reward", "good", r"'good' \(row 2\)", True),
        ("reward", np.zeros(2), r"a reward of the shape \(2,\) \(row 2\)", True),
        ("reward", None, r"reward nan \(row 2\)", True),
        ("info", None, "info", True),
    ],
)
def test_environments_in_other_processes_are_named_by_their_row(
    key: str, value: Any, told: str, shared: bool
) -> None:
    env = AsyncVectorEnv([LineGoal, LineGoal, lambda: Odd(key, value)], shared_memory=shared)
    try:
        message = _message(env, 3)
    finally:
        env.close(terminate=True)
    assert re.search(told, message) and "row 2" in message and f"step {STEP}" in message
