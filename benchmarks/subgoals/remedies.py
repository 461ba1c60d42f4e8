"""What the agent can do without, one at a time: remedies of graph planning, switched off."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.subgoals.measure import MeasuredPlanner
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph_plan import GraphPlan
from hierebm.types import FloatArray


class WithoutCommitment(MeasuredPlanner):
    """The path, and with it the subgoal, is chosen again at every step."""

    def step(
        self, plan: GraphPlan, observation: FloatArray, achieved_goal: FloatArray
    ) -> GraphPlan:
        """See :class:`GraphPlanner`."""
        context, graph = self.context, plan.graph
        graph.move_start(observation, achieved_goal)
        path = graph.shortest_path()
        if path and context.config.smooth_path:
            smooth_path(graph, path, context.experienced)
        plan.path = path[1:]
        if plan.path:
            node = plan.path[0]
            plan.chase(graph.point(node), float(graph.distance[0, node]))
        else:
            plan.chase(plan.goal, context.config.max_edge)
        return plan


class WithoutBlockedEdges(MeasuredPlanner):
    """An edge that failed is as good as it was before."""

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
    ) -> GraphPlan:
        """See :class:`GraphPlanner`."""
        plan = super().begin(observation, achieved_goal, goal, rng, learning)
        # All later graphs of the plan share this list.
        plan.graph.failed = _Forgotten()
        return plan


class _Forgotten(list[tuple[FloatArray, FloatArray]]):
    """Edges that failed, of which none is remembered."""

    def append(self, edge: tuple[FloatArray, FloatArray]) -> None:
        """Nothing."""


AT_EVALUATION: dict[str, dict[str, Any]] = {
    "nothing": {},
    "verification by experience": {"unverified_cost": 1.0},
    # A cost that is the length itself needs a hard cutoff: without one, most edges are wrong.
    "convex cost": {"safe_edge": 1e6, "max_edge": 8.0},
    "commitment": {"planner": WithoutCommitment},
    "blocked edges": {"planner": WithoutBlockedEdges},
    "nodes drawn again": {"redraws": 0},
    "path smoothing": {"smooth_path": False},
}
"""Remedies that a trained agent can do without, by the arguments of
:func:`~benchmarks.subgoals.measure.equip` that switch each off."""
WHILE_LEARNING: dict[str, dict[str, Any]] = {
    "planner in the loop": {"direct_episodes": 1.0},
    "chased goals relabelled": {"her_future": 0.6, "her_random": 0.4},
    "exploration of the frontier": {"explore_share": 0.0},
    "Fourier features": {"fourier_features": 0},
    "stitched positives": {"stitched_share": 0.0},
    "calibrated cutoff": {"calibrate_cutoff": False},
}
"""Remedies that have to be left out of a training, by the settings that switch each off."""
