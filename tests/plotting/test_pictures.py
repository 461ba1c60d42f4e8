"""Pictures of an agent follow an episode that it acts itself."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np

import hierebm  # noqa: F401
from hierebm.plotting.pictures import draw_agent, record_episode


class Agent:
    """Goes to the middle first, then to the goal; its state tells which."""

    half = np.array([0.0, 0.0], np.float32)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        assert episode_start[0] == (state is None)
        goal = observation["desired_goal"][0]
        here = observation["achieved_goal"][0]
        subgoal = self.half if here[0] < 0 else goal
        velocity = observation["observation"][0, 2:]
        action = np.clip(4 * (subgoal - here) - 4 * velocity + 0.2, -1, 1).astype(np.float32)
        return action[None], [SimpleNamespace(subgoal=subgoal)]


TASK = {"start": (-1.0, 0.0), "goal": (1.0, 0.0)}


def test_episode_collects_the_subgoals_that_were_chased():
    rollout = record_episode(Agent(), gym.make("PointMassGoal-v0"), seed=0, options=TASK)
    np.testing.assert_allclose(rollout.trajectory[0], [-1, 0])
    np.testing.assert_allclose(rollout.subgoals, [Agent.half])
    np.testing.assert_allclose(rollout.goal, [1, 0])
    assert rollout.success and rollout.ever_reached
    assert np.linalg.norm(rollout.trajectory[-1] - [1, 0]) <= 0.3


def test_episode_ends_where_it_ended_not_where_the_next_one_begins():
    class Still:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((1, 2), np.float32), state

    env = gym.make("PointMassGoal-v0")
    rollout = record_episode(Still(), env, seed=0, options=TASK)
    assert rollout.subgoals is None and not rollout.success and not rollout.ever_reached
    np.testing.assert_allclose(rollout.trajectory, np.tile([-1, 0], (101, 1)))


def test_one_picture_for_each_episode(tmp_path):
    written = draw_agent(Agent(), "PointMassGoal-v0", {"layout": "u"}, tmp_path, 2, seed=0)
    assert [path.name for path in written] == ["episode_0.png", "episode_1.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
