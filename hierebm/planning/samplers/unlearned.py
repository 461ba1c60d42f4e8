"""Samplers that do not learn: baselines whose nodes ignore where start and goal are."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import SubgoalSampler, farthest_points
from hierebm.types import FloatArray, IntArray


class ReplaySampler(SubgoalSampler):
    """Stored states drawn uniformly, wherever start and goal are.

    Search on the replay buffer (Eysenbach et al. 2019, arXiv 1906.05253).
    """

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`."""
        return pool.random_nodes(n, rng)


class FarthestPointSampler(SubgoalSampler):
    """Stored states spread evenly over everything visited, wherever start and goal are."""

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`."""
        points = pool.achieved_goal
        rows = farthest_points(points, n, first=int(rng.integers(len(pool))))
        return pool.nodes_at(points[rows])


class UniformSampler(SubgoalSampler):
    """Points drawn uniformly from the box around everything visited, inside walls or not.

    What is left of the idea without any experience: the floor that other samplers have to beat.
    """

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`."""
        low, high = pool.achieved_goal.min(0), pool.achieved_goal.max(0)
        return pool.nodes_at(rng.uniform(low, high, (n, len(low))).astype(np.float32))


class KMeansSampler(SubgoalSampler):
    """The stored states nearest to the centres of k-means, the same for every query.

    As landmarks in Huang et al. 2019 (arXiv 1908.05451) and L3P (arXiv 2011.12491). The centres
    are computed once for a pool and a number, so that a query costs nothing but its graph.

    Args:
        iterations: of Lloyd's algorithm, at most.
    """

    def __init__(self, iterations: int = 20) -> None:
        self.iterations = iterations
        self._cached: tuple[NodePool, int, Nodes] | None = None

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`."""
        if self._cached is None or self._cached[0] is not pool or self._cached[1] != n:
            rows = medoids(pool.achieved_goal, n, self.iterations, np.random.default_rng(0))
            self._cached = pool, n, pool.nodes_at(pool.achieved_goal[rows])
        return self._cached[2]


def medoids(points: FloatArray, n: int, iterations: int, rng: np.random.Generator) -> IntArray:
    """Rows of the points nearest to n centres of k-means; fewer where two centres share a point.

    k-means++ start (Arthur & Vassilvitskii 2007), Lloyd's iterations.

    Args:
        points: (m, dim).
        n: number of centres; more than m count as m.
        iterations: at most this many.
        rng: source of the start.
    """
    n = min(n, len(points))
    centres = points[_plus_plus(points, n, rng)].astype(np.float64)
    nearest = np.full(len(points), -1)
    for _ in range(iterations):
        _, assigned = cKDTree(centres).query(points)
        if np.array_equal(assigned, nearest):
            break
        nearest = assigned
        members = np.bincount(nearest, minlength=n)
        sums = np.stack([np.bincount(nearest, column, n) for column in points.T], axis=-1)
        # A centre that lost its last point stays where it is.
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    _, rows = cKDTree(points).query(centres)
    return np.unique(rows)


def _plus_plus(points: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    chosen = np.empty(n, np.int64)
    chosen[0] = rng.integers(len(points))
    squared = np.full(len(points), np.inf)
    for k in range(1, n):
        np.minimum(squared, np.square(points - points[chosen[k - 1]]).sum(-1), out=squared)
        total = squared.sum()
        # Fewer different points than centres: any will do.
        p = squared / total if total > 0 else None
        chosen[k] = rng.choice(len(points), p=p)
    return chosen
