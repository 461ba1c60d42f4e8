"""The transition map: which landmarks trajectories joined, and in how many steps.

A shortest path seeks out underestimated edges, and one short edge through a wall is enough to send
the low level against it for ever. A stored trajectory never went through a wall. So stored states
are mapped to landmarks, the fewest steps that any trajectory took between two landmarks become the
weights of a graph, and an edge of the subgoal graph is *verified* when experience leads from its
one end to the other in about as many steps as predicted.

All of it is sparse and grows piece by piece: memory follows the visited ground, and nothing is
searched for that nobody asks about.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from hierebm.at_once import set_at_once
from hierebm.checkpoint.arrays import checked
from hierebm.planning.graph.doubt import leads_past
from hierebm.planning.graph.frontier import way_to_frontier
from hierebm.planning.graph.gates import Gates, jumps_within
from hierebm.planning.graph.joined_pairs import JoinedPairs, StepsBetween
from hierebm.planning.graph.landmarks import Landmarks, coarseness_of
from hierebm.planning.graph.pace import FASTEST, SLOWEST, Pace
from hierebm.replay import EpisodeReplay
from hierebm.types import BoolArray, FloatArray, IntArray

# Landmarks are this many full-speed steps apart: less than walls are thick.
SPACING = 2.0
# Trajectories are read at these distances, in steps: shorter ones would count the rounding to
# landmarks as progress (with strides from 1 on, experience looked twice as fast as it was).
STRIDES = (4, 8)
# Experience slower than this many times the predicted steps, plus the slack, does not verify them.
SLOWNESS, SLACK = 1.5, 6.0
# Where the pace of an edge is looked up, as shares of it, and the steps that it takes to get going.
ALONG, START = (0.125, 0.375, 0.625, 0.875), 1.5


class TransitionMap:
    """Landmarks over all visited ground and the steps that trajectories took between them.

    Args:
        step_scale: (goal_dim,) how far one step at full speed goes.
        limit: experience longer than this many steps counts as none.
    """

    # What verifies: the pairs of the last search, and the fewest steps over them.
    _searched: JoinedPairs
    _between: StepsBetween

    def __init__(self, step_scale: FloatArray, *, limit: float = 32.0) -> None:
        self.step_scale, self.limit = step_scale, limit
        # Times that the spacing is larger than that of few axes; known from the first states on.
        self._coarseness = 1.0
        # In units of their spacing, so that one is everywhere 'near'.
        self._landmarks = Landmarks(len(step_scale))
        self.visits = np.zeros(0, np.int64)
        self._joined = JoinedPairs.of(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
        self.gates = Gates(step_scale)
        self.pace = Pace(len(step_scale))
        # How much of the steps at the pace of the ground, beyond the fewest, tries have confirmed.
        self.expected_share = 0.0
        vars(self).update(self._verifying(self._joined, 0)[1])

    @property
    def landmarks(self) -> FloatArray:
        """(n, goal_dim) in units of :attr:`spacing`."""
        return self._landmarks.points

    @property
    def spacing(self) -> FloatArray:
        """(goal_dim,) how far apart landmarks are along each axis."""
        return self._spacing(self._coarseness)

    def _spacing(self, coarseness: float) -> FloatArray:
        result: FloatArray = SPACING * self.step_scale * np.float32(coarseness)
        return result

    def add(self, replay: EpisodeReplay, rows: IntArray, n_new: int | None = None) -> None:
        """Learn from the trajectories that begin at these rows of the replay.

        What they verify is known after :meth:`search`, where the frontier is at once.

        Args:
            replay: trajectories.
            rows: states in the order of time.
            n_new: the last that many were not seen before and count as visits; None: all.
        """
        coarseness, landmarks = self._coarseness, copy(self._landmarks)
        if not len(landmarks):
            coarseness = coarseness_of(self._scale(replay.achieved_goal[rows]))
        spacing = self._spacing(coarseness)
        points: FloatArray = replay.achieved_goal[rows] / spacing
        landmarks.cover(points)
        origin = landmarks.nearest(points)
        counted = origin if n_new is None else origin[len(origin) - min(n_new, len(origin)) :]
        visits = np.bincount(counted, minlength=len(landmarks))
        visits[: len(self.visits)] += self.visits
        left = replay.steps_left(rows)
        # Where a jump leads may be luck: that is for the gates to say.
        jumps = jumps_within(replay, rows, max(STRIDES), self.step_scale)
        gates, joined = copy(self.gates), self._joined
        gates.add(replay, rows if n_new is None else rows[len(rows) - min(n_new, len(rows)) :])
        for stride in STRIDES:
            usable = (left >= stride) & ~jumps[:, :stride].any(1)
            later = replay.later(rows[usable], stride)
            target = landmarks.nearest(replay.achieved_goal[later] / spacing)
            pairs = np.stack([origin[usable], target], axis=1)
            # The way over the state in the middle is one of the shorter stride's, just as long.
            implied = np.isin(replay.later(rows[usable], stride // 2), rows)
            implied &= stride // 2 in STRIDES
            steps = np.full(len(pairs), stride, np.float32)
            joined = joined.merged(JoinedPairs.of(pairs, steps, implied))
        set_at_once(
            self,
            _coarseness=coarseness,
            _landmarks=landmarks,
            visits=visits,
            _joined=joined,
            gates=gates,
        )

    def learn_pace(
        self, replay: EpisodeReplay, rows: IntArray, commanded: NDArray[np.float64]
    ) -> None:
        """Learn how far actions go on which ground from the transitions at these rows, each seen
        once, after :meth:`add`.

        Args:
            replay: trajectories.
            rows: states that were left by an action.
            commanded: (n, goal_dim) full-speed steps that the actions there add on the mean of all
                ground.
        """
        if not len(rows):
            return
        points = replay.achieved_goal[rows]
        moved = (replay.achieved_goal[replay.later(rows, 1)] - points) / self.step_scale
        at = self._landmarks.nearest(self._scale(points))
        self.pace = self.pace.added(at, len(self.landmarks), commanded, moved)

    def doubt(self, point: FloatArray, target: FloatArray, nats: float) -> None:
        """A verified edge was missed: on its way to target (goal_dim,), the agent got to point and
        no farther, which is surprising by so many nats.

        What leads past the point in that direction is doubted until a trajectory goes there again.
        Where misses add up, it verifies nothing from the next :meth:`search` on.
        """
        here, there = self._scale(np.stack([point, target]))
        farthest = 1.0 + max(STRIDES) / SPACING
        near = np.linalg.norm(self.landmarks - here, axis=1) <= farthest
        which, pairs = self._joined.leaving(np.flatnonzero(near))
        source, end = self.landmarks[pairs.T]
        past = leads_past(here, there, source, end)
        self._joined = self._joined.doubted(which[past], nats)

    def search(self) -> None:
        """Let all that was added verify from now on; until then, what is new verifies nothing."""
        landmarks, gates = copy(self._landmarks), copy(self.gates)
        landmarks.settle()
        graph, settled = self._verifying(self._joined, landmarks.n_settled)
        gates.settle(graph, landmarks.points, self.spacing)
        set_at_once(self, _landmarks=landmarks, gates=gates, **settled)

    def _verifying(self, joined: JoinedPairs, n: int) -> tuple[csr_array, dict[str, Any]]:
        """The graph of these pairs of n settled landmarks, and attributes for them to verify."""
        graph = joined.graph(n, with_implied=False)
        return graph, {"_searched": joined, "_between": StepsBetween(graph, self.limit)}

    def steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n, goal_dim), (n, goal_dim) -> (n,) fewest experienced steps; inf where there are none.

        Exact to about two steps at either end. A point without a landmark within its spacing is
        unknown: the nearest may be behind a wall.
        """
        if not self._landmarks.n_settled:
            return np.full(len(source), np.inf, np.float32)
        (i, from_known), (j, to_known) = self._find(source), self._find(target)
        return np.where(from_known & to_known, self._between.pairs(i, j), np.float32(np.inf))

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Correct predicted steps by experience.

        Args:
            source, target: (n, goal_dim).
            predicted: (n,) steps from source to target.

        Returns:
            (n,) steps, fewer than predicted where trajectories were faster (the less so, the more
            tries have confirmed the predictions), more where even the fastest took longer (by more
            than rounding to landmarks at both ends explains), and (n,) whether experience verifies
            the edge.
        """
        known = self.steps(source, target)
        is_verified: BoolArray = known <= SLOWNESS * predicted + SLACK
        least = np.where(is_verified, known - 2.0 * SPACING, 0.0)
        steps = np.minimum(np.maximum(predicted, least), known + SPACING)
        if self.expected_share:
            expected = np.maximum(self.expected(source, target), least)
            blend = steps + self.expected_share * (expected - steps)
            steps = np.where(is_verified, blend, steps)
        return steps.astype(np.float32), is_verified

    def fewest(self, source: FloatArray, target: FloatArray, predicted: FloatArray) -> FloatArray:
        """(n,) predicted steps, as the fastest trajectories would correct them if luck never
        mattered; arguments as in :meth:`verify`."""
        return np.minimum(predicted, self.steps(source, target) + SPACING)

    def expected(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n,) steps straight from source (n, goal_dim) to target at the pace of the ground.

        At least ``START``. Unknown ground is as firm as any.
        """
        way = (target - source) / self.step_scale
        length = np.abs(way).max(1)
        return (np.maximum(length * self.slowness(source, target), 0.0) + START).astype(np.float32)

    def slowness(self, source: FloatArray, target: FloatArray) -> NDArray[np.float64]:
        """(n,) how many times longer than on firm ground it takes from source (n, goal_dim)
        straight to target."""
        way = (target - source) / self.step_scale
        # Full speed along the axis that the way is longest on.
        way = way / np.maximum(np.abs(way).max(1, keepdims=True), 1e-6)
        along = np.asarray(ALONG, np.float32)[:, None, None]
        points = (source + along * (target - source)).reshape(-1, source.shape[1])
        index, known = self._landmarks.find(self._scale(points))
        gain, drift = self.pace.speeds(index)
        directions = np.tile(way, (len(ALONG), 1))
        helped = (drift * directions).sum(1) / np.maximum((directions**2).sum(1), 1e-6)
        speed = np.where(known, np.clip(gain + helped, SLOWEST, FASTEST), 1.0)
        result: NDArray[np.float64] = (1.0 / speed).reshape(len(ALONG), -1).mean(0)
        return result

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n, goal_dim), (m, goal_dim) -> (n, m) steps that :meth:`verify` leaves every edge that
        it verifies, whatever was predicted; inf where it verifies none."""
        if not self._landmarks.n_settled:
            return np.full((len(source), len(target)), np.inf, np.float32)
        (i, from_known), (j, to_known) = self._find(source), self._find(target)
        known = self._between.grid(i, j)
        known[~from_known] = known[:, ~to_known] = np.inf
        return np.maximum(known - np.float32(2.0 * SPACING), np.float32(0.0))

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        """Whether verified edges may lead from (goal_dim,) to (goal_dim,), over whatever nodes.

        Every one of them joins the landmarks of its two ends.
        """
        (i, j), known = self._find(np.stack([source, target]))
        return bool(known.all()) and self._between.leads(i, j)

    def hops(self) -> tuple[FloatArray, csr_array]:
        """Landmarks (n, goal_dim) as of the last search, in units of goal space, and the fewest
        steps that trajectories took from one to another (n, n), without those that others imply."""
        return self.landmarks[: self._landmarks.n_settled] * self.spacing, self._between.graph

    def knows(self, points: FloatArray) -> BoolArray:
        """(n, goal_dim) -> (n,) whether a landmark lies within the spacing of each point."""
        return self._landmarks.find(self._scale(points))[1]

    def visits_near(self, points: FloatArray) -> tuple[IntArray, BoolArray]:
        """(n, goal_dim) -> (n,) visits of the landmark nearest to each point, and (n,) whether that
        lies within the spacing, as :meth:`knows` tells; 0 where none does.
        """
        nearest, known = self._landmarks.find(self._scale(points))
        visits = np.zeros(len(points), np.int64)
        visits[known] = self.visits[nearest[known]]
        return visits, known

    def connected_share(self) -> float:
        """Share of the landmarks in the largest strongly connected component; 0 without any."""
        n = len(self.landmarks)
        if not n:
            return 0.0
        graph = self._joined.graph(n, with_implied=False)
        _, labels = connected_components(graph, directed=True, connection="strong")
        return float(np.bincount(labels).max()) / n

    def frontier(
        self, point: FloatArray, max_hop: float, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray] | None:
        """The way to a landmark of the frontier, drawn in inverse proportion to its visits.

        Args:
            point: (goal_dim,) where we are.
            max_hop: experienced steps from one point of the way to the next, where it can be so.
            rng: source of the draw.

        Returns:
            (m, goal_dim) points of the way, the landmark last, and (m,) the steps to each from the
            one before; None where no experience leads anywhere.
        """
        if not len(self.landmarks):
            return None
        here = int(self._landmarks.nearest(self._scale(point[None]))[0])
        graph = self._joined.graph(len(self.landmarks))
        found = way_to_frontier(graph, self.visits, here, max_hop, rng)
        if found is None:
            return None
        way, steps = found
        points: FloatArray = self.landmarks[way] * self.spacing
        return points, steps

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores the map from."""
        return {
            "landmarks": self.landmarks,
            "visits": self.visits,
            "coarseness": np.array(self._coarseness),
            "searched": np.array(self._landmarks.n_settled),
            **self._joined.state_dict(""),
            **self._searched.state_dict("searched_"),
            **{f"pace_{name}": sums for name, sums in self.pace.state_dict().items()},
        }

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is none of a map.

        The gates are restored before.
        """
        points = checked(arrays, "landmarks", (None, len(self.step_scale)), "floats")
        n = len(points)
        visits = checked(arrays, "visits", (n,), "whole numbers", low=0)
        searched = int(checked(arrays, "searched", (), "whole numbers", low=0, high=n))
        # Older files have the same spacing for any number of axes.
        coarseness = checked(arrays, "coarseness", (), low=1.0) if "coarseness" in arrays else 1.0
        joined = JoinedPairs.restored(arrays, "", n)
        settled = JoinedPairs.restored(arrays, "searched_", searched)
        landmarks, gates = Landmarks(len(self.step_scale)), copy(self.gates)
        landmarks.restore(points, searched)
        sums = {k.removeprefix("pace_"): v for k, v in arrays.items() if k.startswith("pace_")}
        # Older files do not tell the pace: it is learned from now on.
        dim = len(self.step_scale)
        pace = Pace.restored(sums, n, dim) if sums else Pace(dim)
        graph, verifying = self._verifying(settled, searched)
        gates.restore(graph, points[:searched], self._spacing(float(coarseness)))
        set_at_once(
            self,
            _coarseness=float(coarseness),
            _landmarks=landmarks,
            visits=visits,
            _joined=joined,
            gates=gates,
            pace=pace,
            **verifying,
        )

    def _scale(self, points: FloatArray) -> FloatArray:
        result: FloatArray = points / self.spacing
        return result

    def _find(self, points: FloatArray) -> tuple[IntArray, BoolArray]:
        """Landmarks (n,) of points (n, goal_dim) as of the last search, and where there is none."""
        return self._landmarks.find_settled(self._scale(points))
