"""Small goal environments and small agents for tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "n_critics": 2,
    "batch_size": 16,
    "learning_starts": 200,
    "max_distance": 15,
    "fourier_features": 8,
    "buffer_size": 5000,
    "train_freq": 20,
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 400,
    "energy_gradient_steps": 3,
    "pool_size": 200,
    "n_subgoals": 8,
}
"""A default agent but for its size; tests pass ``{**SMALL, ...}`` for more."""

LIGHT: dict[str, Any] = {
    "hidden_sizes": (64, 64),
    "batch_size": 128,
    "energy_batch_size": 64,
    "energy_gradient_steps": 20,
}
"""What learns small worlds as a default agent does, in a tenth of the time."""


class LineGoal(gym.Env[dict[str, Any], np.ndarray]):
    """A point on a line that moves by its action; reward {-1, 0} or {0, 1}; never terminates."""

    def __init__(self, pays_one: bool = False, batched: bool = True, limit: int = 20) -> None:
        box = spaces.Box(-1.0, 1.0, (1,), np.float64)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(-np.inf, np.inf, (2,), np.float64),
            achieved_goal=box,
            desired_goal=box,
        )
        self.action_space = spaces.Box(-0.2, 0.4, (1,), np.float32)
        self.pays_one, self.batched, self.limit = pays_one, batched, limit
        self.break_at: tuple[int, str] | None = None
        self.total_steps = 0

    def _observe(self) -> dict[str, Any]:
        observation = {
            "observation": np.array([self.x, self.x**2]),
            "achieved_goal": np.array([self.x]),
            "desired_goal": np.array([self.goal]),
        }
        if self.break_at and self.total_steps >= self.break_at[0]:
            key = self.break_at[1]
            if key in observation:
                observation[key] = observation[key] * np.nan
        return observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.x, self.goal = self.np_random.uniform(-1.0, 1.0, 2)
        self.t = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.x = float(np.clip(self.x + action[0], -1.0, 1.0))
        self.t += 1
        self.total_steps += 1
        reward = float(self.compute_reward(np.array([self.x]), np.array([self.goal]), {}))
        if self.break_at and self.total_steps >= self.break_at[0] and self.break_at[1] == "reward":
            reward = float("nan")
        near = abs(self.x - self.goal) <= 0.1
        return self._observe(), reward, False, self.t >= self.limit, {"is_success": near}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> Any:
        if not self.batched and achieved.ndim > 1:
            raise ValueError("one at a time, please")
        near = np.abs(achieved - desired).max(-1) <= 0.1
        return near.astype(np.float64) - (0.0 if self.pays_one else 1.0)


class PlaneGoal(gym.Env[dict[str, Any], np.ndarray]):
    """A point in the square [-1, 1]^dim, seen at an offset in a dtype; by default never terminates.

    Args:
        dim: axes, of positions and of actions in [-1, 1].
        dtype, offset: of observations and goals.
        step: how far an action of 1 goes.
        tolerance: a goal that is no farther counts as reached.
        limit: steps of an episode.
        terminate: episodes end at the goal.
    """

    def __init__(
        self,
        dim: int = 2,
        dtype: Any = np.float64,
        offset: Any = 0.0,
        *,
        step: float = 0.1,
        tolerance: float = 0.1,
        limit: int = 20,
        terminate: bool = False,
    ) -> None:
        self.dim, self.dtype, self.offset = dim, dtype, offset
        self.step_size, self.tolerance = step, tolerance
        self.limit, self.terminate = limit, terminate
        box = spaces.Box(-np.inf, np.inf, (dim,), dtype)
        self.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
        self.action_space = spaces.Box(-1.0, 1.0, (dim,), np.float32)
        # Of all steps, in order.
        self.actions: list[np.ndarray] = []

    def _observe(self) -> dict[str, Any]:
        at, goal = ((x + np.asarray(self.offset)).astype(self.dtype) for x in (self.x, self.goal))
        return {"observation": at, "achieved_goal": at, "desired_goal": goal}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.goal = self.np_random.uniform(-1.0, 1.0, (2, self.dim))
        self.t = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        self.actions.append(action.copy())
        self.x = np.clip(self.x + self.step_size * action, -1.0, 1.0)
        self.t += 1
        o = self._observe()
        reward = float(self.compute_reward(o["achieved_goal"], o["desired_goal"], {}))
        near = reward == 0.0
        return o, reward, self.terminate and near, self.t >= self.limit, {"is_success": near}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > self.tolerance).astype(float)


def lying_at(values: np.ndarray, offset: int) -> np.ndarray:
    """A contiguous copy that begins ``offset`` elements behind the start of a cache line."""
    size = values.dtype.itemsize
    memory = np.empty(values.nbytes + 64 + offset * size, np.uint8)
    start = -memory.ctypes.data % 64 + offset * size
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy
