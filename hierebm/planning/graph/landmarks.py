"""Landmarks: points that cover all visited ground, each at least a spacing from the others."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hierebm.types import BoolArray, FloatArray, IntArray

# A point is near a landmark up to a distance of 1. The trees find what is nearer than a bound.
BOUND = float(np.nextafter(1.0, 2.0))

# With more axes than that, trajectories hardly ever come back to where another one was, and the map
# falls to pieces. Landmarks are then farther apart, by this factor again and again, until each
# covers this many of a thousand states: as in a plane, where experience takes about the true steps.
FEW_AXES, GROWTH, STATES_EACH, N_STATES = 3, 1.25, 15, 1000


class Landmarks:
    """Points that cover all visited ground, in units of their spacing; as many as that takes.

    Arrays are replaced and never changed: a shallow copy can grow on its own.

    Those of the last :meth:`settle` lie in one k-d tree, later ones in a small one of their own: a
    tree over all of them for every new one would cost more, the larger the world is.

    Args:
        dim: length of a point.
    """

    def __init__(self, dim: int) -> None:
        self._set(np.zeros((0, dim), np.float32), 0)

    def _set(self, points: FloatArray, n_settled: int) -> None:
        self.points, self.n_settled = points, n_settled
        self._settled, self._later = cKDTree(points[:n_settled]), cKDTree(points[n_settled:])

    def __len__(self) -> int:
        return len(self.points)

    def cover(self, points: FloatArray) -> int:
        """Add landmarks until every point (n, dim) has one near; returns how many.

        The farthest of the points comes first, then the farthest from that one too, and so on.
        """
        far = points[~self.find(points)[1]]
        gap, _ = self._query(far, np.inf)
        new: list[FloatArray] = []
        while len(far):
            farthest = int(gap.argmax())
            new.append(far[farthest])
            gap = np.minimum(gap, np.linalg.norm(far - far[farthest], axis=-1))
            left = gap > 1.0
            far, gap = far[left], gap[left]
        if new:
            self.points = np.concatenate([self.points, np.stack(new)])
            self._later = cKDTree(self.points[self.n_settled :])
        return len(new)

    def settle(self) -> None:
        """Take later landmarks into the tree of the others."""
        self._set(self.points, len(self.points))

    def restore(self, points: FloatArray, n_settled: int) -> None:
        """Be these points (n, dim), the first ``n_settled`` of them settled."""
        self._set(points, n_settled)

    def nearest(self, points: FloatArray) -> IntArray:
        """(n, dim) -> (n,) the nearest landmark, however far; there has to be one."""
        index, near = self.find(points)
        # In many dimensions, what is near is found far faster.
        if not near.all():
            index[~near] = self._query(points[~near], np.inf)[1]
        return index

    def find(self, points: FloatArray) -> tuple[IntArray, BoolArray]:
        """(n, dim) -> (n,) the nearest landmark, and (n,) whether it is near: 0 where none is."""
        gap, index = self._query(points, BOUND)
        near = gap <= 1.0
        return np.where(near, index, 0), near

    def find_settled(self, points: FloatArray) -> tuple[IntArray, BoolArray]:
        """:meth:`find` among those of the last :meth:`settle` alone."""
        gap, index = self._settled.query(points, distance_upper_bound=BOUND)
        near = np.asarray(gap <= 1.0)
        return np.where(near, index, 0), near

    def _query(self, points: FloatArray, bound: float) -> tuple[FloatArray, IntArray]:
        gap, index = self._settled.query(points, distance_upper_bound=bound)
        if self.n_settled < len(self.points):
            later_gap, later = self._later.query(points, distance_upper_bound=bound)
            is_later = later_gap < gap
            gap = np.where(is_later, later_gap, gap)
            index = np.where(is_later, later + self.n_settled, index)
        return np.asarray(gap), np.asarray(index, np.int64)


def coarseness_of(points: FloatArray) -> float:
    """Times that landmarks should be farther apart than the first points (n, goal_dim) have it."""
    result = 1.0
    if points.shape[1] <= FEW_AXES:
        return result
    sample = points[np.linspace(0, len(points) - 1, min(len(points), N_STATES)).astype(np.int64)]
    # Fewer states have fewer landmarks, about as the square root of their number.
    most = N_STATES / STATES_EACH * (len(sample) / N_STATES) ** 0.5
    while Landmarks(points.shape[1]).cover(sample / np.float32(result)) > most:
        result *= GROWTH
    return result
