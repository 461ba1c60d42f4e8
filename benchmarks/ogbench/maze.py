"""OGBench's point in a maze, many at once: cells, shortest ways over them, and its steps."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.types import FloatArray, IntArray

# A point goes this far along an axis for an action of 1, as OGBench codes it.
STEP = 0.2
# Contacts begin where body and wall meet; nearer than this more is left to the simulation.
MARGIN = 1e-3
# The order in which OGBench looks at the cells around one; of equally short ways the first is gone.
AROUND = ((-1, 0), (0, -1), (1, 0), (0, 1))


class PointMaze:
    """A maze of OGBench, asked about many points together.

    Cells are numbered in the order of rows, walls left out. Positions are (N, 2) float64 in
    OGBench's units; a cell has side 4.

    Args:
        maze: "medium", "large" or "giant".

    Raises:
        ImportError: ogbench is missing.
    """

    def __init__(self, maze: str) -> None:
        from ogbench.locomaze.maze import make_maze_env

        self._env: Any = make_maze_env("point", "maze", maze_type=maze)
        self._env.reset(seed=0)
        self.walls: NDArray[np.bool_] = self._env.maze_map == 1
        self.tolerance = float(self._env._goal_tol)
        """A goal is reached within this distance."""
        self.noise = float(self._env._noise * self._env._maze_unit / 4)
        """Starts and goals are at most this far from the center of a cell, along each axis."""
        self.radius = float(self._env.model.geom("pointbody").size[0])
        """Of the body: its center keeps this far from walls."""
        self._cells: IntArray = np.argwhere(~self.walls)
        self.centers: NDArray[np.float64] = np.array(
            [self._env.ij_to_xy(cell) for cell in self._cells], np.float64
        )
        """(cells, 2)"""
        self._number = np.full(self.walls.shape, -1)
        self._number[~self.walls] = np.arange(len(self._cells))
        self.steps = np.stack([self._steps_from(cell) for cell in range(len(self._cells))])
        """(cells, cells) the fewest cells to go from one to the other."""

    def __len__(self) -> int:
        """Number of cells."""
        return len(self._cells)

    @property
    def junctions(self) -> IntArray:
        """Cells that are no straight corridor: neither walls left and right only, nor those above
        and below only."""
        found = []
        for cell, (i, j) in enumerate(self._cells):
            above, left, below, right = (self.walls[i + di, j + dj] for di, dj in AROUND)
            if not (above == below and left == right and above != left):
                found.append(cell)
        return np.array(found)

    def _neighbors(self, cell: int) -> list[int]:
        i, j = self._cells[cell]
        around = [int(self._number[i + di, j + dj]) for di, dj in AROUND]
        return [neighbor for neighbor in around if neighbor >= 0]

    def _steps_from(self, start: int) -> IntArray:
        steps = np.full(len(self._cells), -1)
        steps[start], queue = 0, deque([start])
        while queue:
            cell = queue.popleft()
            for neighbor in self._neighbors(cell):
                if steps[neighbor] < 0:
                    steps[neighbor] = steps[cell] + 1
                    queue.append(neighbor)
        return steps

    def next_cells(self) -> IntArray:
        """(cells, cells) the cell to go to from one (row) on a shortest way to another (column)."""
        table = np.empty_like(self.steps)
        for cell in range(len(self)):
            options = np.array([cell, *self._neighbors(cell)])
            table[cell] = options[np.argmin(self.steps[options], axis=0)]
        return table

    def cells_at(self, xy: NDArray[np.float64]) -> IntArray:
        """(N,) the cell of each position, -1 in a wall."""
        i, j = self._rows_and_columns(xy)
        return self._number[i, j]

    def near(self, cells: IntArray, rng: np.random.Generator) -> NDArray[np.float64]:
        """(N, 2) a start or goal in each cell: its center, and OGBench's noise."""
        noise = rng.uniform(-self.noise, self.noise, (len(cells), 2))
        return self.centers[cells] + noise

    def is_free(self, xy: FloatArray | NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether a body there touches no wall, with certainty; False near some corners."""
        free = np.ones(len(xy), np.bool_)
        far = self.radius + MARGIN
        for x in (-far, far):
            for y in (-far, far):
                i, j = self._rows_and_columns(xy + np.array([x, y]))
                free &= ~self.walls[i, j]
        return free

    def _rows_and_columns(self, xy: Any) -> tuple[IntArray, IntArray]:
        unit, env = self._env._maze_unit, self._env
        offset = np.array([env._offset_x, env._offset_y])
        j, i = ((xy + offset + 0.5 * unit) / unit).astype(np.int64).T
        return i, j

    def step(self, xy: NDArray[np.float64], actions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) where each action, (N, 2), leads.

        Away from walls a step of OGBench's environment is an addition, without rounding of its own;
        all others are its simulation's.
        """
        after = xy + STEP * actions
        for row in np.flatnonzero(~self.is_free(after)):
            self._env.data.qpos[:] = xy[row]
            self._env.step(actions[row])
            after[row] = self._env.data.qpos
        return after
