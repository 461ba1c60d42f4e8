"""The graph planner's settings, and its plans: a path through a subgoal graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hierebm.planning.closed_loop_plan import ClosedLoopPlan
from hierebm.planning.graph.edges import GraphConfig
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.settings import setting
from hierebm.types import FloatArray


@dataclass
class PlannerConfig(GraphConfig):
    """Planning and exploration."""

    n_subgoals: int = setting(
        64, "Subgoal candidates (nodes of the graph) in a query.", low=1, high=2000
    )
    redraws: int = setting(
        2,
        "Times that other nodes are laid out, in predict, where those drawn give no verified path.",
        low=0,
        high=100,
    )
    calibrate_cutoff: bool = setting(
        True,
        "Let safe_edge grow to the predicted steps up to which 95% of the subgoals were reached "
        "while learning. Off: it stays as it was set, and no way closes.",
    )
    smooth_path: bool = setting(
        True, "Move the nodes of a path to stored states over which the path costs less."
    )
    explore_share: float = setting(
        0.75,
        "While learning, where no verified path to the goal is known: share of times that the low "
        "level explores the frontier instead of trying an unverified path.",
        low=0,
        high=1,
    )


@dataclass
class GraphPlan(ClosedLoopPlan):
    """A path through a subgoal graph."""

    graph: SubgoalGraph = field(kw_only=True)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`PlanState`."""
        return {**super().state_dict(), "graph": self.graph.state_dict()}

    @property
    def goal_node(self) -> int:
        """See :class:`ClosedLoopPlan`."""
        return self.graph.goal_node

    @property
    def start(self) -> FloatArray:
        """See :class:`ClosedLoopPlan`."""
        return self.graph.start

    @property
    def is_verified(self) -> bool:
        """Whether there is a path and experience verifies every edge of it."""
        nodes = [0, *self.path]
        return bool(self.path) and not self.graph.unverified[nodes[:-1], nodes[1:]].any()

    @property
    def leads_to_the_end(self) -> bool:
        """Whether the path is verified and leads all the way, not only to where it is laid out."""
        return self.is_verified and self.path[-1] == self.goal_node

    @property
    def is_next_verified(self) -> bool:
        """See :class:`ClosedLoopPlan`."""
        return not self.graph.unverified[0, self.path[0]]
