"""A few of many points, well spread: farthest points, k-means++ and the medoids of k-means.

Which of many candidates become the nodes of a graph. All work on NumPy arrays: the points are few
(hundreds to thousands, in a few dimensions) and are chosen one after the other, so that the cost is
that of many small operations, which NumPy starts several times faster than PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial import cKDTree

from hierebm.types import FloatArray, IntArray

# Entries up to which distances of all pairs are computed at once: three times as fast as one call
# after the other for 64 of 256 points, while they fit the cache.
AT_ONCE = 2**18


def farthest_points(points: FloatArray, n: int, first: int | Sequence[int]) -> IntArray:
    """Indices of n points, each the farthest from those before it.

    Gonzalez 1985 (a 2-approximation of the k-centre problem). Among candidates resampled by
    exp(-E) it trades fidelity to the density for even spacing: what the nodes of a graph need.

    Args:
        points: (m, dim); distances are Euclidean, so divide by a scale where units differ.
        n: how many; more than m count as m.
        first: index, or indices, to begin with.

    Returns:
        (n,) int64, in the order of choice; all different where those given are.

    Raises:
        ValueError: n < 1.
    """
    return _spread(points, n, first, lambda squared: int(squared.argmax()))


def kmeans_plus_plus(
    points: FloatArray, n: int, first: int | Sequence[int], rng: np.random.Generator
) -> IntArray:
    """Indices of n points, each drawn with probability ~ squared distance to those before it.

    The start of k-means++ (Arthur & Vassilvitskii 2007). Between plain draws and
    ``farthest_points``: spread out, yet dense where the points are. Arguments and result as for
    ``farthest_points``, with ``rng`` the source of the draws.
    """

    def draw(squared: FloatArray) -> int:
        weight = np.maximum(squared, 0.0, dtype=np.float64)
        total = weight.sum()
        if total > 0:
            return int(rng.choice(len(points), p=weight / total))
        # Every point that is left coincides with a chosen one: any will do.
        return int(rng.choice(np.flatnonzero(squared >= 0)))

    return _spread(points, n, first, draw)


def kmeans_medoids(
    points: FloatArray, n: int, iterations: int, rng: np.random.Generator
) -> IntArray:
    """Indices of the points nearest to n centres of k-means; fewer where centres share a point.

    k-means++ start, then Lloyd's iterations (Lloyd 1982).

    Args:
        points: (m, dim).
        n: number of centres; more than m count as m.
        iterations: at most this many.
        rng: source of the start.

    Returns:
        (at most n,) int64, ascending.
    """
    n = min(n, len(points))
    start = kmeans_plus_plus(points, n, int(rng.integers(len(points))), rng)
    centres = points[start].astype(np.float64)
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


def _spread(
    points: FloatArray, n: int, first: int | Sequence[int], choose: Callable[[FloatArray], int]
) -> IntArray:
    """Choose one index after the other from the squared distances (m,) to the chosen points."""
    if n < 1:
        raise ValueError(f"cannot choose n={n} of {len(points)} points: n must be at least 1")
    n, given = min(n, len(points)), np.atleast_1d(np.asarray(first, np.int64))[:n]
    chosen = np.empty(n, np.int64)
    chosen[: len(given)] = given
    away = _squares(points)
    squared = np.square(points[:, None] - points[given]).sum(-1).min(1)
    # Below zero: chosen. So no index appears twice, even where points coincide.
    squared[given] = -1.0
    for k in range(len(given), n):
        chosen[k] = choose(squared)
        np.minimum(squared, away(int(chosen[k])), out=squared)
        squared[chosen[k]] = -1.0
    return chosen


def _squares(points: FloatArray) -> Callable[[int], FloatArray]:
    """From an index, the squared distances (m,) of points (m, dim) to that point."""
    m, dim = points.shape
    if m * m * dim > AT_ONCE:
        return lambda k: np.square(points - points[k]).sum(-1)
    table = np.zeros((m, m), points.dtype)
    for along in points.T:
        apart = np.subtract.outer(along, along)
        table += np.square(apart, out=apart)
    return lambda k: table[k]
