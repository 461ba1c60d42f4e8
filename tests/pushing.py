"""A goal environment in which the achieved goal is a block's place: it moves when it is touched."""

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
