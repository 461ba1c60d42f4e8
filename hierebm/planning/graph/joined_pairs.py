"""Which landmarks trajectories joined, and the fewest steps between others over those pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, dijkstra

from hierebm.checkpoint.arrays import checked
from hierebm.planning.graph.doubt import CLOSED
from hierebm.types import BoolArray, FloatArray, IntArray

# Bits of a pair's key that hold its target.
TARGET_BITS = 32
# Steps that are kept of what was searched for (64 MB), or those from this many landmarks where that
# is more: a plan asks for about as many.
KEPT_STEPS, FEWEST_ROWS = 2**24, 256
# Steps searched for at once: the search needs them in double precision.
AT_ONCE = 2**21


@dataclass(frozen=True)
class JoinedPairs:
    """p ordered pairs of landmarks, each with the fewest steps that any trajectory took.

    Sorted by source and target. Takes 17 bytes a pair, and time in proportion to what is new and a
    copy of the rest to grow.
    """

    keys: IntArray
    """(p,) source and target as one number."""
    steps: FloatArray
    """(p,) fewest steps."""
    implied: BoolArray
    """(p,) whether two other pairs lead there in no more steps: shortest paths do without."""
    doubt: FloatArray
    """(p,) nats against it since a trajectory last joined the pair: see :mod:`doubt`."""

    @classmethod
    def of(
        cls, pairs: IntArray, steps: FloatArray, implied: BoolArray | None = None
    ) -> JoinedPairs:
        """Of (k, 2) pairs in any order, each as often as it was joined, in (k,) steps.

        Pairs of a landmark with itself are left out. None of them is implied if that is not known.
        """
        if implied is None:
            implied = np.zeros(len(pairs), np.bool_)
        moved = pairs[:, 0] != pairs[:, 1]
        keys = (pairs[:, 0] << TARGET_BITS | pairs[:, 1])[moved]
        steps, implied = steps[moved], implied[moved]
        order = np.lexsort((implied, steps, keys))
        keys, steps, implied = keys[order], steps[order], implied[order]
        first = np.ones(len(keys), np.bool_)
        first[1:] = keys[1:] != keys[:-1]
        doubt = np.zeros(int(first.sum()), np.float32)
        return cls(keys[first], steps[first], implied[first], doubt)

    def state_dict(self, prefix: str) -> dict[str, NDArray[Any]]:
        """What :meth:`restored` makes them again from, by names with this prefix."""
        return {
            f"{prefix}pairs": self.pairs,
            f"{prefix}steps": self.steps,
            f"{prefix}implied": self.implied,
            f"{prefix}doubt": self.doubt,
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], prefix: str, n: int) -> JoinedPairs:
        """What :meth:`state_dict` gave, of n landmarks. Raises ValueError where it is none."""
        ends = checked(arrays, f"{prefix}pairs", (None, 2), "whole numbers", low=0, high=n - 1)
        if len(ends) > n * n:
            raise ValueError(f"{len(ends)} pairs of {n} landmarks: some are there twice")
        steps = checked(arrays, f"{prefix}steps", (len(ends),), "floats", low=0.0)
        # Older files do not tell which pairs are implied, which costs time and nothing else.
        name = f"{prefix}implied"
        implied = checked(arrays, name, (len(ends),), "flags") if name in arrays else None
        result = cls.of(ends, steps, implied)
        # Nor do they tell of doubt.
        if (name := f"{prefix}doubt") not in arrays:
            return result
        doubt = checked(arrays, name, (len(ends),), "floats", low=0.0)
        # As they were given: sorted, and each of them once.
        if len(result) != len(ends):
            raise ValueError("pairs of landmarks with themselves, or there twice")
        order = np.argsort(ends[:, 0] << TARGET_BITS | ends[:, 1])
        return replace(result, doubt=doubt[order])

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def pairs(self) -> IntArray:
        """(p, 2) source and target."""
        return _pairs(self.keys)

    def merged(self, new: JoinedPairs) -> JoinedPairs:
        """These and the new ones, of equal pairs the one of fewest steps, which is not doubted
        any more."""
        at = np.searchsorted(self.keys, new.keys)
        known = np.zeros(len(new), np.bool_)
        inside = at < len(self)
        known[inside] = self.keys[at[inside]] == new.keys[inside]
        steps, implied = self.steps, self.implied
        old, again = at[known], np.flatnonzero(known)
        equal = steps[old] == new.steps[again]
        better = (new.steps[again] < steps[old]) | (equal & implied[old] & ~new.implied[again])
        if better.any():
            steps, implied = steps.copy(), implied.copy()
            steps[old[better]] = new.steps[again[better]]
            implied[old[better]] = new.implied[again[better]]
        doubt = self.doubt
        if doubt[old].any():
            doubt = doubt.copy()
            doubt[old] = 0.0
        if known.all():
            return JoinedPairs(self.keys, steps, implied, doubt)
        at, added = at[~known], ~known
        return JoinedPairs(
            np.insert(self.keys, at, new.keys[added]),
            np.insert(steps, at, new.steps[added]),
            np.insert(implied, at, new.implied[added]),
            np.insert(doubt, at, new.doubt[added]),
        )

    def leaving(self, sources: IntArray) -> tuple[IntArray, IntArray]:
        """Indices (k,) of the pairs that begin at these landmarks, and the pairs (k, 2)."""
        first = np.searchsorted(self.keys, sources << TARGET_BITS)
        last = np.searchsorted(self.keys, (sources + 1) << TARGET_BITS)
        which = np.concatenate([np.arange(0), *map(np.arange, first, last)])
        return which, _pairs(self.keys[which])

    def doubted(self, which: IntArray, nats: float) -> JoinedPairs:
        """With so much more doubt of those at these indices."""
        doubt = self.doubt.copy()
        doubt[which] += np.float32(nats)
        return replace(self, doubt=doubt)

    def graph(self, n: int, *, with_implied: bool = True) -> csr_array:
        """The pairs as edges between n landmarks, in the types that searches use, but for those
        that count as closed."""
        keys, steps = self.keys, self.steps
        left = self.doubt < CLOSED
        if not with_implied:
            left &= ~self.implied
        keys, steps = keys[left], steps[left]
        begin = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) << TARGET_BITS)
        target = (keys & (1 << TARGET_BITS) - 1).astype(np.int32)
        data = steps.astype(np.float64), target, begin.astype(np.int32)
        return csr_array(data, shape=(n, n))


def _pairs(keys: IntArray) -> IntArray:
    """(k,) -> (k, 2) source and target."""
    return np.stack([keys >> TARGET_BITS, keys & (1 << TARGET_BITS) - 1], axis=1)


class StepsBetween:
    """Fewest steps from one landmark to another over a graph, searched for when first asked.

    All of them would take time and memory in proportion to the square of the world.

    Args:
        graph: (n, n), the steps of its edges.
        limit: ways of more steps than this count as none.
    """

    def __init__(self, graph: csr_array, limit: float) -> None:
        self.graph, self._limit = graph, limit
        n = graph.shape[0]
        self.most_rows = min(n, max(KEPT_STEPS // max(n, 1), FEWEST_ROWS))
        # What was searched for: the row of a landmark in the table, or -1.
        self._row: IntArray = np.full(n, -1, np.int64)
        self._table: NDArray[np.float32] = np.empty((self.most_rows, n), np.float32)
        self._n_rows = 0

    def pairs(self, source: IntArray, target: IntArray) -> FloatArray:
        """(k,), (k,) landmarks -> (k,) steps from each source to its target; inf for no way."""
        if (rows := self._row[source]).min(initial=0) >= 0:
            return self._table[rows, target]
        result = np.empty(len(source), np.float32)
        for part in self._searched(source):
            result[part] = self._table[self._row[source[part]], target[part]]
        return result

    def grid(self, source: IntArray, target: IntArray) -> FloatArray:
        """(k,), (m,) landmarks -> (k, m) steps from every source to every target."""
        if (rows := self._row[source]).min(initial=0) >= 0:
            return self._table[rows[:, None], target]
        result = np.empty((len(source), len(target)), np.float32)
        for part in self._searched(source):
            result[part] = self._table[np.ix_(self._row[source[part]], target)]
        return result

    def leads(self, source: int, target: int) -> bool:
        """Whether there is a way, of however many steps."""
        found = breadth_first_order(self.graph, source, return_predecessors=False)
        return bool((found == target).any())

    def _searched(self, source: IntArray) -> Iterator[IntArray]:
        """Indices of the sources, part after part, each with all its rows in the table."""
        wanted, which = np.unique(source, return_inverse=True)
        for first in range(0, len(wanted), self.most_rows):
            self._search(wanted[first : first + self.most_rows])
            yield np.flatnonzero((which >= first) & (which < first + self.most_rows))

    def _search(self, wanted: IntArray) -> None:
        """Make rows of these landmarks, all different and no more than the table holds."""
        missing = wanted[self._row[wanted] < 0]
        if self._n_rows + len(missing) > self.most_rows:
            # Plans ask for what is near: what was asked for long ago will hardly be asked again.
            self._row[:], self._n_rows = -1, 0
            missing = wanted
        at_once = max(AT_ONCE // len(self._row), 1)
        for first in range(0, len(missing), at_once):
            part = missing[first : first + at_once]
            rows = np.arange(self._n_rows, self._n_rows + len(part))
            self._table[rows] = dijkstra(self.graph, indices=part, limit=self._limit)
            # In this order: an interrupt in between costs these rows of the table, no more.
            self._n_rows += len(part)
            self._row[part] = rows
