"""A planner that knows the world and its chances, as a policy: what the agents are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hierebm.envs import Layout
from hierebm.envs.dynamics import advance
from hierebm.envs.expected_steps import ExpectedSteps
from hierebm.envs.luck import Luck
from hierebm.envs.tasks import SUCCESS_RADIUS
from hierebm.types import Float64Array, FloatArray

# Accelerations in so many directions are held for so many steps, and another for as many more.
HELD, DIRECTIONS = 3, 12


class ReferencePolicy:
    """Takes the action after which the expected steps are fewest, by the true dynamics.

    Each action of a set is held for some steps in the world as it is, with expected instead of
    random accelerations; the expected steps from where that leads come from value iteration.

    Args:
        layout: the world.
        slip: as in ``PointMassGoalEnv``.
    """

    def __init__(self, layout: Layout, slip: float = 0.0) -> None:
        self.expected: ExpectedSteps = ExpectedSteps(layout, slip)
        self.luck, self.layout = Luck(layout, slip), layout
        angle = 2.0 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        full = directions / np.abs(directions).max(axis=1, keepdims=True)
        once = np.concatenate([full, 0.4 * full, np.zeros((1, 2))]).astype(np.float32)
        count = len(once)
        self._actions = np.stack([np.repeat(once, count, axis=0), np.tile(once, (count, 1))])
        self._goal: tuple[float, ...] | None = None
        self._steps: Float64Array = np.zeros(0)

    def predict(self, observation: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """An action (2,) for the observation of one environment."""
        goal = tuple(observation["desired_goal"].tolist())
        if goal != self._goal:
            self._goal, self._steps = goal, self.expected.to(goal)
        count = self._actions.shape[1]
        position = np.tile(observation["achieved_goal"], (count, 1))
        velocity = np.tile(observation["observation"][2:], (count, 1))
        cost, ended = np.full(count, np.inf), np.zeros(count, np.bool_)
        for step in range(1, 2 * HELD + 1):
            held = self._actions[(step - 1) // HELD]
            position, velocity = self._advance(position, velocity, held)
            after = self.expected.at(self._steps, position)
            x, y = self.layout.cell_of(position).T
            jumps = self.layout.tiles.entrance[y, x] >= 0
            # A place of the grid that lies in the goal stands for others, which do not.
            there = np.linalg.norm(position - np.array(goal), axis=1) <= SUCCESS_RADIUS
            after = np.where(there, 0.0, np.maximum(after, 1.0))
            looked = ~ended & (jumps | there | (step == 2 * HELD))
            cost[looked] = step + after[looked]
            ended |= jumps | there
            velocity[ended] = 0.0
        best: npt.NDArray[np.float32] = self._actions[0, int(cost.argmin())]
        return best

    def _advance(
        self, position: FloatArray, velocity: FloatArray, actions: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Points (B, 2) and their velocities one step later, but for teleporters, where everything
        happens as it does on average."""
        pull = np.where(self.luck.is_slippery(position), 1.0 - self.luck.slip, 1.0)
        return advance(
            position, velocity, (actions * pull[:, None]).astype(np.float32), self.layout
        )
