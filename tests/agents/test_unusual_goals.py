"""Goals that move while the episode runs, that are reached at the start, that hardly vary."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.agents.config import DDPGHERConfig
from hierebm.envs import PointMassGoalEnv
from hierebm.evaluation import evaluate
from tests.toys import LIGHT, SMALL, PlaneGoal

FLAT = {k: v for k, v in SMALL.items() if k in DDPGHERConfig.__dataclass_fields__}
AGENTS = [(DDPGHERAgent, FLAT), (HierarchicalEBMAgent, SMALL)]


class MovingGoal(gym.Wrapper[Any, Any, Any, Any]):
    """The goal goes round a circle while the episode runs, a quarter of the agent's top speed.

    It counts as reached as soon as the agent is there; the episode then ends.
    """

    def __init__(self, speed: float = 0.05) -> None:
        super().__init__(PointMassGoalEnv(continuing_task=True))
        self.speed = speed

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        self.angle, self.t = float(self.env.unwrapped.np_random.uniform(0, 2 * np.pi)), 0
        return self.seen(observation), info

    def step(self, action: Any) -> Any:
        observation, *_ = self.env.step(action)
        self.angle, self.t = self.angle + self.speed, self.t + 1
        observation = self.seen(observation)
        reward = self.compute_reward(observation["achieved_goal"], observation["desired_goal"], {})
        success = bool(reward == 0)
        return observation, reward, success, self.t >= 100, {"is_success": success}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return self.env.unwrapped.compute_reward(achieved, desired, info)  # type: ignore

    def seen(self, observation: dict[str, Any]) -> dict[str, Any]:
        goal = np.array([np.cos(self.angle), np.sin(self.angle)], np.float32)
        return {**observation, "desired_goal": goal}


@pytest.mark.slow
def test_a_goal_that_moves_is_caught() -> None:
    agent = HierarchicalEBMAgent(seed=0, train_freq=2, **LIGHT)
    agent.learn(MovingGoal(), total_timesteps=2500)
    assert evaluate(agent, MovingGoal(), 20, seed=1).success_rate >= 0.9


def test_a_goal_that_moves_slowly_does_not_cost_a_plan_at_every_step() -> None:
    agent = HierarchicalEBMAgent(seed=0, **SMALL).learn(MovingGoal(), total_timesteps=700)
    assert agent.high_level is not None
    planner = agent.high_level.planner
    for speed, fewest, most in ((0.01, 1, 12), (0.35, 25, 31)):
        env = MovingGoal(speed)
        observation, _ = env.reset(seed=0)
        state, planned, last = None, 0, None
        for _ in range(30):
            _, state = agent.predict(observation, state)
            assert (state[0].goal == observation["desired_goal"]).all(), "it follows the goal"
            planned += state[0].graph is not last
            last = state[0].graph
            # Where it was, so that nothing but the goal calls for another plan.
            observation = {**observation, **_goal_of(env)}
        assert fewest <= planned <= most
    assert planner.stats.pop() is not None


def _goal_of(env: MovingGoal) -> dict[str, Any]:
    env.angle += env.speed
    return {"desired_goal": env.seen({})["desired_goal"]}


class StartsAtGoal(PlaneGoal):
    """Every other episode starts at its goal."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        self.episodes += 1
        if self.episodes % 2:
            self.goal = self.x.copy()
            observation = self._observe()
        return observation, info


@pytest.mark.parametrize(("agent", "settings"), AGENTS)
def test_episodes_that_start_at_their_goal_are_learned_from(agent: Any, settings: Any) -> None:
    learned = agent(seed=0, **settings).learn(StartsAtGoal(), total_timesteps=900)
    assert learned.num_timesteps == 900
    agent = agent(seed=0, **settings).learn("PointMassGoal-v0", total_timesteps=600)
    result = evaluate(agent, PointMassGoalEnv(start=(0.5, 0.5), goal=(0.5, 0.5)), 5, seed=0)
    assert result.success_rate == 1.0
    assert [episode.length for episode in result.episodes] == [1] * 5, "any step stays there"


def test_at_its_goal_it_stays_whatever_edges_cost() -> None:
    """No path leads from the start to a goal that is reached there, but over nodes elsewhere."""
    agent = HierarchicalEBMAgent(seed=0, **SMALL).learn("PointMassGoal-v0", total_timesteps=600)
    for place in np.random.default_rng(0).uniform(-1.0, 1.0, (5, 2)).tolist():
        env = PointMassGoalEnv(start=place, goal=place, continuing_task=True)
        observation, _ = env.reset(seed=0)
        _, state = agent.predict(observation)
        np.testing.assert_array_equal(state[0].subgoal, observation["desired_goal"])
        assert state[0].arrived


class WithConstantGoal(gym.Wrapper[Any, Any, Any, Any]):
    """One more dimension of the goal, the same in every state and every task."""

    def __init__(self, value: float, bounded: bool) -> None:
        super().__init__(PointMassGoalEnv())
        self.value = np.float32(value)
        bound = abs(value) + 1.0 if bounded else np.inf
        old = self.env.observation_space
        goal = spaces.Box(
            np.append(old["desired_goal"].low, -bound).astype(np.float32),  # type: ignore
            np.append(old["desired_goal"].high, bound).astype(np.float32),  # type: ignore
        )
        self.observation_space = spaces.Dict(
            observation=old["observation"],  # type: ignore[index]
            achieved_goal=goal,
            desired_goal=goal,
        )

    def seen(self, observation: dict[str, Any]) -> dict[str, Any]:
        more = {k: np.append(observation[k], self.value) for k in ("achieved_goal", "desired_goal")}
        return {**observation, **more}

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return self.seen(observation), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return self.seen(observation), *rest

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        distance = np.linalg.norm(np.asarray(achieved) - desired, axis=-1)
        return np.where(distance <= 0.3, 0.0, -1.0)


@pytest.mark.slow
def test_a_constant_dimension_of_the_goal_changes_nothing() -> None:
    env = WithConstantGoal(40.0, bounded=False)
    agent = HierarchicalEBMAgent(seed=0, train_freq=2, **LIGHT)
    agent.learn(env, total_timesteps=2500)
    assert evaluate(agent, env, 20, seed=1).success_rate >= 0.95
    assert agent.high_level is not None
    known = agent.high_level.context.transition_map
    assert known is not None and known.connected_share() > 0.9
    assert not len(known.gates)


def test_the_value_and_the_bounds_of_a_constant_dimension_change_nothing() -> None:
    near, far = (
        HierarchicalEBMAgent(seed=0, **SMALL).learn(WithConstantGoal(*world), total_timesteps=700)
        for world in ((0.0, True), (40.0, False))
    )
    assert near.n_updates == far.n_updates > 20
    actors = (agent.low_level.state_dict()["actor"].values() for agent in (near, far))
    for a, b in zip(*actors, strict=True):
        assert torch.equal(a, b)
    assert near.high_level is not None and far.high_level is not None
    maps = (agent.high_level.context.transition_map for agent in (near, far))
    a, b = (known.landmarks[:, :2] for known in maps)
    assert len(a) > 10
    np.testing.assert_array_equal(a, b)
