"""Ways over landmarks that sequences begin along: where trajectories led, elsewhere at a price.

The energy of a sequence is a sum: over a hundred states, a way round costs more than one step
through a wall, whatever that costs. So ways are first looked for where hops that trajectories took
cost their steps, and all others far more: a sequence that is relaxed around such a way stays on
its side of the walls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from hierebm.types import BoolArray, FloatArray, IntArray

# Landmarks near each, to which hops that no trajectory took are thought of.
NEIGHBOURS = 16
# Steps that a hop costs more that goes where a try failed, for each of the tries.
FAILED_COST = 40.0
# Of several ways, all but the first are the shortest after all hops became longer by up to this
# share (perturb and MAP, Papandreou & Yuille 2011).
PERTURBED = 0.3

Price = Callable[[FloatArray, FloatArray], FloatArray]
"""(n, D), (n, D) -> (n,) steps that count for hops that no trajectory took."""


@dataclass(frozen=True)
class Way:
    """Points (m, D) from start to end, and whether trajectories led over all of it."""

    points: FloatArray
    is_verified: bool


class LandmarkWays:
    """Finds ways over n landmarks.

    Args:
        points: (n, D) landmarks, world units.
        steps: (n, n) the fewest steps that trajectories took from one to the other, sparse.
        spacing: (D,) a point is at a landmark within this distance, along axes as in a ball.
        price: of other hops.
    """

    def __init__(
        self, points: FloatArray, steps: csr_array, spacing: FloatArray, price: Price
    ) -> None:
        self.points, self._steps, self._spacing, self._price = points, steps, spacing, price
        self._tree = cKDTree(points / spacing)
        row, column = steps.nonzero()
        i, j = self._near(points)
        other = np.asarray(steps[i, j]).ravel() == 0
        other &= i != j
        i, j = i[other], j[other]
        self._row, self._column = np.concatenate([row, i]), np.concatenate([column, j])
        known = np.asarray(steps[row, column], np.float64).ravel()
        self._cost = np.concatenate([known, price(points[i], points[j])])

    def _near(self, points: FloatArray) -> tuple[IntArray, IntArray]:
        """Pairs of these points (m, D) and landmarks near them, as two lists of indices."""
        k = min(NEIGHBOURS, len(self.points))
        _, near = self._tree.query(points / self._spacing, k=k)
        return np.repeat(np.arange(len(points)), k), np.asarray(near).reshape(-1)

    def find(
        self,
        start: FloatArray,
        end: FloatArray,
        failed: Sequence[tuple[FloatArray, FloatArray]],
        margin: FloatArray,
        n: int,
        rng: np.random.Generator,
    ) -> list[Way]:
        """The shortest way from start (D,) to end (D,), and n - 1 others that are nearly as short.

        Args:
            failed: (from, to) of points (D,) that were missed: hops to there in the same direction
                count as longer.
            margin: (D,) how near a hop has to end.
            n: some of the ways may be the same.
            rng: source of the perturbations.
        """
        m, both = len(self.points), np.stack([start, end])
        which, near = self._near(both)
        gap, nearest = self._tree.query(both / self._spacing)
        at_landmark = gap <= 1.0
        # A point at a landmark is the landmark; any other is joined at a price.
        keep = np.where(at_landmark[which], near == nearest[which], True)
        which, near = which[keep], near[keep]
        is_start = which == 0
        before = np.where(is_start[:, None], start, self.points[near])
        after = np.where(is_start[:, None], self.points[near], end)
        cost = np.where(at_landmark[which], 1e-3, self._price(before, after))
        row = np.concatenate([self._row, np.where(is_start, m, near), [m]])
        column = np.concatenate([self._column, np.where(is_start, near, m + 1), [m + 1]])
        straight = self._price(start[None], end[None])
        costs = np.concatenate([self._cost, cost, straight]) + 1e-6
        everything = np.concatenate([self.points, both]) / self._spacing
        for source, missed in failed:
            gaps = np.abs(everything * self._spacing - missed)
            alike = np.flatnonzero((gaps <= margin).all(axis=1))
            hops = np.flatnonzero(np.isin(column, alike))
            moves = everything[column[hops]] - everything[row[hops]]
            # From elsewhere the same point may well be reached.
            again = hops[moves @ ((missed - source) / self._spacing) >= 0.0]
            costs[again] += FAILED_COST
        ways = []
        for i in range(n):
            factor = 1.0 if i == 0 else 1.0 + PERTURBED * rng.random(len(costs))
            graph = coo_array((costs * factor, (row, column)), shape=(m + 2, m + 2)).tocsr()
            _, previous = dijkstra(graph, indices=m, return_predecessors=True)
            ways.append(self._way(both, previous, at_landmark))
        return ways

    def _way(self, both: FloatArray, previous: NDArray[np.int32], at_landmark: BoolArray) -> Way:
        """The way from start to end that predecessors tell."""
        m = len(self.points)
        found = [int(previous[m + 1])]
        while found[-1] != m:
            found.append(int(previous[found[-1]]))
        inner = np.array(found[-2::-1], np.int64)
        verified = bool(len(inner)) and bool(at_landmark.all())
        if verified and len(inner) > 1:
            verified = bool((np.asarray(self._steps[inner[:-1], inner[1:]]) > 0).all())
        # What is at a landmark need not go there first.
        between = inner[int(at_landmark[0]) : len(inner) - int(at_landmark[1])]
        points: FloatArray = np.concatenate([both[:1], self.points[between], both[1:]])
        return Way(points, verified)
