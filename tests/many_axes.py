"""A goal environment of many axes: some that the agent moves, and some that it cannot."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

STEP, TOLERANCE, LIMIT = 0.1, 0.25, 80


class ManyAxes(gym.Env[dict[str, Any], np.ndarray]):
    """A point in [-1, 1]^n with a wall at 0 across its first axis, open where the second is > 0.5.

    Each action moves one of the first axes. The others are those of objects that never move: each
    stays where it is, and its goal is there, too.

    Args:
        moved, still: how many axes the agent moves, and how many it does not.
        anywhere: objects lie at another point in each episode, not always at the same one.
    """

    def __init__(self, moved: int = 6, still: int = 0, anywhere: bool = False) -> None:
        self.moved, self.still, self.anywhere = moved, still, anywhere
        box = spaces.Box(-1.0, 1.0, (moved + still,), np.float32)
        self.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
        self.action_space = spaces.Box(-1.0, 1.0, (moved,), np.float32)

    def _observe(self) -> dict[str, Any]:
        return {
            "observation": self.point.copy(),
            "achieved_goal": self.point.copy(),
            "desired_goal": self.goal.copy(),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        start, goal = self.np_random.uniform(-1.0, 1.0, (2, self.moved))
        objects = np.full(self.still, 0.3)
        if self.anywhere:
            objects = self.np_random.uniform(-1.0, 1.0, self.still)
        self.point, self.goal = (
            np.concatenate([x, objects]).astype(np.float32) for x in (start, goal)
        )
        self.t = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        to = self.point.copy()
        to[: self.moved] = np.clip(to[: self.moved] + STEP * np.clip(action, -1, 1), -1, 1)
        if (self.point[0] > 0) != (to[0] > 0) and to[1] <= 0.5:
            to[0] = self.point[0]
        self.point = to
        self.t += 1
        reward = float(self.compute_reward(to, self.goal, {}))
        success = reward == 0.0
        return self._observe(), reward, success, self.t >= LIMIT, {"is_success": success}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        apart = np.linalg.norm(np.asarray(achieved) - np.asarray(desired), axis=-1)
        return np.where(apart <= TOLERANCE, 0.0, -1.0)
