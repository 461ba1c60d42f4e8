"""Laying a chain of subgoals by halving: what lies between, then what lies between that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hierebm.replay.episodes import FloatArray

# A segment's middle is chosen among this many points, those most nearly as far from its one end as
# from the other.
BALANCED = 64
# Points nearer than this to an end, as a share of the segment, halve nothing.
NEAR = 0.1

SegmentEnergy = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""(k, m, goal_dim) points, (k, goal_dim) starts, (k, goal_dim) goals -> (k, m) energies."""
SegmentSteps = Callable[[FloatArray, FloatArray], FloatArray]
"""(k, goal_dim), (k, goal_dim) -> (k,) predicted steps."""


def lay_chain(
    start: FloatArray,
    goal: FloatArray,
    n: int,
    points: FloatArray,
    energy: SegmentEnergy,
    steps: SegmentSteps,
    above: float,
) -> FloatArray:
    """Points on the way from start to goal, in order, no more than ``above`` steps apart.

    Independent draws from E(w | s, g) leave gaps: to cover a way of k hops takes about k log k of
    them, and two draws may lie on two different ways. Here the way is halved by a point of low
    E(w | s, g), its halves by E(w | s, w1) and E(w | w1, g), and so on, longest segments first.

    Args:
        start, goal: (goal_dim,).
        n: points at most.
        points: (m, goal_dim) to choose from.
        energy: E(w | s, g) of many segments at once.
        steps: tells which segments are too long still.
        above: segments of more steps are halved.

    Returns:
        (at most n, goal_dim).
    """
    chain = np.stack([start, goal])
    length = np.full(1, np.nan, np.float32)
    while len(chain) - 2 < n:
        a, b = chain[:-1], chain[1:]
        new = np.isnan(length)
        length[new] = steps(a[new], b[new])
        # Predictions saturate: of those, the one that is longest as the crow flies.
        order = np.lexsort((-np.linalg.norm(b - a, axis=-1), -length))[: n - len(chain) + 2]
        long = np.sort(order[length[order] > above])
        if not long.size:
            break
        middle, found = _middles(a[long], b[long], points, energy)
        length[long] = np.where(found, np.nan, 0.0)
        chain = np.insert(chain, long[found] + 1, middle[found], axis=0)
        length = np.insert(length, long[found] + 1, np.nan)
    return chain[1:-1]


def _middles(
    start: FloatArray, goal: FloatArray, points: FloatArray, energy: SegmentEnergy
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(k, goal_dim) the likeliest middles of k segments, and (k,) whether there are any."""
    to_start, to_goal = (
        np.linalg.norm(points[None] - end[:, None], axis=-1) for end in (start, goal)
    )
    imbalance = np.abs(to_start - to_goal)
    imbalance[np.minimum(to_start, to_goal) < NEAR * (to_start + to_goal)] = np.inf
    k = min(BALANCED, len(points))
    rows = np.argpartition(imbalance, k - 1, axis=1)[:, :k]
    choices = points[rows]
    energies = energy(choices, start, goal)
    energies = np.where(np.isfinite(np.take_along_axis(imbalance, rows, 1)), energies, np.inf)
    best = energies.argmin(1)
    picked = np.arange(len(start)), best
    return choices[picked], np.isfinite(energies[picked])
