"""Planners over subgoals that a sampler draws: how the sampler is trained and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hierebm.checkpoint.arrays import checked
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.stitching import stitched_between
from hierebm.planning.planner import Log, Planner
from hierebm.planning.samplers.base import LearnedSampler, SubgoalSampler
from hierebm.planning.samplers.training_data import TrainingData, newest_triplets
from hierebm.replay import BetweenTriplets, EpisodeReplay

Self = TypeVar("Self", bound="SamplingPlanner")

# Stitched triplets that are kept; the newest replace the oldest.
STITCHED_TRIPLETS = 120_000


class SamplingPlanner(Planner):
    """Owns a subgoal sampler: trains it, saves it, and restores it.

    Args:
        context: what plans are made of.
        sampler: where the nodes come from.
    """

    def __init__(self, context: PlanningContext, sampler: SubgoalSampler) -> None:
        super().__init__(context)
        self.sampler = sampler
        # Triplets from the last shortest paths over pools.
        self.stitched = BetweenTriplets.none(context.goal_dim)

    @classmethod
    def build(
        cls: type[Self], context: PlanningContext, make_sampler: Callable[[], SubgoalSampler]
    ) -> Self:
        """See :class:`Planner`."""
        return cls(context, make_sampler())

    def learn(self, replay: EpisodeReplay, rng: np.random.Generator, log: Log) -> None:
        """Stitch new paths over the pool, and fit the sampler to what lies between."""
        if not isinstance(self.sampler, LearnedSampler):
            return
        c, pool = self.context.config, self.context.experienced
        if self.sampler.learns_from_triplets:
            fresh = stitched_between(pool, self.context.edges, rng)
            self.stitched = newest_triplets(self.stitched, fresh, STITCHED_TRIPLETS)
        data = TrainingData(replay, pool, self.stitched, c.stitched_share, rng)
        for _ in range(c.energy_gradient_steps * self.context.effort):
            log(self.sampler.train(data))
        log(self.sampler.look())

    def fit_scale(self) -> None:
        """See :class:`Planner`."""
        if isinstance(self.sampler, LearnedSampler):
            assert self.context.scales is not None
            self.sampler.fit_scale(self.context.scales)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Planner`."""
        return self.sampler.state_dict() if isinstance(self.sampler, LearnedSampler) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`Planner`."""
        if isinstance(self.sampler, LearnedSampler):
            self.sampler.load_state_dict(state)

    def replay_arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`Planner`."""
        return {f"stitched/{name}": array for name, array in vars(self.stitched).items()}

    def load_replay_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`Planner`."""
        n = len(checked(arrays, "stitched/half", (None,), "flags"))
        start, goal, between = (
            checked(arrays, f"stitched/{name}", (n, self.context.goal_dim), "floats")
            for name in ("start", "goal", "between")
        )
        self.stitched = BetweenTriplets(start, goal, between, arrays["stitched/half"])
