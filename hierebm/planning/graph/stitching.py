"""Stitched positives: shortest paths over replay states are trajectories between any two of them.

Behaviour rarely goes straight from s to g, and never between states of different episodes. A graph
over stored states, joined by the low level's distances, does both; its paths teach the energy
E(w | s, g) where the way leads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray

# Parts of a path are at least 2 to the minus this power of its length.
SHORTEST_PART = 1.0


def stitched_between(
    pool: NodePool,
    edges: EdgeRules,
    rng: np.random.Generator,
    *,
    n_nodes: int = 1000,
    n_sources: int = 50,
    goals_per_source: int = 20,
    points_per_path: int = 8,
) -> BetweenTriplets:
    """Triplets (s, g, w) with w uniform in arc length on the shortest path from s to g.

    Every path gives as many more with w half the way, on parts of the path of all lengths: a part
    of a shortest path is one.

    Args:
        pool: stored states; ``n_nodes`` of them become the graph's nodes.
        edges: how the nodes are joined.
        rng: source of all draws.
        n_sources, goals_per_source, points_per_path: how many triplets to draw from this graph;
            pairs without a path give none.
    """
    nodes = pool.random_nodes(n_nodes, rng)
    points = nodes.achieved_goal
    i, j = edges.candidate_pairs(points, points)
    cost = edges.cost(*edges.evaluate(nodes.observation[i], points[i], points[j]))
    edge = np.isfinite(cost)
    graph = csr_array((cost[edge], (i[edge], j[edge])), shape=(len(points), len(points)))

    sources = rng.choice(len(points), size=min(n_sources, len(points)), replace=False)
    length, before = dijkstra(graph, indices=sources, return_predecessors=True)
    ways = []
    for row, source in enumerate(sources):
        reachable = np.flatnonzero(np.isfinite(length[row]))
        reachable = reachable[reachable != source]
        if not reachable.size:
            continue
        for goal in rng.choice(reachable, size=goals_per_source):
            path = [int(goal)]
            while path[-1] != source:
                path.append(int(before[row, path[-1]]))
            ways.append(_ways(points[path[::-1]], points_per_path, rng))
    if not ways:
        return BetweenTriplets.none(points.shape[1])
    start, between, goal = np.concatenate(ways, axis=1)
    half = np.tile(np.arange(2 * points_per_path) >= points_per_path, len(ways))
    return BetweenTriplets(start, goal, between, half)


def _ways(path: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """(3, 2n, dim) s, w and g on a path (k, dim): n with w anywhere, n with w half the way."""
    anywhere = np.stack([np.zeros(n), rng.random(n), np.ones(n)])
    length = 2.0 ** -rng.uniform(0.0, SHORTEST_PART, n)
    begin = rng.random(n) * (1.0 - length)
    halfway = np.stack([begin, begin + length / 2.0, begin + length])
    fractions = np.concatenate([anywhere, halfway], axis=1)
    return along_polyline(path, fractions.ravel()).reshape(3, 2 * n, -1)


def along_polyline(points: FloatArray, fractions: NDArray[np.floating]) -> FloatArray:
    """Points at the given fractions (m,) of the arc length of a polyline (k, dim): (m, dim)."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    at = fractions * arc[-1]
    return np.stack([np.interp(at, arc, column) for column in points.T], -1).astype(np.float32)
