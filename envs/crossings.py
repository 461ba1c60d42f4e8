"""What walls do to a step that leaves its cell: looked up, not worked out again at every step.

A step is shorter than half a cell on either axis, so it crosses at most one cell boundary per axis.
Which cell it ends in, and on which axes a wall stops it, then depends on nothing but the cell that
it starts in, the crossings on its way and their order: few enough for a table of each layout.
"""

from __future__ import annotations

import numpy as np

from hierebm.types import BoolArray, Float64Array, IntArray

MARGIN = np.float32(1e-4)
"""Distance kept from the faces of walls: no position is ever on one."""


class Crossings:
    """Where steps of less than half a cell end.

    Args:
        walls: (H + 2, W + 2) bool, the map with a border of walls around it.
        beside: ``Layout.walls_beside``.
        low: (2,) the world's lower left corner, inside that border.
        cell_size: side of a cell in world units.
    """

    def __init__(
        self,
        walls: BoolArray,
        beside: tuple[BoolArray, BoolArray],
        low: Float64Array,
        cell_size: float,
    ) -> None:
        # Numbers as arrays: NumPy takes as long to convert one as to work through a few dozen.
        self._low, self._cell_size = low[:, None], np.array(cell_size)
        self._none, self._stop_bits = np.array(0), np.array(3)
        width = walls.shape[1]
        landings = _landings(walls.shape, beside)
        # A row of the table as a sum over (x, y) of the old and of the new cell: new - old + 1 is
        # one of three columns on either axis.
        of_cell = landings[0].size * np.array([1.0, width])
        of_move = np.array([2.0, 6.0])
        self._weights = np.concatenate([of_cell - of_move, of_move])
        # Cells are counted from the border: rows below that of cell (0, 0) are found, as negative
        # indices are, at the end.
        self._landings = np.roll(landings.ravel(), -int(of_cell.sum() + of_move.sum()))
        height = len(walls)
        index = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) - 1.0
        self._bounds = _bounds(low + cell_size * index.reshape(-1, 2), beside, cell_size)
        self._stops = np.array([[False, True, False, True], [False, False, True, True]])

    def land(self, ends: Float64Array) -> tuple[Float64Array, BoolArray | None]:
        """Let points go straight from a start to a target as far as the walls allow.

        Args:
            ends: (2, 2, B): starts in free space, (x, y) by points, and targets, less than half a
                cell away on either axis.

        Returns:
            Where they end, (2, B), at least ``MARGIN`` away from the walls around; and which axes
            a wall stopped them on, (2, B), None if it stopped none of them.
        """
        cells = ends - self._low
        cells /= self._cell_size
        np.floor(cells, out=cells)
        row = np.dot(self._weights, cells.reshape(4, -1)).astype(np.intp)
        landing: IntArray = self._landings.take(row)
        undecided = landing < self._none
        if np.count_nonzero(undecided):
            i = np.flatnonzero(undecided)
            x_first = self._x_first(ends[..., i], cells[..., i])
            landing[i] = np.where(x_first, self._landings.take(row[i] + 1), ~landing[i])
        bounds: Float64Array = self._bounds.take(landing, axis=1)
        end = np.maximum(ends[1], bounds[:2])
        np.minimum(end, bounds[2:], out=end)
        stops = landing & self._stop_bits
        return end, self._stops.take(stops, axis=1) if np.count_nonzero(stops) else None

    def _x_first(self, ends: Float64Array, cells: Float64Array) -> BoolArray:
        """(B,) whether x crosses into another cell before y does; (2, 2, B) each."""
        start, target = ends
        # Fractions of the step at which the boundaries are met, compared without dividing.
        gap = np.abs(self._low + self._cell_size * np.maximum(*cells) - start)
        reach = np.abs(target - start)
        first: BoolArray = gap[0] * reach[1] <= gap[1] * reach[0]
        return first


def _landings(shape: tuple[int, ...], beside: tuple[BoolArray, BoolArray]) -> IntArray:
    """(cells, y move + 1, x move + 1, x first): 4 * final cell + (x stopped) + 2 * (y stopped).

    Its complement (a negative number) without "x first" where the order matters: at few corners.
    """
    height, width = shape
    cell = np.arange(height * width)[:, None, None, None]
    dy, dx, is_x_first = np.meshgrid([-1, 0, 1], [-1, 0, 1], [False, True], indexing="ij")

    def stopped(from_cell: IntArray, move: IntArray, axis: int) -> BoolArray:
        # Beyond the border is nowhere: any answer does for steps that start there.
        low, high = (side[:, axis].take(from_cell, mode="clip") for side in beside)
        return np.where(move < 0, low, high) & (move != 0)

    # The later crossing starts from wherever the earlier one ended: beyond it, or stopped before.
    x_now, y_now = stopped(cell, dx, 0), stopped(cell, dy, 1)
    x_later, y_later = stopped(cell + width * dy, dx, 0), stopped(cell + dx, dy, 1)
    stop_x = np.where(is_x_first | y_now, x_now, x_later)
    stop_y = np.where(is_x_first & ~x_now, y_later, y_now)
    final = cell + np.where(stop_x, 0, dx) + width * np.where(stop_y, 0, dy)
    landings = 4 * np.clip(final, 0, height * width - 1) + stop_x + 2 * stop_y
    y_first, x_first = landings[..., 0], landings[..., 1]
    landings[..., 0] = np.where(y_first == x_first, y_first, ~y_first)
    return landings


def _bounds(
    corner: Float64Array, beside: tuple[BoolArray, BoolArray], cell_size: float
) -> Float64Array:
    """(4, 4 * cells) low x, low y, high x, high y of where a landing may be.

    Clear of the walls ``beside`` the cell at ``corner`` (cells, 2), and of what stopped the step.
    """
    stopped = np.array([[False, False], [True, False], [False, True], [True, True]])
    at_low, at_high = (stopped | side[:, None] for side in beside)
    lowest = corner[:, None] + MARGIN * at_low
    highest = corner[:, None] + cell_size - MARGIN * at_high
    return np.concatenate([lowest, highest], axis=-1).reshape(-1, 4).T.copy()
