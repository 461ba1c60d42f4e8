"""Pictures of an agent follow an episode that it acts itself."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np

import hierebm  # noqa: F401
from hierebm.plotting.pictures import draw_agent, record_episode
from hierebm.plotting.plots import plot_rollout
from tests.toys import LineGoal


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
    np.testing.assert_allclose(rollout.goals, [[1, 0]])
    n_steps = len(rollout.trajectory) - 1
    assert rollout.success and rollout.reached_after == n_steps
    assert rollout.outcome == f"Reached the goal in {n_steps} steps"
    assert np.linalg.norm(rollout.trajectory[-1] - [1, 0]) <= 0.3


def test_episode_ends_where_it_ended_not_where_the_next_one_begins():
    class Still:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((1, 2), np.float32), state

    env = gym.make("PointMassGoal-v0")
    rollout = record_episode(Still(), env, seed=0, options=TASK)
    assert rollout.subgoals is None and not rollout.success and rollout.reached_after is None
    assert rollout.outcome == "Did not reach the goal in 100 steps"
    np.testing.assert_allclose(rollout.trajectory, np.tile([-1, 0], (101, 1)))


class Along:
    """Goes on along the line, whatever the goal is."""

    action = 0.1

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((1, 1), self.action, np.float32), state


class FromMinusOne(LineGoal):
    """Starts at -1 with the goal -0.5, goes on for 60 steps; the last goals are given."""

    goals = (-0.5,)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.goal, self.limit = -1.0, self.goals[0], 60
        return self._observe(), {}

    def step(self, action):
        self.goal = self.goals[min(self.t // 20, len(self.goals) - 1)]
        return super().step(action)


def test_the_title_tells_when_the_goal_was_reached_not_when_the_episode_ended():
    class Stays(Along):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            far = observation["desired_goal"] - observation["achieved_goal"]
            return np.clip(far, -0.1, 0.1).astype(np.float32), state

    for agent, ending in ((Stays(), ""), (Along(), " and left it again")):
        rollout = record_episode(agent, FromMinusOne(), seed=0)
        near = np.abs(rollout.trajectory[:, 0] + 0.5) <= 0.1
        first = int(np.flatnonzero(near)[0])
        assert 1 < first < 10 and rollout.reached_after == first
        assert rollout.outcome == f"Reached the goal at step {first} of 60{ending}"


def test_goals_that_change_are_all_drawn():
    class Changing(FromMinusOne):
        goals = (-0.5, 0.0, 0.5)

    rollout = record_episode(Along(), Changing(), seed=0)
    np.testing.assert_allclose(rollout.goals, [[-0.5], [0.0], [0.5]])
    assert rollout.outcome.endswith("of 60; it changed 2 times")
    figure = plot_rollout(rollout.trajectory, rollout.goals, title=rollout.outcome)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "goals before" in labels


def test_one_picture_for_each_episode(tmp_path):
    written = draw_agent(Agent(), "PointMassGoal-v0", {"layout": "u"}, tmp_path, 2, seed=0)
    assert [path.name for path in written] == ["episode_0.png", "episode_1.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
