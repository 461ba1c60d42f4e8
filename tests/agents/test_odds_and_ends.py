"""Environments that are a little unusual: their time limits, maps, rewards and long episodes."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from hierebm import DDPGHERAgent
from hierebm.agents.loop import LOG_FREQ
from hierebm.evaluation import evaluate
from tests.toys import LineGoal

WORLD = "PointMassGoal-v0"
TINY = {"seed": 0, "hidden_sizes": (8, 8), "batch_size": 8, "learning_starts": 50, "train_freq": 50}


@pytest.mark.parametrize("arguments", [{}, {"layout": "u"}, {"time_limit": 7}])
def test_wrappers_find_the_time_limit(arguments):
    env = gym.make(WORLD, **arguments)
    assert env.spec.max_episode_steps == env.unwrapped.time_limit
    timed = gym.wrappers.TimeAwareObservation(env, flatten=False, normalize_time=True)
    assert timed.max_timesteps == env.unwrapped.time_limit
    assert gym.make(env.spec).unwrapped.time_limit == env.unwrapped.time_limit
    assert gym.make(WORLD, max_episode_steps=5).spec.max_episode_steps == 5
    vector = gym.make_vec(WORLD, 2, "vector_entry_point", **arguments)
    assert vector.spec.max_episode_steps == vector.unwrapped.time_limit
    assert gym.spec(WORLD).max_episode_steps is None, "it depends on the layout"


def test_a_saved_agent_is_evaluated_on_another_map(tmp_path):
    agent = DDPGHERAgent(**TINY).learn(gym.make(WORLD), 120)
    agent.save(tmp_path / "agent.zip")
    other = gym.make(WORLD, layout="large", time_limit=20)
    loaded = DDPGHERAgent.load(tmp_path / "agent.zip", env=other)
    assert evaluate(loaded, other, 2, seed=0).n_episodes == 2
    assert loaded.observation_space == agent.observation_space
    # Only where there is experience of the old map, going on with it is doubtful.
    agent.save(tmp_path / "agent.zip", replay_buffer=True)
    with pytest.warns(UserWarning, match=r"other bounds.*replay_buffer=False"):
        DDPGHERAgent.load(tmp_path / "agent.zip", env=other)
    with pytest.raises(ValueError, match="action_space is"):
        loaded.set_env(gym.wrappers.RescaleAction(gym.make(WORLD), np.float32(-2), np.float32(2)))


def test_a_reward_that_needs_its_info_is_told_what_to_do():
    class Needs(LineGoal):
        def compute_reward(self, achieved_goal, desired_goal, info):
            return info["paid"]

    with pytest.raises(ValueError, match=r"looks up 'paid' in its info.*desired_goal alone"):
        DDPGHERAgent(**TINY).learn(Needs(), 10)


def test_long_episodes_leave_rows_in_the_log(tmp_path):
    class Endless(LineGoal):
        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, False, False, info

    DDPGHERAgent(**TINY, tensorboard_log=tmp_path).learn(Endless(), LOG_FREQ + 100)
    rows = (tmp_path / "DDPGHER_1" / "progress.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [LOG_FREQ, LOG_FREQ + 100]


@pytest.mark.parametrize("bound", [3e38, np.inf])
def test_actions_without_real_bounds_are_refused(bound):
    env = LineGoal()
    env.action_space = spaces.Box(-np.float32(bound), np.float32(bound), env.action_space.shape)
    with pytest.raises(ValueError, match="the actor needs finite ones"):
        DDPGHERAgent(**TINY).learn(env, 10)
