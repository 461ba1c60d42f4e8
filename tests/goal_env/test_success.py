"""What counts as success: the environment's word and compute_reward, and where they differ."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hierebm  # noqa: F401
from hierebm.goal_env.adapter import GoalEnv
from tests.toys import PlaneGoal


class Ends(PlaneGoal):
    """Ends within ``radius`` of the goal; compute_reward counts 0.1."""

    def __init__(self, radius: float, reports: bool = True, own_reward: bool = True, **kwargs: Any):
        super().__init__(limit=50, **kwargs)
        self.radius, self.reports, self.own_reward = radius, reports, own_reward

    def step(self, action: np.ndarray) -> Any:
        observation, reward, _, truncated, _ = super().step(action)
        success = bool(np.linalg.norm(self.x - self.goal) <= self.radius)
        if self.own_reward:
            reward = -float(not success)
        info = {"is_success": success} if self.reports else {}
        return observation, reward, success, truncated, info


def _walk(env: GoalEnv, steps: int, seed: int = 0) -> tuple[int, int, list[str]]:
    """Ends by termination, failure terminals among them, and warnings, of straight walks."""
    observation, rng = env.reset(seed=seed), np.random.default_rng(seed)
    terminated = failures = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            way = observation.desired_goal - observation.achieved_goal
            noise = rng.normal(0, 0.3, (env.n_envs, env.spaces.action_dim))
            action = np.clip(noise, -1, 1).astype(np.float32)
            dim = min(way.shape[1], action.shape[1])
            action[:, :dim] = np.clip(10 * way[:, :dim] + action[:, :dim], -1, 1)
            step = env.step(action)
            terminated += int(step.terminated.sum())
            failures += int(step.failure.sum())
            observation = step.current
    return terminated, failures, [str(w.message) for w in caught if "compute_reward" in str(w)]


@pytest.mark.parametrize("reports", [True, False])
def test_an_end_that_the_environment_calls_a_success_is_no_failure_terminal(reports: bool) -> None:
    terminated, failures, messages = _walk(GoalEnv(Ends(0.13, reports)), 600)
    assert terminated > 20 and failures == 0
    assert len(messages) == 1, "once"
    assert "is_success" in messages[0] and "one condition" in messages[0]


def test_an_end_without_success_is_a_failure_terminal() -> None:
    class Pit(PlaneGoal):
        def step(self, action: np.ndarray) -> Any:
            observation, reward, _, truncated, info = super().step(action)
            return observation, reward, bool(abs(self.x[0]) > 0.5), truncated, info

    terminated, failures, messages = _walk(GoalEnv(Pit()), 300)
    assert terminated > 20 and failures > 0.5 * terminated and not messages


@pytest.mark.parametrize("own_reward", [True, False])
def test_a_stricter_environment_is_warned_of_too(own_reward: bool) -> None:
    class Strict(Ends):
        def step(self, action: np.ndarray) -> Any:
            *step, info = super().step(action)
            return *step, (info if not self.own_reward else {})

    assert len(_walk(GoalEnv(Strict(0.05, own_reward=own_reward)), 600)[2]) == 1


@pytest.mark.parametrize(
    "reward",
    [
        lambda r: 10.0 * r,
        lambda r: r + 1.0,
        lambda r: 5.0 * r + 2.0,
        lambda r: 0.01 * r,
        lambda r: r - 0.1,
    ],
)
def test_scaled_rewards_are_nothing_to_warn_of(reward: Any) -> None:
    env = gym.wrappers.TransformReward(Ends(0.1, reports=False), reward)
    terminated, failures, messages = _walk(GoalEnv(env), 400)
    assert terminated > 20 and failures == 0 and not messages


def test_rewards_with_a_cost_of_actions_are_nothing_to_warn_of() -> None:
    class Cost(PlaneGoal):
        def step(self, action: np.ndarray) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, reward - 0.1 * float(np.square(action).sum()), *rest

    assert not _walk(GoalEnv(Cost()), 400)[2]


def test_a_goal_that_moves_on_at_success_is_nothing_to_warn_of() -> None:
    class MovesOn(PlaneGoal):
        """The observation of the step that reaches a goal has the next one already."""

        def step(self, action: np.ndarray) -> Any:
            observation, reward, *rest, info = super().step(action)
            if reward == 0.0:
                self.goal = self.np_random.uniform(-1.0, 1.0, self.dim)
                observation = self._observe()
            return observation, reward, *rest, info

    assert not _walk(GoalEnv(MovesOn(limit=50)), 600)[2]


def _robotics(name: str, **kwargs: Any) -> Any:
    gym.register_envs(pytest.importorskip("gymnasium_robotics"))
    return gym.make(name, **kwargs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.make("PointMassGoal-v0"),
        lambda: gym.make("PointMassGoal-v0", continuing_task=True),
        lambda: gym.make_vec("PointMassGoal-v0", num_envs=8),
        lambda: gym.make_vec("PointMassGoal-v0", num_envs=8, vectorization_mode="sync"),
        lambda: _robotics("FetchReach-v4"),
        lambda: _robotics("FetchPush-v4"),
        lambda: _robotics("PointMaze_Open-v3", continuing_task=False),
        lambda: _robotics("PointMaze_Open-v3", continuing_task=True, reset_target=True),
        lambda: _robotics("PointMaze_Open-v3", continuing_task=True, reset_target=False),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_well_known_environments_are_nothing_to_warn_of(make: Any) -> None:
    env = GoalEnv(make())
    env.check_goals(env.reset(seed=1))
    _, failures, messages = _walk(env, 400, seed=1)
    assert failures == 0 and not messages
    env.close()
