"""Goals and observations of several parts, and further keys of observations."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeAwareObservation

from hierebm import DDPGHERAgent
from hierebm.goal_env.wrappers import FlattenGoalEnv

TINY = {"seed": 0, "hidden_sizes": (8, 8), "batch_size": 8, "learning_starts": 50, "train_freq": 8}


class TwoTasks(gym.Env):
    """Two lines, a point on each: both have to be at their goals; pays one for each that is."""

    def __init__(self):
        goal = spaces.Dict(left=spaces.Box(-1, 1, (1,)), right=spaces.Box(-1, 1, (1,)))
        seen = spaces.Dict(where=spaces.Box(-1, 1, (2,)), side=spaces.Discrete(2))
        self.observation_space = spaces.Dict(
            observation=seen, achieved_goal=goal, desired_goal=goal
        )
        self.action_space = spaces.Box(-1, 1, (2,))

    def compute_reward(self, achieved, desired, info):
        return float(sum(abs(achieved[k] - desired[k])[0] < 0.2 for k in ("left", "right")))

    def _seen(self):
        left, right = self.at
        return {
            "observation": {"where": self.at.astype(np.float32), "side": int(left > right)},
            "achieved_goal": self._goal(self.at),
            "desired_goal": self._goal(self.goal),
        }

    def _goal(self, at):
        return {k: at[i : i + 1].astype(np.float32) for i, k in enumerate(("left", "right"))}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self._seen(), {}

    def step(self, action):
        self.at = np.clip(self.at + 0.2 * action, -1, 1)
        seen = self._seen()
        return (
            seen,
            self.compute_reward(seen["achieved_goal"], seen["desired_goal"], {}),
            False,
            False,
            {},
        )


def test_goals_of_parts_are_reached_where_all_parts_are():
    env = FlattenGoalEnv(gym.wrappers.TimeLimit(TwoTasks(), 20))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert {k: v.shape for k, v in observation.items()} == {
        "observation": (4,), "achieved_goal": (2,), "desired_goal": (2,),
    }  # fmt: skip
    goal = np.array([0.5, -0.5], np.float32)
    assert env.compute_reward(goal, goal, {}) == 0.0
    assert env.compute_reward(goal + np.array([0.0, 0.3], np.float32), goal, {}) == -1.0
    rows = np.array([[0.5, -0.5], [0.5, 0.5], [0.6, -0.6]], np.float32)
    assert env.compute_reward(rows, np.tile(goal, (3, 1)), [{}] * 3).tolist() == [0.0, -1.0, 0.0]

    agent = DDPGHERAgent(**TINY).learn(env, 100)
    assert agent.spaces.obs_dim == 4 and agent.spaces.goal_dim == 2


def test_without_the_wrapper_the_message_names_it():
    with pytest.raises(TypeError, match=r"FlattenGoalEnv\(env\)"):
        DDPGHERAgent(**TINY).learn(TwoTasks(), 10)


def test_further_keys_are_said_or_joined():
    env = TimeAwareObservation(gym.make("PointMassGoal-v0"), flatten=False)
    with pytest.warns(UserWarning, match=r"do not look at 'time'.*join=\('time',\)"):
        DDPGHERAgent(**TINY).learn(env, 10)
    joined = FlattenGoalEnv(env, join=("time",))
    first, _ = joined.reset(seed=0)
    second, *_ = joined.step(np.zeros(2, np.float32))
    assert first["observation"].shape == (5,)
    assert second["observation"][-1] != first["observation"][-1]
    DDPGHERAgent(**TINY).learn(joined, 100)
    assert gym.make(joined.spec).observation_space == joined.observation_space
    with pytest.raises(ValueError, match="lacks 'nonsense'"):
        FlattenGoalEnv(env, join=("nonsense",))


def test_frankas_kitchen_can_be_learned_in():
    robotics = pytest.importorskip("gymnasium_robotics")
    gym.register_envs(robotics)
    kitchen = gym.make(
        "FrankaKitchen-v1", tasks_to_complete=["microwave", "kettle"],
        remove_task_when_completed=False, max_episode_steps=5,
    )  # fmt: skip
    agent = DDPGHERAgent(**TINY).learn(FlattenGoalEnv(kitchen), 10)
    assert agent.spaces.goal_dim == 8 and agent.num_episodes == 2
