"""What the single and the vector environment have in common: one world, its spaces, its rewards."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from hierebm.envs.dynamics import MAX_SPEED
from hierebm.envs.floor import Shape, ice, marks
from hierebm.envs.layouts import Layout, get_layout
from hierebm.envs.luck import Luck
from hierebm.envs.tasks import SUCCESS_RADIUS, TaskRange, TaskSampler
from hierebm.types import BoolArray, Float64Array

OPEN_TIME_LIMIT = 100
"""Steps of an episode on the open plane, and the least on any layout."""

MOST_STEPS = 1_000_000
"""Largest time limit."""

Observation = dict[str, npt.NDArray[np.float32]]


class PointMassWorld:
    """Layout, spaces, reward and evaluation aids of the point-mass environments.

    Attributes:
        layout: the ``Layout``.
        luck: the ``Luck``, what is left to chance.
        success_radius: a goal is reached within this distance (world units).
        subgoals: points (K, 2) that ``render`` draws as the current plan, or None. Set by whoever
            wants to see it; it changes nothing else.
    """

    success_radius = SUCCESS_RADIUS
    subgoals: Sequence[Sequence[float]] | npt.NDArray[Any] | None = None

    def _build_world(
        self,
        *,
        layout: str | Sequence[str] | Layout,
        scale: int,
        slip: float,
        reward_type: str,
        continuing_task: bool,
        time_limit: int | None,
        start: Sequence[float] | None,
        goal: Sequence[float] | None,
        distance: tuple[float, float] | None,
    ) -> None:
        if reward_type not in ("sparse", "dense"):
            raise ValueError(f"reward_type={reward_type!r} is unknown: use 'sparse' or 'dense'.")
        if time_limit is not None and not (
            isinstance(time_limit, (int, float, np.number))
            and time_limit >= 1
            and time_limit <= MOST_STEPS
            and float(time_limit).is_integer()
        ):
            raise ValueError(
                f"time_limit must be a positive int up to {MOST_STEPS} or None, got {time_limit!r}."
            )
        self.layout = get_layout(layout, scale)
        self.luck = Luck(self.layout, slip)
        self.reward_type = reward_type
        self.continuing_task = bool(continuing_task)
        self._time_limit = None if time_limit is None else int(time_limit)
        self._sampler = TaskSampler(self.layout)
        self._default_task = TaskRange()
        given = {"start": start, "goal": goal, "distance": distance}
        self._default_task = self._sampler.task_range(given, where="arguments")

    def _build_spaces(self) -> tuple[Any, Any]:
        low = self.layout.low.astype(np.float32)
        high = self.layout.high.astype(np.float32)
        speed = np.full(2, MAX_SPEED, dtype=np.float32)
        position_space = spaces.Box(low, high, dtype=np.float32)
        state = spaces.Box(
            np.concatenate([low, -speed]), np.concatenate([high, speed]), dtype=np.float32
        )
        observation = spaces.Dict(
            {
                "observation": state,
                "achieved_goal": position_space,
                "desired_goal": spaces.Box(low, high, dtype=np.float32),
            }
        )
        return observation, spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)

    @property
    def wall_map(self) -> tuple[BoolArray, tuple[float, float, float, float]]:
        """What pictures show of the walls: (H, W) bool, row 0 at the lowest y, and its extent
        (x_min, x_max, y_min, y_max)."""
        return self.layout.walls, self.layout.extent

    @property
    def floor_shapes(self) -> list[Shape]:
        """What pictures show of slippery ground, one-way doors and teleporters."""
        return [*ice(self.layout), *marks(self.layout)]

    @property
    def time_limit(self) -> int:
        """Steps until the environment truncates an episode.

        The ``time_limit`` argument; else 100 on the open plane and elsewhere about 2.5 times the
        steps that the layout's longest shortest path takes at top speed, in multiples of 50; where
        actions slip, as many times more as slipping slows down, and with teleporters three times
        as many.
        """
        if self._time_limit is None:
            steps = 2.5 * self.layout.diameter / float(MAX_SPEED) / (1.0 - self.luck.slip)
            steps *= 3 if self.layout.tiles.has_teleporters else 1
            self._time_limit = max(OPEN_TIME_LIMIT, 50 * math.ceil(steps / 50))
        return self._time_limit

    @property
    def spec(self) -> EnvSpec | None:
        """How it was made; wrappers find the time limit there, as ``max_episode_steps``."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None and spec.max_episode_steps is None:
            spec = copy.deepcopy(spec)
            spec.max_episode_steps = self.time_limit
        self._spec = spec

    _spec: EnvSpec | None = None

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any = None
    ) -> Any:
        """Reward for having achieved one goal when another was desired.

        Args:
            achieved_goal, desired_goal: (..., 2) positions, broadcast against each other.
            info: not used; the argument belongs to the goal-environment interface.

        Returns:
            (...) float64, a Python float for single goals: 0 within the success radius and -1
            outside ("sparse"), or minus the distance ("dense").
        """
        distance = _distance(achieved_goal, desired_goal)
        if self.reward_type == "dense":
            reward = -distance
        else:
            reward = np.where(distance <= self.success_radius, 0.0, -1.0)
        return reward if reward.ndim else float(reward)

    def compute_terminated(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any = None
    ) -> Any:
        """Whether the episode ends there: (...) bool, never with ``continuing_task``."""
        reached = _distance(achieved_goal, desired_goal) <= self.success_radius
        if self.continuing_task:
            reached = np.zeros_like(reached)
        return reached if reached.ndim else bool(reached)

    def in_wall(self, points: npt.ArrayLike) -> BoolArray:
        """Whether points (..., 2) lie in a wall or outside the world; returns (...) bool."""
        return self.layout.in_wall(points)

    def segment_is_free(self, a: npt.ArrayLike, b: npt.ArrayLike) -> BoolArray:
        """Whether the straight segments a -> b, (..., 2) each, cross no wall: (...) bool."""
        return self.layout.segment_is_free(a, b)

    def shortest_path_distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Float64Array:
        """Length of the shortest path around the walls, world units: (..., 2) twice -> (...).

        For evaluation only: no agent may learn from it. Infinite where there is no path. It knows
        the arrows of one-way doors, enters no teleporter, and does not slip.
        """
        return self.layout.shortest_path_distance(a, b)

    def shortest_path_steps(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Float64Array:
        """The shortest path in steps at the top speed of one axis, (...) float64.

        Neither a bound nor exact: a diagonal is up to sqrt(2) faster, getting up to speed slower.
        """
        return self.layout.shortest_path_distance(a, b) / float(MAX_SPEED)

    def _reward_and_reached(
        self, position: npt.NDArray[np.float32], goal: npt.NDArray[np.float32]
    ) -> tuple[Float64Array, BoolArray]:
        """Rewards (B,) and whether the goals are reached (B,), from one distance computation."""
        distance = _distance(position, goal)
        reached = distance <= self.success_radius
        reward = -distance if self.reward_type == "dense" else np.subtract(reached, 1.0)
        return reward, reached


def checked_actions(action: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """``action`` as float32 of the given shape.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    array = np.asarray(action, dtype=np.float32)
    if array.shape != shape:
        raise ValueError(f"action must have shape {shape}, got {array.shape}.")
    if np.count_nonzero(np.isfinite(array)) < array.size:
        raise ValueError(f"action must be finite, got {array[~np.isfinite(array)][0]}.")
    return array


def _distance(a: npt.ArrayLike, b: npt.ArrayLike) -> Float64Array:
    offset = np.subtract(a, b, dtype=np.float64)
    offset *= offset
    # Spelt out, because the order of a sum over an axis may depend on the batch.
    return np.asarray(np.sqrt(offset[..., 0] + offset[..., 1]))
