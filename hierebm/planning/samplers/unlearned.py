"""Samplers that do not learn: baselines whose nodes ignore where start and goal are."""

from __future__ import annotations

import numpy as np

from hierebm.energy.point_selection import farthest_points, kmeans_medoids
from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.types import FloatArray


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
            rows = kmeans_medoids(pool.achieved_goal, n, self.iterations, np.random.default_rng(0))
            self._cached = pool, n, pool.nodes_at(pool.achieved_goal[rows])
        return self._cached[2]
