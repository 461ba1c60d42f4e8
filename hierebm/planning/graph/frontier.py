"""The way to the frontier: ground that was rarely visited, along what trajectories joined."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from hierebm.types import FloatArray, IntArray


def way_to_frontier(
    graph: csr_array, visits: IntArray, here: int, max_hop: float, rng: np.random.Generator
) -> tuple[IntArray, FloatArray] | None:
    """The way to a landmark that is drawn in inverse proportion to its visits.

    Args:
        graph: (n, n) the fewest steps between landmarks that were joined.
        visits: (n,) of each landmark.
        here: the landmark where it begins.
        max_hop: steps from one landmark of the way to the next, where it can be so.
        rng: source of the draw.

    Returns:
        (m,) landmarks of the way, and (m,) the steps to each from the one before; None where no
        way leads anywhere.
    """
    steps, before = dijkstra(graph, indices=here, return_predecessors=True)
    known = np.flatnonzero(np.isfinite(steps) & (steps > 0))
    if not known.size:
        return None
    chance = 1.0 / np.maximum(visits[known], 1)
    way = [int(rng.choice(known, p=chance / chance.sum()))]
    while (previous := int(before[way[-1]])) != here:
        way.append(previous)
    way.reverse()
    # The farthest landmark of each hop.
    at = steps[way]
    hops, last = [], 0.0
    for i in range(len(way)):
        if i + 1 == len(way) or at[i + 1] - last > max_hop:
            hops.append(i)
            last = at[i]
    return np.array(way)[hops], np.diff(at[hops], prepend=0.0).astype(np.float32)
