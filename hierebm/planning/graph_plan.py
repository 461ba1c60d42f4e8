"""The graph planner's settings, and its plans: a path through a subgoal graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hierebm.checkpoint.arrays import checked, plain
from hierebm.planning.graph.edges import GraphConfig
from hierebm.planning.graph.gates import Gate
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.planning.planner import PlanState
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
        "Times that other nodes are drawn, in predict, where those drawn give no verified path.",
        low=0,
        high=100,
    )
    calibrate_cutoff: bool = setting(
        True,
        "Let safe_edge grow to the predicted steps up to which 95% of the subgoals were reached "
        "while learning. Off: it stays as it was set.",
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
class GraphPlan(PlanState):
    """A path through a subgoal graph."""

    graph: SubgoalGraph = field(kw_only=True)
    path: list[int] = field(default_factory=list, init=False)
    """Nodes still to visit, the current subgoal first; empty when no path was found. Where the last
    one is not the goal, the rest of the way is planned from there."""
    way: list[tuple[FloatArray, float]] = field(default_factory=list, init=False)
    """While exploring: the subgoals after this one, and the steps to each."""
    exploring: bool = field(default=False, init=False)
    """The subgoal is on the frontier, not on any way to the goal."""
    gate: Gate | None = None
    """The gate that the graph leads to, instead of the goal."""
    jumping: bool = field(default=False, init=False)
    """The agent is at the gate and tries to jump."""
    last: FloatArray = field(kw_only=True)
    """(goal_dim,) the achieved goal one environment step ago."""

    moved: FloatArray = field(default_factory=lambda: np.zeros(1, np.float32), init=False)
    """(1,) full-speed steps that the achieved goal moved in the last environment step."""
    told: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    """Steps to the current subgoal, as the fastest trajectories and as the low level predict."""

    planned_for: FloatArray = field(init=False)
    """(goal_dim,) the final goal when the plan was made; it may have moved since."""

    def __post_init__(self) -> None:
        self.planned_for = self.goal

    def state_dict(self) -> dict[str, Any]:
        """See :class:`PlanState`."""
        own = {name: getattr(self, name) for name in _PLAIN}
        gate = None if self.gate is None else vars(self.gate)
        return {**super().state_dict(), **own, "gate": gate, "graph": self.graph.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, but for the graph.

        Raises:
            ValueError: it is of other lengths or another graph, or damaged.
        """
        super().load_state_dict(state)
        dim, path = len(self.goal), state["path"]
        if not all(isinstance(node, int) and 0 < node <= self.graph.goal_node for node in path):
            raise ValueError(
                f"a path over {path!r:.60}, in a graph of {self.graph.goal_node} nodes"
            )
        own: dict[str, Any] = {
            name: checked(state, name, (length,), "floats")
            for name, length in {"last": dim, "planned_for": dim, "moved": 1}.items()
        }
        for name in ("exploring", "jumping"):
            own[name] = bool(plain(state, name, 0, 1))
        way = [(checked({"way": p}, "way", (dim,), "floats"), _steps(n)) for p, n in state["way"]]
        fewest, expected = map(_steps, state["told"])
        gate = None if state["gate"] is None else Gate.restored(state["gate"], dim)
        own |= {"path": list(path), "way": way, "told": (fewest, expected), "gate": gate}
        vars(self).update(own)

    @property
    def is_verified(self) -> bool:
        """Whether there is a path and experience verifies every edge of it."""
        nodes = [0, *self.path]
        return bool(self.path) and not self.graph.unverified[nodes[:-1], nodes[1:]].any()


def _steps(value: Any) -> float:
    return float(plain({"steps": value}, "steps", 0.0, math.inf))


_PLAIN = ("path", "way", "exploring", "jumping", "last", "moved", "told", "planned_for")
"""Names of a graph plan's own fields that hold arrays and plain values."""
