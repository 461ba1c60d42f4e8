"""Which pairs of places are joined, how many steps apart they are, and what an edge costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hierebm.types import FloatArray, IntArray, ReachedFn

# Distances are learnt: pairs this many times as far apart as full speed goes in ``max_edge`` steps
# are still asked about.
MARGIN = 1.5


class DistanceModel(Protocol):
    """What the graph asks of the low level."""

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        """(B, obs_dim), (B, goal_dim), (B, goal_dim) -> (B,) predicted steps."""


class EdgeVerifier(Protocol):
    """What the graph asks of experience."""

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """(n, goal_dim), (n, goal_dim), (n,) predicted steps -> (n,) steps, (n,) supported."""

    def frontier(
        self, point: FloatArray, candidate_radius: float, rng: np.random.Generator
    ) -> tuple[FloatArray, float] | None:
        """(goal_dim,) -> a place to explore at most ``reach`` steps away, and the steps to it."""


@dataclass
class GraphConfig:
    """Which pairs of places become edges, and what an edge costs."""

    max_edge: float = 20.0
    """Longest edge, in predicted steps."""
    safe_edge: float = 8.0
    """Predicted steps up to which an edge costs about its length; longer ones cost far more."""
    hop_cost: float = 2.0
    """Steps added to every edge: a subgoal counts as reached at its rim, the next edge is counted
    from its centre, and a way over many near subgoals would look shorter than it is."""
    unverified_cost: float = 50.0
    """How many times more an edge costs that no experience bears out; 1 for no such check."""
    neighbours: int = 24
    """Edges considered out of each place: to its nearest places in goal space."""

    def cost(self, distance: FloatArray, verified: NDArray[np.bool_]) -> FloatArray:
        """Convex edge cost d (1 + (d / safe_edge)^3) + hop_cost; infinite above ``max_edge``.

        A shortest path seeks out underestimated edges. Long edges are the unreliable ones; this
        prefers many safe ones without cutting a sparse graph apart.

        Args:
            distance: steps, of any shape.
            supported: whether experience bears each edge out.
        """
        cost = distance * (1.0 + (distance / self.safe_edge) ** 3) + self.hop_cost
        cost = np.where(verified, cost, self.unverified_cost * cost)
        return np.where(distance <= self.max_edge, cost, np.inf).astype(np.float32)


@dataclass(frozen=True)
class EdgeRules:
    """All that edges follow from; ``dataclasses.replace`` gives the same with another config."""

    model: DistanceModel
    """Gives distances in steps."""
    config: GraphConfig
    """Which pairs become edges, and what an edge costs."""
    step_scale: FloatArray
    """(goal_dim,) how far one step at full speed goes."""
    reached: ReachedFn
    """Whether an achieved goal counts as a goal; an edge that leads to where we already are is
    none."""
    transition_map: EdgeVerifier | None = None
    """Tells edges that trajectories bear out from those that only the critics do; None trusts the
    critics."""

    @property
    def candidate_radius(self) -> FloatArray:
        """(goal_dim,) float32: farther than this in any dimension, no policy joins two points
        within ``max_edge`` steps."""
        return np.asarray(MARGIN * self.config.max_edge * self.step_scale, np.float32)

    def is_candidate(self, source: FloatArray, target: FloatArray) -> NDArray[np.bool_]:
        """(n, goal_dim) each, or (goal_dim,) for one that is the same -> (n,)."""
        near: NDArray[np.bool_] = (np.abs(target - source) <= self.candidate_radius).all(-1)
        return near

    def pairs(self, source: FloatArray, target: FloatArray) -> tuple[IntArray, IntArray]:
        """Pairs (i, j) worth asking about, those of a point with itself among them.

        Args:
            source, target: (n, goal_dim), (m, goal_dim).
        """
        return candidate_pairs(source, target, self.config.neighbours, self.candidate_radius)

    def open_pairs(self, source: FloatArray, target: FloatArray) -> tuple[IntArray, IntArray]:
        """The :meth:`pairs` (i, j) without those of which j is reached at i."""
        i, j = self.pairs(source, target)
        keep = ~self.reached(source[i], target[j])
        return i[keep], j[keep]

    def verify(
        self, observation: FloatArray, source: FloatArray, target: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Steps (n,) of edges between any points, and whether experience bears them out (n,).

        Args:
            observation, source: (n, obs_dim), (n, goal_dim) where the edges begin.
            target: (n, goal_dim) where they end.
        """
        return self.check(source, target, self.model.distance(observation, source, target))

    def check(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """What experience makes of (n,) predicted steps: as :meth:`judge`, once they are known."""
        if self.transition_map is None:
            return predicted, np.ones(len(predicted), np.bool_)
        return self.transition_map.verify(source, target, predicted)


def candidate_pairs(
    source: FloatArray, target: FloatArray, neighbours: int, candidate_radius: FloatArray
) -> tuple[IntArray, IntArray]:
    """Pairs (i, j) that can matter: ``target[j]`` is near ``source[i]`` in goal space.

    Args:
        source, target: (n, goal_dim), (m, goal_dim).
        neighbours: at most this many pairs for each source.
        reach: (goal_dim,) how far the longest edge can go in each dimension; also the unit in
            which nearness is measured.
    """
    k = min(neighbours + 1, len(target))
    distance, j = cKDTree(target / candidate_radius).query(source / candidate_radius, k=k, p=np.inf)
    distance, j = distance.reshape(len(source), k), j.reshape(len(source), k)
    near = distance <= 1.0
    i = np.broadcast_to(np.arange(len(source))[:, None], j.shape)
    return i[near].astype(np.int64), j[near].astype(np.int64)
