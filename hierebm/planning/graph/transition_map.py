"""The transition map: which landmarks trajectories joined, and in how many steps.

A shortest path seeks out underestimated edges, and one short edge through a wall is enough to send
the low level against it for ever. A stored trajectory never went through a wall. So stored states
are mapped to landmarks, the fewest steps that any trajectory took between two landmarks become the
weights of a graph, and an edge of the subgoal graph is *verified* when experience leads from its
one end to the other in about as many steps as predicted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, dijkstra
from scipy.spatial import cKDTree

from hierebm.at_once import set_at_once
from hierebm.replay import EpisodeReplay
from hierebm.types import BoolArray, FloatArray, IntArray

# Landmarks are this many full-speed steps apart: less than walls are thick.
SPACING = 2.0
# Trajectories are read at these distances, in steps: shorter ones would count the rounding to
# landmarks as progress (with strides from 1 on, experience looked twice as fast as it was).
STRIDES = (4, 8)
# Experience slower than this many times the predicted steps, plus the slack, does not verify them.
SLOWNESS, SLACK = 1.5, 6.0


class TransitionMap:
    """Landmarks over all visited ground and the steps that trajectories took between them.

    Args:
        step_scale: (goal_dim,) how far one step at full speed goes.
        limit: experience longer than this many steps counts as none.
        max_landmarks: the rest of a world that is larger than this many stays unverified.
    """

    # Over all landmarks, and over those of the last search with what joins them.
    _tree: cKDTree
    _searched_tree: cKDTree
    _graph: csr_array

    def __init__(
        self, step_scale: FloatArray, *, limit: float = 32.0, max_landmarks: int = 3000
    ) -> None:
        self.step_scale, self.limit, self.max_landmarks = step_scale, limit, max_landmarks
        # Landmarks in units of their spacing, so that one is everywhere 'near'.
        self.landmarks = np.zeros((0, len(step_scale)), np.float32)
        self.visits = np.zeros(0, np.int64)
        self._pairs = np.zeros((0, 2), np.int64)
        self._steps = np.zeros(0, np.float32)
        # What was joined at the last search, and the fewest steps between any two of those.
        self._searched: tuple[int, IntArray, FloatArray] = (0, self._pairs, self._steps)
        self._between = np.zeros((0, 0), np.float32)

    def add(self, replay: EpisodeReplay, rows: IntArray, n_new: int | None = None) -> None:
        """Learn from the trajectories that begin at these rows of the replay.

        What they verify is known after :meth:`search`, where the frontier is at once.

        Args:
            replay: trajectories.
            rows: states in the order of time.
            n_new: the last that many were not seen before and count as visits; None: all.
        """
        points = self._scale(replay.achieved_goal[rows])
        landmarks, tree = self._covering(points)
        origin = _nearest(tree, points)
        counted = origin if n_new is None else origin[len(origin) - min(n_new, len(origin)) :]
        visits = np.bincount(counted, minlength=len(landmarks))
        visits[: len(self.visits)] += self.visits
        left = replay.steps_left(rows)
        pairs, steps = [self._pairs], [self._steps]
        for stride in STRIDES:
            usable = left >= stride
            later = replay.later(rows[usable], np.full(int(usable.sum()), stride))
            target = _nearest(tree, self._scale(replay.achieved_goal[later]))
            pairs.append(np.stack([origin[usable], target], 1))
            steps.append(np.full(len(target), stride, np.float32))
        joined, fewest = _fewest(np.concatenate(pairs), np.concatenate(steps))
        set_at_once(
            self, landmarks=landmarks, visits=visits, _tree=tree, _pairs=joined, _steps=fewest
        )

    def search(self) -> None:
        """Find the fewest steps between all landmarks; until then new ones verify nothing."""
        self._find_steps(len(self.landmarks), self._pairs, self._steps)

    def _find_steps(self, n: int, pairs: IntArray, steps: FloatArray) -> None:
        if not n:
            return
        graph = _joined(n, pairs, steps)
        set_at_once(
            self,
            _searched=(n, pairs, steps),
            _searched_tree=cKDTree(self.landmarks[:n]),
            _graph=graph,
            _between=dijkstra(graph, limit=self.limit).astype(np.float32),
        )

    def steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n, goal_dim), (n, goal_dim) -> (n,) fewest experienced steps; inf where there are none.

        Exact to about two steps at either end. A point without a landmark within its spacing is
        unknown.
        """
        if not len(self._between):
            return np.full(len(source), np.inf, np.float32)
        (from_gap, i), (to_gap, j) = (
            self._searched_tree.query(self._scale(points)) for points in (source, target)
        )
        # Nothing is known of a point without a landmark: the nearest may be behind a wall.
        known = (from_gap <= 1.0) & (to_gap <= 1.0)
        return np.where(known, self._between[i, j], np.float32(np.inf))

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Correct predicted steps by experience.

        Args:
            source, target: (n, goal_dim).
            predicted: (n,) steps from source to target.

        Returns:
            (n,) steps, fewer than predicted where trajectories were faster, more where even the
            fastest took longer (by more than rounding to landmarks at both ends explains), and
            (n,) whether experience verifies the edge.
        """
        known = self.steps(source, target)
        is_verified: BoolArray = known <= SLOWNESS * predicted + SLACK
        least = np.where(is_verified, known - 2.0 * SPACING, 0.0)
        return np.clip(predicted, least, known + SPACING).astype(np.float32), is_verified

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n, goal_dim), (m, goal_dim) -> (n, m) steps that :meth:`verify` leaves every edge that
        it verifies, whatever was predicted; inf where it verifies none."""
        if not len(self._between):
            return np.full((len(source), len(target)), np.inf, np.float32)
        (from_gap, i), (to_gap, j) = (
            self._searched_tree.query(self._scale(points)) for points in (source, target)
        )
        known = self._between[np.ix_(i, j)]
        known[from_gap > 1.0] = known[:, to_gap > 1.0] = np.inf
        return np.maximum(known - np.float32(2.0 * SPACING), np.float32(0.0))

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        """Whether verified edges may lead from (goal_dim,) to (goal_dim,), over whatever nodes.

        Every one of them joins the landmarks of its two ends.
        """
        if not len(self._between):
            return False
        gap, (i, j) = self._searched_tree.query(self._scale(np.stack([source, target])))
        found = breadth_first_order(self._graph, i, return_predecessors=False)
        return bool((gap <= 1.0).all() and (found == j).any())

    def knows(self, points: FloatArray) -> BoolArray:
        """(n, goal_dim) -> (n,) whether a landmark lies within the spacing of each point."""
        return self.visits_near(points)[1]

    def visits_near(self, points: FloatArray) -> tuple[IntArray, BoolArray]:
        """(n, goal_dim) -> (n,) visits of the landmark nearest to each point, and (n,) whether that
        lies within the spacing, as :meth:`knows` tells.
        """
        if not len(self.landmarks):
            return np.zeros(len(points), np.int64), np.zeros(len(points), np.bool_)
        gap, nearest = self._tree.query(self._scale(points))
        return self.visits[nearest], np.asarray(gap <= 1.0)

    @property
    def is_full(self) -> bool:
        """Whether there are as many landmarks as there may be: new ground is not mapped."""
        return len(self.landmarks) >= self.max_landmarks

    def connected_share(self) -> float:
        """Share of the landmarks in the largest strongly connected component; 0 without any."""
        n = len(self.landmarks)
        if not n:
            return 0.0
        graph = _joined(n, self._pairs, self._steps)
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
        here = int(_nearest(self._tree, self._scale(point[None]))[0])
        graph = _joined(len(self.landmarks), self._pairs, self._steps)
        steps, before = dijkstra(graph, indices=here, return_predecessors=True)
        known = np.flatnonzero(np.isfinite(steps) & (steps > 0))
        if not known.size:
            return None
        chance = 1.0 / np.maximum(self.visits[known], 1)
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
        points: FloatArray = self.landmarks[way][hops] * (SPACING * self.step_scale)
        return points, np.diff(at[hops], prepend=0.0).astype(np.float32)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores the map from."""
        return {
            "landmarks": self.landmarks,
            "visits": self.visits,
            "pairs": self._pairs,
            "steps": self._steps,
            "searched": np.array(self._searched[0]),
            "searched_pairs": self._searched[1],
            "searched_steps": self._searched[2],
        }

    def load_state_dict(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.landmarks, self.visits = arrays["landmarks"], arrays["visits"]
        self._pairs, self._steps = arrays["pairs"], arrays["steps"]
        if len(self.landmarks):
            self._tree = cKDTree(self.landmarks)
            self._find_steps(
                int(arrays["searched"]), arrays["searched_pairs"], arrays["searched_steps"]
            )

    def _scale(self, points: FloatArray) -> FloatArray:
        result: FloatArray = points / (SPACING * self.step_scale)
        return result

    def _covering(self, points: FloatArray) -> tuple[FloatArray, cKDTree]:
        """Landmarks of which every point has one within its spacing: ours and new ones."""
        gap = np.full(len(points), np.inf)
        if len(self.landmarks):
            gap, _ = self._tree.query(points)
        new: list[FloatArray] = []
        while len(self.landmarks) + len(new) < self.max_landmarks:
            farthest = int(gap.argmax())
            if gap[farthest] <= 1.0:
                break
            new.append(points[farthest])
            gap = np.minimum(gap, np.linalg.norm(points - points[farthest], axis=-1))
        if not new and len(self.landmarks):
            return self.landmarks, self._tree
        landmarks: FloatArray = np.concatenate([self.landmarks, np.stack(new)])
        return landmarks, cKDTree(landmarks)


def _nearest(tree: cKDTree, points: FloatArray) -> IntArray:
    """(n,) indices of the landmarks nearest to points (n, goal_dim)."""
    _, index = tree.query(points)
    return np.asarray(index, np.int64)


def _joined(n: int, pairs: IntArray, steps: FloatArray) -> csr_array:
    """The graph over n landmarks."""
    return coo_array((steps, pairs.T), shape=(n, n)).tocsr()


def _fewest(pairs: IntArray, steps: FloatArray) -> tuple[IntArray, FloatArray]:
    """Of equal pairs (n, 2) the one of fewest steps (n,); pairs of a landmark with itself go."""
    moved = pairs[:, 0] != pairs[:, 1]
    pairs, steps = pairs[moved], steps[moved]
    order = np.lexsort((steps, pairs[:, 1], pairs[:, 0]))
    pairs, steps = pairs[order], steps[order]
    first = np.ones(len(pairs), np.bool_)
    first[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return pairs[first], steps[first]
