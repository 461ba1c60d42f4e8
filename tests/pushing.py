"""Goal environments in which a block, which moves when it is touched, has its place to reach."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

STEP, WIDTH, TOLERANCE, LIMIT = 0.1, 0.1, 0.15, 20


class PushedBlock(gym.Env[dict[str, Any], np.ndarray]):
    """A hand in [-1, 1]^2 that moves at will, and a block that it pushes before it.

    Args:
        stuck: the block cannot be moved.
    """

    def __init__(self, stuck: bool = False) -> None:
        self.stuck = stuck
        goal, seen = (spaces.Box(-np.inf, np.inf, (n,), np.float32) for n in (2, 4))
        parts = {"observation": seen, "achieved_goal": goal, "desired_goal": goal}
        self.observation_space = spaces.Dict(parts)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _observe(self) -> dict[str, Any]:
        seen = np.concatenate([self.hand, self.block - self.hand])
        parts = {"observation": seen, "achieved_goal": self.block, "desired_goal": self.goal}
        return {key: part.astype(np.float32) for key, part in parts.items()}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.hand = self.np_random.uniform(-0.5, 0.5, 2)
        # In front of the hand.
        self.block, self.goal = self.hand + self.np_random.uniform(-0.4, 0.4, (2, 2))
        self.t = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict]:
        self.hand = np.clip(self.hand + STEP * action, -1.0, 1.0)
        apart = self.block - self.hand
        distance = float(np.linalg.norm(apart))
        if distance < WIDTH and not self.stuck:
            self.block = self.hand + apart * (WIDTH / max(distance, 1e-6))
        self.t += 1
        reward = float(self.compute_reward(self.block, self.goal, {}))
        info = {"is_success": reward == 0.0}
        return self._observe(), reward, False, self.t >= LIMIT, info

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        apart = np.linalg.norm(np.asarray(achieved) - np.asarray(desired), axis=-1)
        return -(apart > TOLERANCE).astype(np.float64)


class SeveralObjects(gym.Wrapper[Any, Any, Any, Any]):
    """The achieved goal is where the hand is, the block that it pushes, and a post that never
    moves: two axes each. The post trembles, as what lies in a simulator does.

    Args:
        trembling: how far it seems to move in a step.
    """

    POST = np.array([0.7, -0.7])

    def __init__(self, trembling: float = 0.0) -> None:
        super().__init__(PushedBlock())
        self.trembling = trembling
        box = spaces.Box(-np.inf, np.inf, (6,), np.float32)
        seen = self.env.observation_space["observation"]  # type: ignore[index]
        self.observation_space = spaces.Dict(observation=seen, achieved_goal=box, desired_goal=box)

    def seen(self, observation: dict[str, Any]) -> dict[str, Any]:
        world = self.env.unwrapped
        post = self.POST + self.trembling * world.np_random.normal(size=2)
        achieved = np.concatenate([world.hand, world.block, post])  # type: ignore[attr-defined]
        goal = np.concatenate([self.hand_goal, world.goal, self.POST])  # type: ignore[attr-defined]
        parts = {"achieved_goal": achieved, "desired_goal": goal}
        return {**observation, **{key: part.astype(np.float32) for key, part in parts.items()}}

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        self.hand_goal = self.env.unwrapped.np_random.uniform(-0.5, 0.5, 2)
        return self.seen(observation), info

    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, _ = self.env.step(action)
        observation = self.seen(observation)
        parts = observation["achieved_goal"], observation["desired_goal"]
        reward = float(self.compute_reward(*parts, {}))
        return observation, reward, terminated, truncated, {"is_success": reward == 0.0}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return self.env.unwrapped.compute_reward(achieved, desired, info)  # type: ignore
