"""Wrappers for goal environments whose parts are no plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hierebm.goal_env.spaces import KEYS


class FlattenGoalEnv(
    gym.Wrapper[dict[str, NDArray[Any]], Any, dict[str, Any], Any], gym.utils.RecordConstructorArgs
):
    """Observation and goals as one array each, whatever they are made of, and a sparse reward.

    For goals that are a Dict of parts, such as FrankaKitchen's, and for further keys of the
    observation, such as the ``time`` of ``TimeAwareObservation``. The reward is 0 where the
    environment pays as much as for standing exactly on the goal, -1 elsewhere: where it counts
    parts of the goal that are reached, all of them have to be. So says ``info["is_success"]``.

    Args:
        env: a goal environment: a Dict with the keys observation, achieved_goal and desired_goal,
            and ``compute_reward``, which must not depend on what happened before
            (``remove_task_when_completed=False`` for FrankaKitchen).
        join: further keys that become part of ``observation``, in this order.

    Raises:
        TypeError, ValueError: if a key is missing, or cannot be flattened.
    """

    def __init__(self, env: gym.Env[Any, Any], join: tuple[str, ...] = ()) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, join=join)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict):
            raise TypeError(f"FlattenGoalEnv needs a Dict observation, not {type(space).__name__}")
        if missing := [key for key in (*KEYS, *join) if key not in space.spaces]:
            raise ValueError(
                f"the observation space lacks {', '.join(map(repr, missing))}, it has "
                f"{', '.join(map(repr, space.spaces))}"
            )
        self.join = join
        self._parts = {key: space[key] for key in (*KEYS, *join)}
        flat = {key: _flat_box(key, part) for key, part in self._parts.items()}
        joined = [flat[key] for key in ("observation", *join)]
        flat["observation"] = spaces.Box(
            np.concatenate([box.low for box in joined]),
            np.concatenate([box.high for box in joined]),
            dtype=np.float32,
        )
        flattened: Any = spaces.Dict({key: flat[key] for key in KEYS})
        self.observation_space = flattened

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """As the environment's."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flat(observation), info

    def step(
        self, action: Any
    ) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """As the environment's, with the sparse reward."""
        observation, _, terminated, truncated, info = self.env.step(action)
        flat = self._flat(observation)
        reward = float(self.compute_reward(flat["achieved_goal"], flat["desired_goal"], info))
        return flat, reward, terminated, truncated, {**info, "is_success": reward == 0.0}

    def compute_reward(
        self, achieved_goal: NDArray[Any], desired_goal: NDArray[Any], info: Any = None
    ) -> Any:
        """0 where the goal is reached, else -1: of one pair of flat goals, or of (n, goal_dim)."""
        achieved, desired = np.asarray(achieved_goal), np.asarray(desired_goal)
        if achieved.ndim == 1:
            return self._of_one(achieved, desired)
        pairs = zip(achieved, np.broadcast_to(desired, achieved.shape), strict=True)
        return np.array([self._of_one(*pair) for pair in pairs])

    def _of_one(self, achieved: NDArray[Any], desired: NDArray[Any]) -> float:
        here = spaces.unflatten(self._parts["achieved_goal"], achieved)
        there = spaces.unflatten(self._parts["desired_goal"], desired)
        pay = self.env.get_wrapper_attr("compute_reward")
        return 0.0 if pay(here, there, {}) >= pay(there, there, {}) - 1e-6 else -1.0

    def _flat(self, observation: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        flat = {
            key: np.asarray(spaces.flatten(part, observation[key]), np.float32).reshape(-1)
            for key, part in self._parts.items()
        }
        joined = np.concatenate([flat[key] for key in ("observation", *self.join)])
        return {**{key: flat[key] for key in KEYS}, "observation": joined}


def _flat_box(key: str, space: spaces.Space[Any]) -> Any:
    flat = spaces.flatten_space(space)
    if not isinstance(flat, spaces.Box):
        raise TypeError(f"observation_space[{key!r}] is {space}: that is of no fixed length")
    low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in (flat.low, flat.high))
    return spaces.Box(low, high, dtype=np.float32)
