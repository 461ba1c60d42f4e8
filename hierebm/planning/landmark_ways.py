"""Ways over landmarks that plans begin along: where trajectories led, elsewhere at a price.

The energy of a sequence is a sum: over a hundred states, a way round costs more than one step
through a wall, whatever that costs. So ways are first looked for where hops that trajectories took
cost their steps, and all others far more: a sequence that is relaxed around such a way stays on
its side of the walls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from hierebm.planning.closed_loop_plan import Failed
from hierebm.planning.failures import has_failed
from hierebm.planning.graph.subgoal_graph import ALIKE
from hierebm.types import BoolArray, FloatArray, IntArray

# Landmarks near each, to which hops that no trajectory took are thought of.
NEIGHBOURS = 16
# Steps that a hop costs more that goes where a try failed, for each of the tries.
FAILED_COST = 40.0
# A hop that a trajectory took costs its length in steps, but by rounding to landmarks no more than
# that many less than the trajectory took, and no more than that many more.
LESS, MORE = 4.0, 2.0
# Of several ways, all but the first are the shortest after all hops became longer by up to this
# share (perturb and MAP, Papandreou & Yuille 2011).
PERTURBED = 0.3
# The search takes a cost of 0 for no hop.
LEAST_COST = 1e-6

Price = Callable[[FloatArray, FloatArray], tuple[FloatArray, BoolArray]]
"""(n, D), (n, D) -> (n,) steps that count for hops that no trajectory took, and (n,) whether they
are known to lead there all the same."""
Points = NDArray[np.floating]


@dataclass(frozen=True)
class Way:
    """Points (m, D) from start to end, and whether experience leads along all of it."""

    points: FloatArray
    is_verified: bool


class LandmarkWays:
    """Finds ways over n landmarks.

    Args:
        points: (n, D) landmarks, world units.
        steps: (n, n) the fewest steps that trajectories took from one to the other, sparse.
        spacing: (D,) a point is at a landmark within this distance, along axes as in a ball.
        step_scale: (D,) how far one step at full speed goes.
        price: of other hops.
    """

    def __init__(
        self,
        points: FloatArray,
        steps: csr_array,
        spacing: FloatArray,
        step_scale: FloatArray,
        price: Price,
    ) -> None:
        self.points, self._spacing, self._step_scale = points, spacing, step_scale
        self._price = price
        self._tree = cKDTree(points / spacing)
        row, column = steps.nonzero()
        taken = np.asarray(steps[row, column], np.float64).ravel()
        lengths = np.linalg.norm((points[column] - points[row]) / step_scale, axis=1)
        i, j = self._near(points)
        other = np.asarray(steps[i, j]).ravel() == 0
        other &= i != j
        i, j = i[other], j[other]
        asked, leads = price(points[i], points[j])
        row, column = np.concatenate([row, i]), np.concatenate([column, j])
        order = np.argsort(row, kind="stable")
        self._column = column[order].astype(np.int32)
        self._begin = np.searchsorted(row[order], np.arange(len(points) + 1)).astype(np.int32)
        # Roundings to landmarks would make ways zigzag along hops that look fast.
        self._cost = np.concatenate([np.clip(lengths, taken - LESS, taken + MORE), asked])[order]
        self._leads = np.concatenate([np.ones(len(taken), np.bool_), leads])[order]

    def _near(self, points: FloatArray) -> tuple[IntArray, IntArray]:
        """Pairs of these points (m, D) and landmarks near them, as two lists of indices."""
        k = min(NEIGHBOURS, len(self.points))
        _, near = self._tree.query(points / self._spacing, k=k)
        return np.repeat(np.arange(len(points)), k), np.asarray(near).reshape(-1)

    def find(
        self,
        start: FloatArray,
        end: FloatArray,
        failed: Failed,
        n: int,
        rng: np.random.Generator,
    ) -> list[Way]:
        """The shortest way from start (D,) to end (D,), and n - 1 others that are nearly as short.

        Args:
            failed: (from, to) of points (D,) that were missed: hops to there in the same direction,
                and from the start as such a try went, count as longer.
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
        # The straight line is asked about with them.
        asked, leads = self._price(np.vstack([before, start]), np.vstack([after, end]))
        cost, straight, straight_leads = asked[:-1], asked[-1], bool(leads[-1])
        cost = np.where(at_landmark[which], 1e-3, cost)
        # From landmarks, then from the start, then what leads to the end.
        column = np.concatenate([self._column, near[is_start].astype(np.int32)])
        costs = np.concatenate([self._cost, cost[is_start]]) + LEAST_COST
        begin = np.append(self._begin, np.int32(len(column)))
        last = np.full(m + 1, np.inf)
        last[near[~is_start]], last[m] = cost[~is_start], straight
        if failed:
            points = np.concatenate([self.points, start[None]])
            rows = np.repeat(np.arange(m + 1), np.diff(begin))
            # What is at a landmark leaves from where it is.
            leaves = np.append(np.arange(m) == nearest[0], True)
            costs += self._again(points[rows], points[column], failed)
            hops = np.flatnonzero(leaves[rows])
            again = has_failed(start, points[column[hops]], failed, self._step_scale)
            costs[hops] += FAILED_COST * again
            last += self._again(points, np.repeat(end[None], m + 1, 0), failed)
            last[leaves] += FAILED_COST * has_failed(start, end[None], failed, self._step_scale)
        ways = []
        for i in range(n):
            factor = 1.0 if i == 0 else 1.0 + PERTURBED * rng.random(len(costs))
            graph = csr_array((costs * factor, column, begin), shape=(m + 1, m + 1))
            total, previous = dijkstra(graph, indices=m, return_predecessors=True)
            at = [int((total + last).argmin())]
            while at[-1] != m:
                at.append(int(previous[at[-1]]))
            over = np.array(at[-2::-1], np.int64)
            ways.append(self._way(both, over, at_landmark, straight_leads))
        return ways

    def _again(self, before: Points, after: Points, failed: Failed) -> NDArray[np.float64]:
        """(n,) what hops (n, D) -> (n, D) cost more that go again where tries failed."""
        more = np.zeros(len(before))
        for source, missed in failed:
            alike = (np.abs(after - missed) <= ALIKE * self._step_scale).all(axis=1)
            along = (after - before) / self._spacing @ ((missed - source) / self._spacing)
            # From elsewhere the same point may well be reached.
            more[alike & (along >= 0.0)] += FAILED_COST
        return more

    def _way(
        self, both: FloatArray, inner: IntArray, at_landmark: BoolArray, straight_leads: bool
    ) -> Way:
        """The way from start to end over these landmarks, straight if there are none."""
        verified = bool(at_landmark.all()) if len(inner) else straight_leads
        for i, j in pairwise(inner.tolist()):
            hops = slice(self._begin[i], self._begin[i + 1])
            verified = verified and bool(self._leads[hops][self._column[hops] == j].any())
        # What is at a landmark need not go there first.
        between = inner[int(at_landmark[0]) : len(inner) - int(at_landmark[1])]
        points: FloatArray = np.concatenate([both[:1], self.points[between], both[1:]])
        return Way(points, verified)
