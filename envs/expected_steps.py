"""The expected steps to a goal of a planner that knows all chances: a reference to measure by.

Stochastic shortest paths by value iteration (Bertsekas & Tsitsiklis 1991, "An analysis of
stochastic shortest path problems") over a grid of positions. The point has no inertia there: it
moves by up to the top speed along each axis in any step.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from hierebm.envs.dynamics import MAX_SPEED
from hierebm.envs.layouts import Layout
from hierebm.envs.luck import Luck
from hierebm.envs.tasks import SUCCESS_RADIUS
from hierebm.types import Float64Array, IntArray

# Sides of a move at top speed, each way: the grid is that much finer than a step.
_MOVES = 2
_CONVERGED = 1e-3


class ExpectedSteps:
    """Expected steps of the best policy in one world.

    For evaluation only: no agent may learn from it.

    Args:
        layout: the world.
        slip: as in ``PointMassGoalEnv``.

    Attributes:
        spacing: of the grid, world units.
    """

    def __init__(self, layout: Layout, slip: float = 0.0) -> None:
        self.layout, self.luck = layout, Luck(layout, slip)
        self.spacing = float(MAX_SPEED) / _MOVES
        self._shape = np.round((layout.high - layout.low) / self.spacing).astype(np.int64)

    @cached_property
    def _points(self) -> Float64Array:
        """(S, 2) the grid, row by row."""
        x, y = (np.arange(count) for count in self._shape.tolist())
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return self.layout.low + self.spacing * (grid + 0.5)

    def _state(self, points: npt.ArrayLike) -> IntArray:
        """(B, 2) -> (B,) grid points, or beyond all of those the teleporter that points are on."""
        points = np.asarray(points, dtype=np.float64)
        x, y = np.floor((points - self.layout.low) / self.spacing).astype(np.int64).T
        width, height = self._shape.tolist()
        state = np.clip(y, 0, height - 1) * width + np.clip(x, 0, width - 1)
        x, y = self.layout.cell_of(points).T
        entrance = self.layout.tiles.entrance[y, x]
        return np.where(entrance >= 0, width * height + entrance, state)

    @cached_property
    def _next(self) -> IntArray:
        """(S, A) states that the moves lead to; those out of walls mean nothing."""
        steps = self.spacing * np.arange(-_MOVES, _MOVES + 1)
        moves = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        starts = np.repeat(self._points, len(moves), axis=0)
        ends = starts + np.tile(moves, (len(self._points), 1))
        free = ~self.layout.in_wall(starts)
        landed = starts.copy()
        landed[free] = self.layout.crossings.land(np.stack([starts[free].T, ends[free].T]))[0].T
        return self._state(landed).reshape(len(self._points), len(moves))

    def to(self, goal: npt.ArrayLike, limit: float = 2000.0) -> Float64Array:
        """(S + teleporters,) expected steps to within the success radius of ``goal`` (2,); infinite
        where they are more than ``limit``, as where there is no way.

        ``at`` reads them.
        """
        points = self._points
        there = np.linalg.norm(points - np.asarray(goal, np.float64), axis=1) <= SUCCESS_RADIUS
        wall = self.layout.in_wall(points)
        exits = [
            self._state(self.layout.low + self.layout.cell_size * (cells + 0.5))
            for cells in self.layout.tiles.exits
        ]
        steps = np.zeros(len(points) + len(exits))
        moving = np.flatnonzero(~there & ~wall)
        following = self._next[moving]
        while True:
            new = 1.0 + self._after_best_move(steps, following, moving)
            change = float(np.abs(new - steps[moving]).max(initial=0.0))
            steps[moving] = new
            for number, states in enumerate(exits):
                steps[len(points) + number] = steps[states].mean()
            # Where there is no way, steps grow for ever.
            if change < _CONVERGED or float(steps.max()) > limit:
                break
        steps[steps > limit] = np.inf
        steps[: len(points)][wall] = np.inf
        return steps

    @cached_property
    def _slips(self) -> Float64Array:
        """(S,) the chance that a move is a random one."""
        return np.where(self.luck.is_slippery(self._points.astype(np.float32)), self.luck.slip, 0.0)

    def _after_best_move(
        self, steps: Float64Array, following: IntArray, moving: IntArray
    ) -> Float64Array:
        """(m,) expected steps after the best move from each of (m,) states, where those from every
        state are ``steps`` and moves lead to (m, A) states, unless chance has its way."""
        after = steps[following]
        chosen: Float64Array = after.min(axis=1)
        if self.luck.slip:
            slip = self._slips[moving]
            chosen = (1.0 - slip) * chosen + slip * after.mean(axis=1)
        return chosen

    def at(self, steps: Float64Array, points: npt.ArrayLike) -> Float64Array:
        """What ``steps`` of ``to`` says of points (B, 2): (B,), to the nearest grid point."""
        return np.asarray(steps[self._state(points)])
