"""What an environment returns wrongly is one message: the key, the row, the step, the expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from benchmarks.reliability import faults
from hierebm import DDPGHERAgent
from hierebm.evaluation import evaluate
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
            elif self.key == "is_success":
                info = {"is_success": self.value}
            elif self.key in ("terminated", "truncated"):
                rest[self.key == "truncated"] = self.value
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


@pytest.mark.parametrize("value", [None, "no", np.nan, 0.5, {}, np.zeros(2, bool)])
@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_an_end_that_is_neither_true_nor_false_is_named(name: str, value: Any) -> None:
    message = _message(Odd(name, value))
    assert name in message and f"step {STEP}" in message and "expected true or false" in message


@pytest.mark.parametrize("value", [True, False, np.True_, 0, 1.0, np.array([True])])
def test_ends_of_any_kind_of_truth_are_taken(value: Any) -> None:
    env = GoalEnv(Odd("truncated", value))
    env.reset(seed=0)
    results = [env.step(np.zeros((1, 1), np.float32)) for _ in range(STEP)]
    assert [bool(r.truncated[0]) for r in results] == [False] * (STEP - 1) + [bool(value)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({2: np.zeros(2, bool)}, "2 values of terminated"),
        ({3: [False, None, False]}, r"None as truncated \(row 1\)"),
        ({4: {"is_success": np.zeros(5, bool)}}, "5 values of 'is_success'"),
        ({4: {"is_success": np.zeros(3), "_is_success": np.zeros(5, bool)}}, "_is_success of the"),
    ],
)
def test_what_a_vector_says_of_all_rows_is_checked(changed: dict[int, Any], told: str) -> None:
    class Wrong(gym.vector.VectorWrapper):
        def step(self, actions: Any) -> Any:
            five = list(super().step(actions))
            for i, value in changed.items():
                five[i] = value
            return tuple(five)

    env = GoalEnv(Wrong(gym.make_vec("PointMassGoal-v0", num_envs=3)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"in step 1 .*{told}.*expected"):
        env.step(np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("value", ["no", np.nan])
def test_a_success_that_is_neither_true_nor_false_is_named(value: Any) -> None:
    assert "'is_success'" in _message(Odd("is_success", value))


class OddAtTheEnd(Odd):
    """The odd observation is the last one of its episode."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated or self.total_steps >= STEP, info


@pytest.mark.parametrize(("value", "told"), [(np.zeros(8), "(8,)"), ("north", "'north'")])
@pytest.mark.parametrize("make", ["gymnasium", "stable_baselines3"])
def test_the_last_observation_before_a_reset_in_the_same_step_is_named(
    make: str, value: Any, told: str
) -> None:
    envs = [LineGoal, lambda: OddAtTheEnd("achieved_goal", value)]
    if make == "gymnasium":
        env: Any = SyncVectorEnv(envs, autoreset_mode=AutoresetMode.SAME_STEP)
    else:
        env = pytest.importorskip("stable_baselines3.common.vec_env").DummyVecEnv(envs)
    message = _message(env, 2)
    for word in ("'achieved_goal'", f"step {STEP}", "row 1", "(1,)", told):
        assert word in message


@pytest.mark.parametrize("value", [None, {}, np.zeros(8), "north"])
def test_rows_of_vectors_of_stable_baselines3_are_named(value: Any) -> None:
    class Whole(Odd):
        def step(self, action: Any) -> Any:
            observation, *rest = super().step(action)
            return observation if self.total_steps < STEP else value, *rest

    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    whole = value is None or isinstance(value, dict)
    odd = Whole("none", None) if whole else Odd("desired_goal", value)
    message = _message(vec_env.DummyVecEnv([LineGoal, lambda: odd]), 2)
    assert f"step {STEP}" in message and "row 1" in message and "desired_goal" in message


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

    class Singular(LineGoal):
        """The error arises in a frame of NumPy's."""

        def step(self, action: Any) -> Any:
            return np.linalg.inv(np.zeros((2, 2)))

    for bug, error in ((Bug, IndexError), (Singular, np.linalg.LinAlgError)):
        for env, n in ((bug(), 1), (SyncVectorEnv([LineGoal, bug]), 2)):
            goal_env = GoalEnv(env)
            goal_env.reset(seed=0)
            with pytest.raises(error):
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
    env.reset(seed=0)
    env.step(np.zeros((1, 1), np.float32))
    line.broken = True
    with pytest.raises(
        ValueError, match=r"compute_reward returned in step 1 .*row 0 of .*\[0\.0\].*\[0\.25\]"
    ):
        env.reached(points, points[::-1])


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("key", ["achieved_goal", "desired_goal"])
@pytest.mark.parametrize("value", [np.zeros(8), None, KeyError])
def test_evaluation_names_what_is_wrong_too(n: int, key: str, value: Any) -> None:
    agent = DDPGHERAgent(env=LineGoal(), seed=0, hidden_sizes=(8, 8))
    env: Any = Odd(key, value)
    if n > 1:
        env = SyncVectorEnv([LineGoal, LineGoal, lambda: Odd(key, value)])
    with pytest.raises(ValueError, match=rf"returned in step {STEP} .*'{key}'"):
        evaluate(agent, env, n)


@pytest.mark.parametrize("key", ["observation", "achieved_goal", "desired_goal"])
def test_predicting_names_the_key_that_is_wrong(key: str) -> None:
    agent = DDPGHERAgent(env=LineGoal(), seed=0, hidden_sizes=(8, 8))
    observation, _ = LineGoal().reset(seed=0)
    for n in (None, 5):
        seen = observation if n is None else {k: np.stack([v] * n) for k, v in observation.items()}
        with pytest.raises(ValueError, match=rf"observation\['{key}'\] has the shape \(7, 3\)"):
            agent.predict({**seen, key: np.zeros((7, 3))})


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
    rows = list(faults.measure(16, 1, tmp_path))
    assert sum(row["tried"] for row in rows) == 16
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
