"""Visited ground: replayed states with visited ground all around them, and ways over those.

A transition of k steps really can go round a corner that the straight line from state to state
clips. So a finished plan is laid out again over visited ground: straight pieces cost their length
where they run along *inner* states, around which every direction was visited up to a margin, more
along other replayed states, and far more where nothing was ever visited. The cheapest way over the
planned states and inner ones near them is short, straight, and keeps clear of whatever was never
visited. No walls are known, and none asked for.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hierebm.planning.sequence.chains import evenly
from hierebm.planning.sequence.rates import Rates
from hierebm.types import BoolArray, FloatArray

Floats = NDArray[np.floating]

# Lengths are in units: rms transitions along each axis.
# Of states that are nearer to each other than about this, one is kept.
THINNED = 0.1
# An inner state has visited ground at a distance all around, up to a gap: it is at least the
# difference away from what cannot be visited. Looks of (distance, gap, what a unit of length counts
# as), the widest first: that one is for ground of which little was visited yet, and sees over thin
# walls; the last keeps farthest away from corners, where ground was visited densely.
LOOKS = ((1.0, 0.6, 2.0), (0.85, 0.5, 1.3), (0.7, 0.28, 1.0))
# Ground is seen up to this gap around a replayed state.
SEEN = 0.4
# Straight pieces are looked at at points that far apart.
ALONG = 0.25
# Up to this gap it is taken for likely.
NEAR = 0.6
# What a unit of length counts as elsewhere: along other replayed states, up to NEAR away from them,
# and farther.
SEEN_COST, NEAR_COST, UNSEEN_COST = 4.0, 12.0, 50.0
# Directions that are looked in.
DIRECTIONS = 16
# A state is moved no farther than this.
FARTHEST_MOVE = 1.0
# Units between the states of a plan while it is laid out, and how many of them a straight piece may
# do without.
APART, SKIPPED = 1.2, 8
# Times that pieces off the inner states are bent to those.
BENDS = 2


class Ground:
    """Where replayed states are, and which of them are inner ones.

    Args:
        states: (M, D) replayed states, world units.
        unit: (D,) rms length of a transition along each axis.
    """

    def __init__(self, states: FloatArray, unit: FloatArray) -> None:
        self.states, self.unit = states, unit

    @cached_property
    def _tree(self) -> cKDTree:
        """Replayed states, thinned out, in units."""
        points = np.asarray(self.states / self.unit, np.float64)
        cells = np.floor(points / THINNED).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        return cKDTree(points[np.sort(first)])

    @cached_property
    def _rate(self) -> NDArray[np.float64]:
        """(n,) what a unit of length counts as at each state in the tree."""
        rate = np.full(self._tree.n, SEEN_COST)
        for margin, up_to, cost in LOOKS:
            rate[self._is_inner(margin, up_to)] = cost
        return rate

    @cached_property
    def _rates(self) -> Rates:
        """The same at any point."""
        costs = {"near_rate": NEAR_COST, "far_rate": UNSEEN_COST}
        return Rates(self._tree, self._rate, seen=SEEN, near=NEAR, **costs)

    def _is_inner(self, margin: float, up_to: float) -> BoolArray:
        """(n,) around which of the states in the tree ground was visited in every direction."""
        points = self._tree.data
        around = points[:, None] + margin * _directions(points.shape[1])
        gap, _ = self._tree.query(around.reshape(-1, points.shape[1]), distance_upper_bound=up_to)
        result: BoolArray = np.isfinite(gap).reshape(len(points), -1).all(1)
        return result

    @cached_property
    def _inner_trees(self) -> tuple[cKDTree, cKDTree]:
        """All inner states, and those on dense ground, in units."""
        points, rate = self._tree.data, self._rate
        return cKDTree(points[rate < SEEN_COST]), cKDTree(points[rate <= 1.0])

    @property
    def inner(self) -> FloatArray:
        """(n, D) inner states, world units."""
        result: FloatArray = (self._inner_trees[0].data * self.unit).astype(np.float32)
        return result

    # --------------------------------------------------------------------- pieces

    def rates(self, a: FloatArray, b: FloatArray) -> tuple[Floats, Floats]:
        """What straight pieces (n, D) -> (n, D) cost for each unit of their length.

        Returns:
            (n,) on average, and (n,) at the worst point.
        """
        _, rate, first, parts = self._looked_at(a, b)
        return np.add.reduceat(rate, first) / parts, np.maximum.reduceat(rate, first)

    def _looked_at(
        self, a: FloatArray, b: FloatArray
    ) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Points (m, D) along pieces, in units, the rates (m,) there, and where those of each piece
        begin and how many there are."""
        a, b = a / self.unit, b / self.unit
        lengths = np.linalg.norm(b - a, axis=-1)
        parts = np.maximum(1, np.ceil(lengths / ALONG).astype(np.int64))
        first = np.concatenate([[0], parts.cumsum()[:-1]])
        piece = np.repeat(np.arange(len(a)), parts)
        share = (np.arange(len(piece)) - first[piece] + 0.5) / parts[piece]
        points = a[piece] + share[:, None] * (b - a)[piece]
        return points, self._rates.at(points), first, parts

    def costs(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """(n,) lengths of straight pieces (n, D) -> (n, D) in units, times their rates."""
        lengths = np.linalg.norm((b - a) / self.unit, axis=-1)
        result: FloatArray = lengths * self.rates(a, b)[0]
        return result

    def extra_costs(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """(n,) by how much :meth:`costs` exceed the lengths of straight pieces, in units."""
        lengths = np.linalg.norm((b - a) / self.unit, axis=-1)
        result: FloatArray = lengths * (self.rates(a, b)[0] - 1.0)
        return result

    def is_seen(self, a: FloatArray, b: FloatArray) -> BoolArray:
        """(n,) whether straight pieces (n, D) -> (n, D) run along replayed states."""
        result: BoolArray = self.rates(a, b)[1] <= SEEN_COST
        return result

    # ---------------------------------------------------------------------- plans

    def moved(self, points: FloatArray) -> FloatArray:
        """(n, D) -> (n, D) the same where ground was seen, elsewhere the nearest replayed states;
        where those are far, the same again."""
        gap, nearest = self._tree.query(points / self.unit, distance_upper_bound=FARTHEST_MOVE)
        result, off = points.copy(), np.isfinite(gap) & (gap > SEEN)
        result[off] = self._tree.data[nearest[off]] * self.unit
        return result

    def _innermost(self, points: Floats) -> tuple[Floats, BoolArray]:
        """The nearest inner states to points (n, D), in units, of dense ground if those are near,
        and whether there are any."""
        found, near = np.array(points, np.float64), np.zeros(len(points), np.bool_)
        for tree in self._inner_trees:
            if tree.n:
                gap, nearest = tree.query(points, distance_upper_bound=FARTHEST_MOVE)
                inside = np.isfinite(gap)
                found[inside] = tree.data[nearest[inside]]
                near |= inside
        return found, near

    def _bent(self, states: FloatArray) -> FloatArray:
        """A plan (T, D) with inner states inserted where its pieces are farthest off the ground."""
        points, rate, first, parts = self._looked_at(states[:-1], states[1:])
        worst = np.maximum.reduceat(rate, first)
        # The middle one of the worst points of each piece.
        middle = np.abs(np.arange(len(rate)) - np.repeat(first + 0.5 * (parts - 1), parts))
        is_worst = rate == np.repeat(worst, parts)
        nearness = np.where(is_worst, middle, np.inf)
        least = np.repeat(np.minimum.reduceat(nearness, first), parts)
        at = np.flatnonzero(nearness == least)
        _, one = np.unique(np.repeat(np.arange(len(parts)), parts)[at], return_index=True)
        at = at[one]
        inner, near = self._innermost(points[at])
        ends = np.stack([states[:-1], states[1:]], 1) / self.unit
        is_new = (np.abs(ends - inner[:, None]) > THINNED).any(-1).all(-1)
        bad = np.flatnonzero((worst > 1.0) & near & is_new)
        new = (inner[bad] * self.unit).astype(np.float32)
        return np.insert(states, bad + 1, new, axis=0)

    def _onto_inner(self, states: FloatArray) -> FloatArray:
        """A plan (T, D) of which those states are moved to inner ones for which it then costs
        less."""
        inner, near = self._innermost(states / self.unit)
        near[[0, -1]] = False
        other = np.where(near[:, None], inner * self.unit, states).astype(np.float32)
        choice = np.stack([states, other])
        before, after = (
            np.repeat(c, 2, axis=k)
            for k, c in ((1, choice[:, None, :-1]), (0, choice[None, :, 1:]))
        )
        dim = states.shape[1]
        costs = self.costs(before.reshape(-1, dim), after.reshape(-1, dim))
        # Of so few numbers, Python's own are the fastest.
        stayed, moved, back = 0.0, 0.0, []
        for (a, b), (c, d) in costs.reshape(2, 2, -1).transpose(2, 0, 1).tolist():
            a, b, c, d = stayed + a, stayed + b, moved + c, moved + d
            back.append((int(c < a), int(d < b)))
            stayed, moved = min(a, c), min(b, d)
        chosen = [int(moved < stayed)]
        for before_it in back[::-1]:
            chosen.append(before_it[chosen[-1]])
        return choice[chosen[::-1], np.arange(len(states))]

    def _taut(self, states: FloatArray) -> FloatArray:
        """A plan (T, D) without the states that cheaper straight pieces can do without."""
        n = len(states)
        before = np.arange(n)[:, None] + np.zeros(SKIPPED, np.int64)
        after = before + np.arange(1, SKIPPED + 1)
        inside = after < n
        i, j = before[inside], after[inside]
        costs = self.costs(states[i], states[j]).tolist()
        best, previous, piece = [0.0] + [math.inf] * (n - 1), [0] * n, 0
        for t in range(n - 1):
            for ahead in range(t + 1, min(n, t + 1 + SKIPPED)):
                total = best[t] + costs[piece]
                piece += 1
                if total < best[ahead]:
                    best[ahead], previous[ahead] = total, t
        way = [n - 1]
        while way[-1]:
            way.append(previous[way[-1]])
        return states[way[::-1]]

    def led_over(self, states: FloatArray, insert: bool) -> FloatArray:
        """A plan (T, D) laid out over visited ground, both ends kept.

        Args:
            insert: with more or fewer states, as many as its length takes, so that it is led round
                corners that it clips; otherwise only states off all ground are moved.
        """
        if not insert or not self._inner_trees[0].n:
            plan = states.copy()
            plan[1:-1] = self.moved(plan[1:-1])
            return plan
        plan = self._onto_inner(self._apart(states))
        for _ in range(BENDS):
            plan = self._bent(plan)
        plan = self._taut(plan)
        return self._apart(plan)

    def _apart(self, states: FloatArray) -> FloatArray:
        """A plan with all its corners, and states about APART from each other."""
        length = np.linalg.norm(np.diff(states, axis=0) / self.unit, axis=1).sum()
        return evenly(states, self.unit, max(1, round(float(length) / APART)))


def _directions(dim: int) -> NDArray[np.float64]:
    """(n, dim) unit vectors: evenly around in the plane, along the axes otherwise."""
    if dim == 2:
        angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([np.eye(dim), -np.eye(dim)])
