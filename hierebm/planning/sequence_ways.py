"""Ways that sequences begin along, and where experience leads over the ground that it has seen."""

from __future__ import annotations

import numpy as np
import torch

from hierebm.planning.closed_loop_plan import Failed
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.subgoal_graph import ALIKE
from hierebm.planning.graph.transition_map import SLACK, SLOWNESS
from hierebm.planning.sequence import SequenceOptimizer
from hierebm.planning.sequence.landmark_ways import LandmarkWays, Way
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
        self._landmark_ways: LandmarkWays | None = None

    def find(
        self,
        achieved_goal: FloatArray,
        target: FloatArray,
        failed: Failed,
        rng: np.random.Generator,
    ) -> list[Way] | None:
        """Ways (m, goal_dim) over landmarks, those that experience leads along if there are any;
        None without landmarks."""
        known, step_scale = self._context.transition_map, self._context.step_scale
        if known is None or not len(known.hops()[0]):
            return None
        if self._landmark_ways is None:
            self._landmark_ways = LandmarkWays(
                *known.hops(), known.spacing, step_scale, self._price
            )
        margin = ALIKE * step_scale
        ways = self._landmark_ways.find(achieved_goal, target, failed, margin, WAYS, rng)
        return [way for way in ways if way.is_verified] or ways

    def _price(self, source: FloatArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
        """What hops (n, goal_dim), (n, goal_dim) count as that no trajectory took.

        Returns:
            (n,) steps: their length over ground that was seen, elsewhere steps at full speed and
            nats of the energy, times ``unverified_cost``; (n,) whether it was seen.
        """
        context, scaled = self._context, (target - source) / self._context.step_scale
        nats = self._sequences.costs(torch.from_numpy(source), torch.from_numpy(target)).numpy()
        price = context.config.unverified_cost * (np.abs(scaled).max(-1) + nats)
        seen = self.is_seen(source, target)
        known = context.transition_map
        length = np.linalg.norm(scaled, axis=-1)
        if known is not None and known.expected_share and seen.any():
            slow = known.slowness(source[seen], target[seen]) - 1.0
            length[seen] *= 1.0 + known.expected_share * np.maximum(slow, 0.0)
        return np.where(seen, length, price), seen

    def is_seen(self, source: FloatArray, target: FloatArray) -> BoolArray:
        """(n,) whether straight pieces (n, goal_dim), (n, goal_dim) run along ground that was seen,
        and experience leads there and back."""
        ground, known = self._sequences.ground, self._context.transition_map
        if ground is None or known is None or not len(source):
            return np.zeros(len(source), np.bool_)
        full_speed = np.abs((target - source) / self._context.step_scale).max(-1)
        there_and_back = np.maximum(known.steps(source, target), known.steps(target, source))
        seen: BoolArray = there_and_back <= THERE_AND_BACK * (SLOWNESS * full_speed + SLACK)
        if seen.any():
            seen[seen] = ground.is_seen(source[seen], target[seen])
        return seen
