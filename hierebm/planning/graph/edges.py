"""Which pairs of nodes are joined, how many steps apart they are, and what an edge costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial import cKDTree

from hierebm.settings import Config, setting
from hierebm.types import BoolArray, FloatArray, IntArray, ReachedFn

# Distances are learned: pairs this many times as far apart as full speed goes in ``max_edge`` steps
# are still asked about.
MARGIN = 1.5
# Edges considered out of each node: to its nearest nodes in goal space. Fewer make a plan a tenth
# faster at most.
NEIGHBOURS = 24
# Steps added to the cost of every edge. A subgoal counts as reached at the border of its success
# tolerance, the next edge is predicted from its centre, and a path over many near subgoals would
# look shorter than it is: executed paths are 1.11 times the shortest without it, 1.07 with.
HOP_COST = 2.0


class DistanceModel(Protocol):
    """What the graph asks of the low level."""

    def distance(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(n, obs_dim), (n, goal_dim), (n, goal_dim) -> (n,) predicted steps."""


class EdgeVerifier(Protocol):
    """What the graph asks of experience."""

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """(n, goal_dim), (n, goal_dim), (n,) predicted steps -> (n,) steps, (n,) is_verified."""

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n, goal_dim), (m, goal_dim) -> (n, m) steps that :meth:`verify` leaves every edge that
        it verifies, whatever was predicted; inf where it verifies none."""

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        """Whether verified edges may lead from (goal_dim,) to (goal_dim,), over whatever nodes."""


# No edge is longer, nor taken for safe beyond this, in predicted steps.
FARTHEST = 10_000


@dataclass
class GraphConfig(Config):
    """The graph over subgoals."""

    max_edge: float = setting(20.0, "Longest edge, in predicted steps.", low=1, high=FARTHEST)
    safe_edge: float = setting(
        8.0,
        "Predicted steps up to which an edge costs about its length; longer ones cost far more.",
        low=1,
        high=FARTHEST,
    )
    unverified_cost: float = setting(
        50.0,
        "How many times more an edge costs that experience does not verify; 1 for no such check.",
        low=1,
        high=1e6,
    )


def edge_cost(distance: FloatArray, is_verified: BoolArray, config: GraphConfig) -> FloatArray:
    """Convex edge cost d (1 + (d / safe_edge)^3) + hop cost; infinite above ``max_edge``.

    A shortest path seeks out underestimated edges. Long edges are the unreliable ones; a convex
    cost prefers many safe ones without cutting a sparse graph apart.

    Args:
        distance: steps, of any shape.
        is_verified: whether experience verifies each edge.
        config: ``safe_edge``, ``max_edge`` and ``unverified_cost`` are used.

    Returns:
        float32 costs of the same shape.
    """
    share = distance / config.safe_edge
    # The product takes a tenth of the time of a power.
    cost = distance * (1.0 + share * share * share) + HOP_COST
    cost = np.where(is_verified, cost, config.unverified_cost * cost)
    return np.where(distance <= config.max_edge, cost, np.inf).astype(np.float32)


@dataclass(frozen=True)
class EdgeRules:
    """All that edges follow from; ``dataclasses.replace`` gives the same with another config."""

    model: DistanceModel
    """Predicts distances in steps."""
    config: GraphConfig
    """Which pairs become edges, and what an edge costs."""
    step_scale: FloatArray
    """(goal_dim,) how far one step at full speed goes."""
    reached: ReachedFn
    """Whether an achieved goal counts as a goal; nodes within each other's success tolerance are
    not joined."""
    verifier: EdgeVerifier | None = None
    """Tells which edges trajectories verify; None trusts every predicted distance."""

    @property
    def candidate_radius(self) -> FloatArray:
        """(goal_dim,) float32: farther than this in any dimension, no policy joins two points
        within ``max_edge`` steps."""
        return np.asarray(MARGIN * self.config.max_edge * self.step_scale, np.float32)

    def is_candidate(self, source: FloatArray, target: FloatArray) -> BoolArray:
        """Pairs within the candidate radius: (n, goal_dim) each, or (goal_dim,) for one that is
        the same -> (n,)."""
        near: BoolArray = (np.abs(target - source) <= self.candidate_radius).all(-1)
        return near

    def candidate_pairs(self, source: FloatArray, target: FloatArray) -> tuple[IntArray, IntArray]:
        """The pairs (i, j) worth asking about, without those of which j is reached at i.

        Args:
            source, target: (n, goal_dim), (m, goal_dim).
        """
        i, j = nearest_pairs(source, target, NEIGHBOURS, self.candidate_radius)
        keep = ~self.reached(source[i], target[j])
        return i[keep], j[keep]

    def evaluate(
        self, observation: FloatArray, source: FloatArray, target: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Steps (n,) of edges between any points, and whether experience verifies them (n,).

        Args:
            observation, source: (n, obs_dim), (n, goal_dim) where the edges begin.
            target: (n, goal_dim) where they end.
        """
        return self.verify(source, target, self.predict(observation, source, target))

    def predict(
        self, observation: FloatArray, source: FloatArray, target: FloatArray
    ) -> FloatArray:
        """Predicted steps (n,) of edges, as :meth:`evaluate` without experience.

        Raises:
            ValueError: the low level's distances are no (n,) finite numbers of steps.
        """
        steps = self.model.distance(observation, source, target)
        good = isinstance(steps, np.ndarray) and steps.shape == (len(target),)
        if not good or not (np.isfinite(steps).all() and (steps > 0.0).all()):
            got = steps.shape if isinstance(steps, np.ndarray) else type(steps).__name__
            what = "some are not" if good else f"got {got}"
            raise ValueError(
                f"{type(self.model).__name__}.distance must return a NumPy array of shape "
                f"({len(target)},), finite steps of at least 1: {what}"
            )
        return steps

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """What experience makes of (n,) predicted steps: (n,) steps, (n,) is_verified."""
        if self.verifier is None:
            return predicted, np.ones(len(predicted), np.bool_)
        return self.verifier.verify(source, target, predicted)

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """(n, goal_dim), (m, goal_dim) -> (n, m) steps that a verified edge takes at least; inf
        where experience verifies none. Known before anything is predicted."""
        if self.verifier is None:
            return np.zeros((len(source), len(target)), np.float32)
        return self.verifier.least_steps(source, target)

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        """Whether verified edges may lead from (goal_dim,) to (goal_dim,), over whatever nodes."""
        return self.verifier is None or self.verifier.may_lead(source, target)

    def cost(self, distance: FloatArray, is_verified: BoolArray) -> FloatArray:
        """:func:`edge_cost` under these rules."""
        return edge_cost(distance, is_verified, self.config)


def nearest_pairs(
    source: FloatArray, target: FloatArray, neighbours: int, radius: FloatArray
) -> tuple[IntArray, IntArray]:
    """Pairs (i, j) of which ``target[j]`` is near ``source[i]`` in goal space.

    Args:
        source, target: (n, goal_dim), (m, goal_dim).
        neighbours: at most this many pairs for each source, besides one with itself.
        radius: (goal_dim,) how far is near in each dimension; also the unit of nearness.
    """
    k = min(neighbours + 1, len(target))
    distance, j = cKDTree(target / radius).query(source / radius, k=k, p=np.inf)
    distance, j = distance.reshape(len(source), k), j.reshape(len(source), k)
    near = distance <= 1.0
    i = np.broadcast_to(np.arange(len(source))[:, None], j.shape)
    return i[near].astype(np.int64), j[near].astype(np.int64)
