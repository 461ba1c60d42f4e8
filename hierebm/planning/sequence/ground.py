"""Visited ground: replayed states with visited ground all around them, and ways over those.

A transition of k steps really can go round a corner that the straight line from state to state
clips. So the states of a finished plan are moved to *inner* states, around which every direction
was visited up to a margin, and states are inserted until every straight piece runs along inner
states: then it keeps clear of whatever was never visited. No walls are known, and none asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hierebm.planning.sequence.chains import evenly
from hierebm.types import BoolArray, FloatArray

# Lengths are in units: rms transitions along each axis.
# An inner state has visited ground at this distance all around.
MARGIN = 0.7
# Ground is visited up to this share of the margin around a replayed state.
VISITED = 0.4
# A straight piece runs along inner states up to this share of the margin away from them. With a
# margin of .6 and a share of .4, 14% of the plans in four_rooms clipped a door's corner; with .7
# and .3 none, at 1% more length.
ALONG = 0.3
# Directions that are looked in, and states that are looked at.
DIRECTIONS, LOOKED_AT = 16, 20_000
# A state is moved no farther than this.
FARTHEST_MOVE = 1.0
# Times that the pieces of a plan are halved at most.
HALVINGS = 5
# States that a straight piece can do without at most, but one.
SKIPPED = 12


class Ground:
    """Where replayed states are, and which of them are inner ones.

    Args:
        states: (M, D) replayed states, world units; the newest last.
        unit: (D,) rms length of a transition along each axis.
    """

    def __init__(self, states: FloatArray, unit: FloatArray) -> None:
        self.states, self.unit = states, unit
        points = np.asarray(states / unit, np.float64)
        self._tree = cKDTree(points)
        looked = points[-LOOKED_AT:]
        around = looked[:, None] + MARGIN * _directions(looked.shape[1])
        reach = VISITED * MARGIN
        near, _ = self._tree.query(around.reshape(-1, looked.shape[1]), distance_upper_bound=reach)
        inner = np.isfinite(near).reshape(len(looked), -1).all(1)
        self._inner_tree = cKDTree(looked[inner])

    @property
    def inner(self) -> FloatArray:
        """(n, D) inner states, world units."""
        result: FloatArray = (self._inner_tree.data * self.unit).astype(np.float32)
        return result

    def moved(self, points: FloatArray) -> FloatArray:
        """(n, D) -> (n, D) the same where inner states are near, the nearest inner ones elsewhere;
        where those are far, the nearest replayed ones, and where no ground is, the same again."""
        result, scaled = points.copy(), points / self.unit
        for tree, far in ((self._tree, 0.0), (self._inner_tree, ALONG * MARGIN)):
            if tree.n:
                gap, nearest = tree.query(scaled, distance_upper_bound=FARTHEST_MOVE)
                found = np.isfinite(gap)
                near = found & (gap <= far)
                found &= ~near
                result[near], result[found] = points[near], tree.data[nearest[found]] * self.unit
        return result

    def runs_along(self, a: FloatArray, b: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Whether straight pieces (n, D) -> (n, D) run along inner states.

        Returns:
            (n,) flags, and (n, D) the point of each piece that is farthest from all inner states.
        """
        a, b = a / self.unit, b / self.unit
        lengths = np.linalg.norm(b - a, axis=-1)
        parts = np.maximum(1, (lengths / (ALONG * MARGIN)).astype(np.int64)) + 1
        # The points of one piece after those of another.
        first = np.concatenate([[0], (parts - 1).cumsum()[:-1]])
        piece = np.repeat(np.arange(len(a)), parts - 1)
        share = (np.arange(len(piece)) - first[piece] + 1) / parts[piece]
        points = a[piece] + share[:, None] * (b - a)[piece]
        gap, _ = self._inner_tree.query(points)
        worst = np.maximum.reduceat(gap, first)
        is_worst = np.flatnonzero(gap == worst[piece])
        farthest = points[is_worst[np.searchsorted(piece[is_worst], np.arange(len(a)))]]
        return worst <= ALONG * MARGIN, (farthest * self.unit).astype(np.float32)

    def cleared(self, states: FloatArray) -> FloatArray:
        """A plan (T, D) with states inserted where straight pieces leave the inner states.

        Both ends stay; pieces that no inner state can mend stay as they are.
        """
        if not self._inner_tree.n:
            return states
        for _ in range(HALVINGS):
            good, farthest = self.runs_along(states[:-1], states[1:])
            bad = np.flatnonzero(~good)
            if not bad.size:
                break
            between = self.moved(farthest[bad])
            ends = np.stack([states[bad], states[bad + 1]], axis=1)
            is_new = (np.abs(ends - between[:, None]) > 1e-3 * self.unit).any(-1).all(-1)
            if not is_new.any():
                break
            states = np.insert(states, bad[is_new] + 1, between[is_new], axis=0)
        return states

    def pulled(self, states: FloatArray) -> FloatArray:
        """A plan (T, D) without the states that straight pieces along inner states can do without.

        After each state that is kept, the farthest of the next few that it sees is kept.
        """
        kept, last = [0], len(states) - 1
        while kept[-1] < last:
            ahead = np.arange(kept[-1] + 1, min(kept[-1] + SKIPPED, last) + 1)
            here = np.repeat(states[kept[-1]][None], len(ahead), 0)
            seen, _ = self.runs_along(here, states[ahead])
            seen[0] = True
            kept.append(int(ahead[np.flatnonzero(seen)[-1]]))
        return states[kept]

    def led_over(self, states: FloatArray, insert: bool) -> FloatArray:
        """A plan (T, D) moved over visited ground, both ends kept; with more or fewer states, round
        corners that it clips, if ``insert``."""
        plan = states.copy()
        plan[1:-1] = self.moved(plan[1:-1])
        if not insert:
            return plan
        # Several may have been moved to one state.
        moves = np.append((plan[1:-1] != plan[:-2]).any(1), True)
        plan = self.cleared(plan[np.append(True, moves)])
        return evenly(self.pulled(plan), self.unit, len(states) - 1)


def _directions(dim: int) -> NDArray[np.float64]:
    """(n, dim) unit vectors: evenly around in the plane, along the axes otherwise."""
    if dim == 2:
        angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([np.eye(dim), -np.eye(dim)])
