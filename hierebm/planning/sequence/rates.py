"""What a unit of length counts as where: looked up once for each cell of a grid, then remembered.

A plan that is laid out over visited ground looks at thousands of points, and the next plan at most
of them again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.floating]

# Lengths are in units: rms transitions along each axis.
# Side of a cell. What is true of its middle counts for all of it.
CELL = 0.05
# Worlds of more cells than this are not remembered.
MOST_CELLS = 2**23


class Rates:
    """Rates by the nearest of some points.

    Args:
        tree: the points (n, D).
        rates: (n,) what counts at each of them.
        seen: that it counts up to this far away.
        near, near_rate: and this up to there.
        far_rate: and this farther away.
    """

    def __init__(
        self,
        tree: cKDTree,
        rates: Floats,
        *,
        seen: float,
        near: float,
        near_rate: float,
        far_rate: float,
    ) -> None:
        self._tree, self._seen, self._near = tree, seen, near
        self._kinds, kind = np.unique([*rates, near_rate, far_rate], return_inverse=True)
        # Of each point, and of none; 0 is for what was not looked at yet.
        kind = (kind + 1).astype(np.uint8)
        self._kind, self._near_kind = np.append(kind[:-2], kind[-1]), kind[-2]
        self._kinds = np.append(0.0, self._kinds)
        # One cell more all around stands for everything farther away.
        self._low = tree.mins - near - 2 * CELL
        self._shape = np.ceil((tree.maxes + near + CELL - self._low) / CELL).astype(np.int64) + 1
        self._table: NDArray[np.uint8] | None = None
        if float(np.prod(self._shape.astype(np.float64))) <= MOST_CELLS:
            self._table = np.zeros(int(self._shape.prod()), np.uint8)
        self._stride = np.append(self._shape[:0:-1].cumprod()[::-1], 1)

    def at(self, points: Floats) -> Floats:
        """(m, D) -> (m,) what a unit of length counts as there."""
        if self._table is None:
            return self._kinds[self._look(points)]
        cell = np.floor((points - self._low) / CELL)
        cell = np.clip(cell, 0, self._shape - 1).astype(np.int64)
        at = cell @ self._stride
        kind = self._table[at]
        if not kind.all():
            new, first = np.unique(at[kind == 0], return_index=True)
            middle = self._low + (cell[kind == 0][first] + 0.5) * CELL
            self._table[new] = self._look(middle)
            kind = self._table[at]
        return self._kinds[kind]

    def _look(self, points: Floats) -> NDArray[np.uint8]:
        gap, nearest = self._tree.query(points, distance_upper_bound=self._near)
        kind = self._kind[nearest]
        kind[(gap > self._seen) & np.isfinite(gap)] = self._near_kind
        return kind
