"""Recursive bisection: a point half the way, points half the way to that, and so on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hierebm.types import BoolArray, FloatArray

# A segment's middle is drawn among this many points, those of most equal Euclidean distance to its
# two ends: the energy knows the way round a wall, the distance makes sure that every half is
# shorter than the whole.
BALANCED = 128
# Of these the energy proposes this many, and experience takes the one whose longer half it knows in
# the fewest steps: over a few hops, the energy may take one side of a wall for the other.
PROPOSED = 16
# Points nearer than this to an end, as a share of the segment, are no middle.
NEAR = 0.1
# Points that are kept for the first segment while later ones are bisected beside it.
RESERVED = 4

SegmentEnergy = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""(k, m, goal_dim) points, (k, goal_dim) starts, (k, goal_dim) goals -> (k, m) energies of being
half the way."""
TooLong = Callable[[FloatArray, FloatArray], BoolArray]
"""(k, goal_dim), (k, goal_dim) -> (k,) whether a segment is to be bisected."""
LeastSteps = Callable[[FloatArray, FloatArray], FloatArray]
"""(n, goal_dim), (m, goal_dim) -> (n, m) steps that experience knows; inf where it knows no way."""


def recursive_bisection(
    start: FloatArray,
    goal: FloatArray,
    n: int,
    points: FloatArray,
    energy: SegmentEnergy,
    too_long: TooLong,
    least_steps: LeastSteps,
    rng: np.random.Generator,
) -> FloatArray:
    """Points on the way from start to goal, in order: first short hops, then unexpanded segments.

    Independent draws from E(w | s, g) leave gaps: to cover a way of k hops takes about k log k of
    them, and two draws may lie on two different ways. Here the way is bisected by a point that
    exp(-E) proposes, its halves by others. The first segment is bisected until it is short enough,
    the others only with points that it will not need: log k points are enough to set out, and where
    the hops end the rest of the way is bisected by the next plan. Segments are bisected side by
    side: with many points, a plan asks the energy log k times and not k times.

    Args:
        start, goal: (goal_dim,).
        n: points at most.
        points: (m, goal_dim) to choose from.
        energy: of being half the way, for many segments at once.
        too_long: tells which segments are to be bisected.
        least_steps: what experience knows of two points.
        rng: source of the draws: after a miss, another middle is drawn.

    Returns:
        (at most n, goal_dim).
    """
    chain = np.stack([start, goal])
    # Segments not yet asked about, and those known to be too long.
    new, long = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    while len(chain) - 2 < n:
        a, b = chain[:-1], chain[1:]
        long[new] = too_long(a[new], b[new])
        new[:] = False
        left = n - len(chain) + 2
        where = np.flatnonzero(long)[: max(1, left - RESERVED) if long[0] else left]
        if not where.size:
            break
        middle, found = _middles(a[where], b[where], points, energy, least_steps, rng)
        long[where], new[where] = False, found
        after = where[found] + 1
        chain = np.insert(chain, after, middle[found], axis=0)
        new, long = np.insert(new, after, True), np.insert(long, after, False)
    return chain[1:-1]


def _middles(
    start: FloatArray,
    goal: FloatArray,
    points: FloatArray,
    energy: SegmentEnergy,
    least_steps: LeastSteps,
    rng: np.random.Generator,
) -> tuple[FloatArray, BoolArray]:
    """(k, goal_dim) middles of k segments, and (k,) whether there are any."""
    to_start, to_goal = (
        np.linalg.norm(points[None] - end[:, None], axis=-1) for end in (start, goal)
    )
    imbalance = np.abs(to_start - to_goal)
    imbalance[np.minimum(to_start, to_goal) < NEAR * (to_start + to_goal)] = np.inf
    m = min(BALANCED, len(points))
    rows = np.argpartition(imbalance, m - 1, axis=1)[:, :m]
    choices = points[rows]
    energies = energy(choices, start, goal)
    energies = np.where(np.isfinite(np.take_along_axis(imbalance, rows, 1)), energies, np.inf)
    # The largest of -E and Gumbel noise are draws from exp(-E), each but once (Kool et al. 2019).
    noisy = energies - rng.gumbel(size=energies.shape)
    proposed = noisy.argsort(1)[:, :PROPOSED]
    segment = np.arange(len(start))
    # Where experience knows neither half, or only one, the first draw is taken.
    best = np.zeros(len(start), np.int64)
    for k, columns in enumerate(proposed):
        w = choices[k, columns]
        longer = np.maximum(least_steps(start[k, None], w)[0], least_steps(w, goal[k, None])[:, 0])
        longer[~np.isfinite(energies[k, columns])] = np.inf
        best[k] = columns[longer.argmin()]
    return choices[segment, best], np.isfinite(energies[segment, best])
