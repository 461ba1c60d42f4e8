"""The pace of the ground: how much of what actions should move the achieved goal moves it there.

On ice, in mud and against the wind the same actions get less far. How much less is told by every
step that was taken there, whatever it was for, and long before it shows in which edges were tried:
by least squares, landmark by landmark, steps are a share of what the same actions do elsewhere,
plus a drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.checkpoint.arrays import checked
from hierebm.types import LARGEST, FloatArray, IntArray

# The prior of a landmark, as so many steps that were taken at the mean pace, without a drift.
PRIOR = 2.0
# Paces are measured against that of the ground on which this share of the steps was slower.
FIRM = 0.8
# No ground is taken for slower or faster than this many times the firm ground.
SLOWEST, FASTEST = 0.1, 2.0
# Steps farther than this many at full speed are jumps, which no action explains.
JUMP = 3.0

_SUMS = ("count", "should", "did", "commanded", "moved")


class Pace:
    """Sums over the steps that began at each landmark. Arrays are replaced and never changed.

    Args:
        dim: length of a point of goal space.
    """

    def __init__(self, dim: int) -> None:
        # (n,) steps, and their sums of commanded * commanded and commanded * moved; (n, dim) sums.
        self.count, self.should, self.did = (np.zeros(0) for _ in range(3))
        self.commanded, self.moved = np.zeros((0, dim)), np.zeros((0, dim))

    def added(
        self, at: IntArray, n: int, commanded: NDArray[np.float64], moved: FloatArray
    ) -> Pace:
        """This one and so many steps more, as another object.

        Args:
            at: (m,) landmarks where the steps began, of n.
            commanded: (m, dim) full-speed steps that the actions add on the mean of all ground.
            moved: (m, dim) how far they went.
        """
        is_step = np.abs(moved).max(1, initial=0.0) <= JUMP
        at, commanded, moved = at[is_step], commanded[is_step], moved[is_step]
        result = Pace(commanded.shape[1])
        for name, values in {
            "count": np.ones(len(at)),
            "should": (commanded**2).sum(1),
            "did": (commanded * moved).sum(1),
        }.items():
            vars(result)[name] = _longer(getattr(self, name), n) + np.bincount(at, values, n)
        for name, vectors in (("commanded", commanded), ("moved", moved.astype(np.float64))):
            sums = [np.bincount(at, column, n) for column in vectors.T]
            vars(result)[name] = _longer(getattr(self, name), n) + np.stack(sums, axis=1)
        return result

    def speeds(self, at: IntArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(m,) how much of the firm ground's pace each of the landmarks (m,) has, and (m, dim) its
        drift in full-speed steps a step; ground where no step began is firm."""
        speed, drift = self._speeds
        # The last one stands for landmarks of which nothing is told.
        known = np.minimum(at, len(speed) - 1)
        return speed[known], drift[known]

    @cached_property
    def _speeds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """:meth:`speeds` of all landmarks, and of one of which nothing is told."""
        total, dim = self.count.sum(), self.moved.shape[1]
        if not total:
            return np.ones(1), np.zeros((1, dim))
        weight = PRIOR * self.should.sum() / total
        # Without any effect of actions, there is nothing to be slower than.
        gain = (self.did + weight + 1e-9) / (self.should + weight + 1e-9)
        drift = (self.moved - gain[:, None] * self.commanded) / (self.count + PRIOR)[:, None]
        order = np.argsort(gain, kind="stable")
        reached = np.cumsum(self.count[order])
        firm = gain[order[np.searchsorted(reached, FIRM * total)]]
        speed = np.append(gain / max(float(firm), 1e-3), 1.0)
        return speed, _longer(drift, len(speed))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`restored` makes it again from."""
        return {name: getattr(self, name) for name in _SUMS}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], n: int, dim: int) -> Pace:
        """What :meth:`state_dict` gave, of n landmarks. Raises ValueError where it is none."""
        result = cls(dim)
        # The latest landmarks may be those of steps that were not counted yet.
        n = min(n, len(checked(arrays, "count", (None,))))
        for name in _SUMS:
            shape = (n, dim) if name in ("commanded", "moved") else (n,)
            low = 0.0 if name in ("count", "should") else -LARGEST
            vars(result)[name] = checked(arrays, name, shape, low=low).astype(np.float64)
        return result


def _longer(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """What there is of landmarks, with zeros for new ones, n in all."""
    result = np.zeros((n, *sums.shape[1:]))
    result[: len(sums)] = sums
    return result
