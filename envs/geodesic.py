"""Exact shortest paths among axis-aligned walls, by a visibility graph over wall corners.

One-way faces are walls to segments that cross them the wrong way; the graph is directed then.

A shortest path in a polygonal world is a chain of straight pieces that bends only at convex wall
corners (Lozano-Perez & Wesley, 1979). The corner-to-corner distances are computed once; a query
then only needs to know which corners its two ends see, which is one vectorised line-of-sight test.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csgraph

from hierebm.types import BoolArray, Float64Array

# Walls are shrunk by this much (world units) in line-of-sight tests: a path may touch a corner or
# run along a wall, and a float32 position that was stopped at a wall must still see along it.
TOUCH = 1e-5
# Rows handled at once in line-of-sight tests; keeps the temporaries inside the processor's cache.
_CHUNK = 8192


def maximal_rectangles(walls: BoolArray) -> npt.NDArray[np.int64]:
    """All maximal rectangles of wall cells that extend a maximal row run or column run.

    They overlap on purpose: two rectangles that merely share an edge would leave a crack along it,
    through which an exactly aligned line of sight could slip.

    Args:
        walls: (H, W) bool.

    Returns:
        (R, 4) integer array of (x0, y0, x1, y1), half-open cell indices, sorted.
    """
    along_x = _runs_grown_across(walls)
    along_y = [(y0, x0, y1, x1) for x0, y0, x1, y1 in _runs_grown_across(walls.T)]
    found = sorted(set(along_x) | set(along_y))
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def _runs_grown_across(walls: BoolArray) -> list[tuple[int, int, int, int]]:
    height, width = walls.shape
    found = []
    for y in range(height):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], walls[y], [False]]).astype(int)))
        for x0, x1 in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            y0, y1 = y, y + 1
            while y0 > 0 and walls[y0 - 1, x0:x1].all():
                y0 -= 1
            while y1 < height and walls[y1, x0:x1].all():
                y1 += 1
            found.append((x0, y0, x1, y1))
    assert all(x1 <= width for _, _, x1, _ in found)
    return found


def convex_corners(walls: BoolArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Grid vertices where a wall sticks out, and those where two walls touch diagonally.

    Args:
        walls: (H, W) bool; everything outside counts as wall.

    Returns:
        corners (C, 4) integers (x, y, sx, sy): the vertex and the signs of the quadrant that the
        wall fills; pinches (P, 2) integers (x, y): vertices that nothing can pass through.
    """
    padded = np.pad(walls, 1, constant_values=True)
    quadrants = {
        (-1, -1): padded[:-1, :-1],
        (1, -1): padded[:-1, 1:],
        (-1, 1): padded[1:, :-1],
        (1, 1): padded[1:, 1:],
    }
    count = sum(part.astype(int) for part in quadrants.values())
    corners: list[tuple[int, int, int, int]] = []
    for (sx, sy), part in quadrants.items():
        ys, xs = np.nonzero(part & (count == 1))
        corners.extend((x, y, sx, sy) for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
    rising = quadrants[-1, -1] & quadrants[1, 1] & (count == 2)
    falling = quadrants[1, -1] & quadrants[-1, 1] & (count == 2)
    ys, xs = np.nonzero(rising | falling)
    return (
        np.array(sorted(corners), dtype=np.int64).reshape(-1, 4),
        np.stack([xs, ys], axis=1).astype(np.int64),
    )


def segments_free(a: Float64Array, b: Float64Array, boxes: Float64Array) -> BoolArray:
    """Whether each straight segment stays out of every box (separating axis test).

    Args:
        a, b: (B, 2) ends.
        boxes: (R, 4) as (x0, y0, x1, y1); touching a box from outside is free.

    Returns:
        (B,) bool.
    """
    free = np.ones(len(a), dtype=np.bool_)
    for begin in range(0, len(a), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        free[rows] = _chunk_free(a[rows], b[rows], boxes)
    return free


def _chunk_free(a: Float64Array, b: Float64Array, boxes: Float64Array) -> BoolArray:
    mid_x, mid_y = (0.5 * (a + b)).T
    half_x, half_y = (0.5 * (b - a)).T
    reach_x, reach_y = np.abs(half_x), np.abs(half_y)
    cross_mid = mid_x * half_y - mid_y * half_x
    blocked = np.zeros(len(a), dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        cx, cy, ex, ey = 0.5 * (x0 + x1), 0.5 * (y0 + y1), 0.5 * (x1 - x0), 0.5 * (y1 - y0)
        # The box and the segment overlap unless one of three axes separates them: x, y, and the
        # normal of the segment (scaled by its half length).
        hit = np.abs(mid_x - cx) < ex + reach_x
        hit &= np.abs(mid_y - cy) < ey + reach_y
        offset = cross_mid - (cx * half_y - cy * half_x)
        hit &= np.abs(offset) < ex * reach_y + ey * reach_x
        # A segment of length zero has no normal: the first two axes decide alone.
        hit |= (
            (reach_x == 0) & (reach_y == 0) & (np.abs(mid_x - cx) < ex) & (np.abs(mid_y - cy) < ey)
        )
        blocked |= hit
    return ~blocked


class VisibilityGraph:
    """Line of sight and shortest-path distances among the walls of a grid.

    Args:
        walls: (H, W) bool, row 0 at the lowest y.
        low: (2,) world coordinates of the grid's lower left corner.
        cell_size: side of a cell in world units.
        one_way: (F, 4) ``Tiles.one_way_faces``.
    """

    def __init__(
        self,
        walls: BoolArray,
        low: Float64Array,
        cell_size: float,
        one_way: npt.NDArray[np.int64] | None = None,
    ) -> None:
        rectangles = maximal_rectangles(walls)
        corners, pinches = convex_corners(walls)
        inward = np.array([TOUCH, TOUCH, -TOUCH, -TOUCH])
        plugs = np.tile(low + cell_size * pinches, (1, 2)) + np.array([-1, -1, 1, 1]) * 2 * TOUCH
        boxes = np.tile(low, 2) + cell_size * rectangles + inward
        self._boxes: Float64Array = np.concatenate([boxes, plugs])
        one_way = np.zeros((0, 4), np.int64) if one_way is None else one_way
        self._faces = [_OneWayFace(low, cell_size, *face) for face in one_way.tolist()]
        self.corners: Float64Array = low + cell_size * corners[:, :2]
        self._corner_sign = corners[:, 2:].astype(np.float64)
        self._corner_distance = self._all_pairs()

    def _all_pairs(self) -> Float64Array:
        count = len(self.corners)
        if count == 0:
            return np.zeros((0, 0))
        i, j = np.triu_indices(count, 1)
        if self._faces:
            i, j = np.concatenate([i, j]), np.concatenate([j, i])
        free = self.segment_is_free(self.corners[i], self.corners[j])
        weights = np.full((count, count), np.inf)
        weights[i[free], j[free]] = _length(self.corners[i[free]] - self.corners[j[free]])
        graph = csgraph.csgraph_from_dense(weights, null_value=np.inf)
        directed = bool(self._faces)
        return np.asarray(csgraph.shortest_path(graph, method="D", directed=directed))

    def segment_is_free(self, a: Float64Array, b: Float64Array) -> BoolArray:
        """(B,) bool: whether the segments a -> b, both (B, 2), cross no wall and no one-way face in
        the direction that it stops."""
        free = segments_free(a, b, self._boxes)
        for face in self._faces:
            free &= ~face.stops(a, b)
        return free

    def distance(self, a: Float64Array, b: Float64Array) -> Float64Array:
        """(B,) lengths of the shortest paths between free points (B, 2); inf where none is."""
        result = _length(a - b)
        hidden = np.flatnonzero(~self.segment_is_free(a, b))
        result[hidden] = self._around_corners(a[hidden], b[hidden])
        return result

    def distance_table(self, points: Float64Array) -> Float64Array:
        """(N, N) shortest-path lengths between all pairs of free points (N, 2)."""
        count = len(points)
        first_leg = _min_plus(self._to_corners(points), self._corner_distance)
        table = _min_plus(first_leg, self._from_corners(points).T)
        i, j = np.triu_indices(count, 1)
        for a, b in [(i, j), (j, i)] if self._faces else [(i, j)]:
            free = self.segment_is_free(points[a], points[b])
            straight = a[free], b[free]
            table[straight] = _length(points[straight[0]] - points[straight[1]])
            if not self._faces:
                table[straight[::-1]] = table[straight]
        np.fill_diagonal(table, 0.0)
        return table

    def _around_corners(self, a: Float64Array, b: Float64Array) -> Float64Array:
        if len(self.corners) == 0 or len(a) == 0:
            return np.full(len(a), np.inf)
        first_leg = _min_plus(self._to_corners(a), self._corner_distance)
        return np.asarray((first_leg + self._from_corners(b)).min(axis=1))

    def _from_corners(self, points: Float64Array) -> Float64Array:
        """(B, C) straight distances from the corners, as ``_to_corners``."""
        return self._to_corners(points, backwards=True) if self._faces else self._to_corners(points)

    def _to_corners(self, points: Float64Array, backwards: bool = False) -> Float64Array:
        """(B, C) straight distances to the corners a path may bend at, inf for the others."""
        offset = points[:, None, :] - self.corners
        # A shortest path touches a corner from one of the two quadrants beside its wall: from the
        # opposite quadrant everything near the corner is in sight and no bend is needed.
        side = offset * self._corner_sign
        row, corner = np.nonzero(side[..., 0] * side[..., 1] <= TOUCH)
        ends = points[row], self.corners[corner]
        free = self.segment_is_free(*(ends[::-1] if backwards else ends))
        row, corner = row[free], corner[free]
        result = np.full(offset.shape[:2], np.inf)
        result[row, corner] = _length(offset[row, corner])
        return result


class _OneWayFace:
    """A face that stops segments of one direction; its ends are at walls or at other such faces.

    Args:
        low, cell_size: as in ``VisibilityGraph``.
        x, y, axis, sign: a row of ``Tiles.one_way_faces``.
    """

    def __init__(
        self, low: Float64Array, cell_size: float, x: int, y: int, axis: int, sign: int
    ) -> None:
        self._axis, self._along, self._sign = axis, 1 - axis, sign
        self._at, begin = (low + cell_size * np.array([x, y]))[[axis, 1 - axis]]
        # No gap at the ends.
        self._low, self._high = begin - TOUCH, begin + cell_size + TOUCH

    def stops(self, a: Float64Array, b: Float64Array) -> BoolArray:
        """(B,) whether the segments a -> b, (B, 2) each, cross the face the wrong way."""
        before = self._sign * (self._at - a[:, self._axis])
        after = self._sign * (b[:, self._axis] - self._at)
        # To end on it is to cross it, too: a path might go on along the face of the wall beside.
        crosses = (before >= 0.0) & (after >= 0.0) & (before + after > 0.0)
        share = before / np.where(crosses, before + after, 1.0)
        where = a[:, self._along] + share * (b[:, self._along] - a[:, self._along])
        return np.asarray(crosses & (where > self._low) & (where < self._high))


def _length(offset: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(offset[..., 0] ** 2 + offset[..., 1] ** 2))


def _min_plus(left: Float64Array, right: Float64Array) -> Float64Array:
    """Product of (N, K) and (K, M) in the (min, +) semiring."""
    result = np.full((left.shape[0], right.shape[1]), np.inf)
    for k in range(right.shape[0]):
        rows = np.flatnonzero(np.isfinite(left[:, k]))
        result[rows] = np.minimum(result[rows], left[rows, k, None] + right[k])
    return result
