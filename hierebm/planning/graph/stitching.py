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
from hierebm.types import FloatArray, IntArray

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
    rows: list[int] = []
    goals, draws = [], []
    for row, source in enumerate(sources):
        reachable = np.flatnonzero(np.isfinite(length[row]))
        reachable = reachable[reachable != source]
        if reachable.size:
            rows += [row] * goals_per_source
            goals.append(rng.choice(reachable, size=goals_per_source))
            draws.append(rng.random((goals_per_source, 3, points_per_path)))
    if not rows:
        return BetweenTriplets.none(points.shape[1])
    paths = points[_paths(before, sources, np.array(rows), np.concatenate(goals))]
    ways = along_polylines(paths, _fractions(np.concatenate(draws)))
    # (s, w, g) of every path, one path after the other.
    ways = ways.reshape(len(rows), 3, -1, points.shape[1]).swapaxes(0, 1)
    start, between, goal = ways.reshape(3, -1, points.shape[1])
    half = np.tile(np.arange(2 * points_per_path) >= points_per_path, len(rows))
    return BetweenTriplets(start, goal, between, half)


def _paths(before: IntArray, sources: IntArray, rows: IntArray, goals: IntArray) -> IntArray:
    """(P, k) nodes of the paths from ``sources[rows]`` to goals (P,); short ones begin with their
    source several times.

    Args:
        before: (len(sources), n) the node before each one, on the way from each source.
    """
    source, path = sources[rows], [goals]
    while (path[-1] != source).any():
        at = path[-1]
        path.append(np.where(at == source, at, before[rows, at]))
    return np.stack(path[::-1], axis=1)


def _fractions(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where s, w and g lie on paths, (P, 3 * 2n): n times with w anywhere, n times half the way.

    Args:
        draws: (P, 3, n) uniform in [0, 1).
    """
    anywhere, share, begins = draws.swapaxes(0, 1)
    length = 2.0 ** (-SHORTEST_PART * share)
    begin = begins * (1.0 - length)
    s, g = np.zeros_like(anywhere), np.ones_like(anywhere)
    parts = [s, begin, anywhere, begin + length / 2.0, g, begin + length]
    return np.concatenate(parts, axis=1)


def along_polylines(points: FloatArray, fractions: NDArray[np.floating]) -> FloatArray:
    """Points at the given fractions (P, m) of the arc lengths of polylines (P, k, dim):
    (P, m, dim)."""
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    arc = np.zeros(points.shape[:2])
    np.cumsum(steps, axis=1, out=arc[:, 1:], dtype=steps.dtype)
    at = fractions * arc[:, -1:]
    row = np.arange(len(points))[:, None]
    # The piece that each point lies on.
    piece = (arc[:, None] <= at[..., None]).sum(-1) - 1
    piece = np.minimum(piece, points.shape[1] - 2)
    a, b = (points[row, end].astype(np.float64) for end in (piece, piece + 1))
    begin, end = arc[row, piece], arc[row, piece + 1]
    # In NumPy's order of operations (np.interp), bit for bit.
    before_end = at < end
    slope = (b - a) / np.where(before_end, end - begin, 1.0)[..., None]
    result = np.where(before_end[..., None], slope * (at - begin)[..., None] + a, b)
    return result.astype(np.float32)
