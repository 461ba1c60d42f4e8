"""Ways that sequences begin along, and where experience leads over the ground that it has seen."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from hierebm.planning.closed_loop_plan import Failed
from hierebm.planning.context import PlanningContext
from hierebm.planning.failures import has_failed
from hierebm.planning.graph.transition_map import SLACK, SLOWNESS
from hierebm.planning.landmark_ways import LandmarkWays, Price, Way
from hierebm.planning.sequence import SequenceOptimizer
from hierebm.types import BoolArray, FloatArray

# Ways over landmarks that chains begin along.
WAYS = 2
# Where ground was seen all along a straight piece, experience has to lead there and back in that
# many times the steps that verify an edge: it may never have gone straight, but there is no door
# that opens in one direction only.
THERE_AND_BACK = 2.0


class KnownWays:
    """Ways over what is known since the last round.

    Args:
        context: whose transition map knows landmarks.
        sequences: whose energy prices what no experience knows, and which keeps the ground.
    """

    def __init__(self, context: PlanningContext, sequences: SequenceOptimizer) -> None:
        self._context, self._sequences = context, sequences

    @cached_property
    def _over_seen(self) -> LandmarkWays:
        """Over ground that was seen as well."""
        return self._over_landmarks(self._price)

    @cached_property
    def _as_taken(self) -> LandmarkWays:
        """Only where trajectories went."""
        return self._over_landmarks(self._price_of_unknown)

    def _over_landmarks(self, price: Price) -> LandmarkWays:
        known = self._context.transition_map
        assert known is not None
        return LandmarkWays(*known.hops(), known.spacing, self._context.step_scale, price)

    def find(
        self,
        achieved_goal: FloatArray,
        target: FloatArray,
        failed: Failed,
        rng: np.random.Generator,
    ) -> list[Way] | None:
        """Ways (m, goal_dim) over landmarks, those that experience leads along if there are any;
        None without landmarks.

        Once a try failed, they go where trajectories went, not over ground that was only seen.
        """
        known = self._context.transition_map
        if known is None or not len(known.hops()[0]):
            return None
        over = self._as_taken if failed else self._over_seen
        ways = over.find(achieved_goal, target, failed, WAYS, rng)
        return [way for way in ways if way.is_verified] or ways

    def _price_of_unknown(
        self, source: FloatArray, target: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """What hops (n, goal_dim), (n, goal_dim) count as that no trajectory took: steps at full
        speed and nats of the energy, times ``unverified_cost``."""
        steps = np.abs((target - source) / self._context.step_scale).max(-1)
        nats = self._sequences.costs(torch.from_numpy(source), torch.from_numpy(target)).numpy()
        price: FloatArray = self._context.config.unverified_cost * (steps + nats)
        return price, np.zeros(len(price), np.bool_)

    def _price(self, source: FloatArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
        """As :meth:`_price_of_unknown`, but that hops over seen ground count as their length in
        steps, and are known to lead there."""
        price, seen = self._price_of_unknown(source, target)[0], self.is_seen(source, target)
        if not seen.any():
            return price, seen
        source, target = source[seen], target[seen]
        length = np.linalg.norm((target - source) / self._context.step_scale, axis=-1)
        known = self._context.transition_map
        if known is not None and known.expected_share:
            slow = np.maximum(known.slowness(source, target) - 1.0, 0.0)
            length = length * (1.0 + known.expected_share * slow)
        price[seen] = length
        return price, seen

    def aside(
        self, observation: FloatArray, achieved_goal: FloatArray, failed: Failed
    ) -> tuple[FloatArray, FloatArray]:
        """Landmarks (n, goal_dim) nearby that experience leads to, none of them where edges failed
        from here, and the predicted steps (n,) to each."""
        context, known = self._context, self._context.transition_map
        points = np.zeros((0, len(achieved_goal)), np.float32) if known is None else known.hops()[0]
        near = (np.abs(points - achieved_goal) <= context.safe_edge * context.step_scale).all(-1)
        points = points[near & ~has_failed(achieved_goal, points, failed, context.step_scale)]
        here = np.repeat(achieved_goal[None], len(points), 0)
        points, here = (x[~context.reached(here, points)] for x in (points, here))
        if not len(points):
            return points, np.zeros(0, np.float32)
        observations = np.repeat(observation[None], len(points), 0)
        steps, is_verified = context.edges.evaluate(observations, here, points)
        return points[is_verified], steps[is_verified]

    def is_seen(self, source: FloatArray, target: FloatArray) -> BoolArray:
        """(n,) whether straight pieces (n, goal_dim), (n, goal_dim) run along ground that was seen,
        and experience leads there and back."""
        ground, known = self._sequences.ground, self._context.transition_map
        if ground is None or known is None or not len(source):
            return np.zeros(len(source), np.bool_)
        full_speed = np.abs((target - source) / self._context.step_scale).max(-1)
        a, b = np.concatenate([source, target]), np.concatenate([target, source])
        there_and_back = known.steps(a, b).reshape(2, -1).max(0)
        seen: BoolArray = there_and_back <= THERE_AND_BACK * (SLOWNESS * full_speed + SLACK)
        if seen.any():
            seen[seen] = ground.is_seen(source[seen], target[seen])
        return seen
