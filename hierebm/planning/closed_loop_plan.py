"""Plans of the closed loop: a path, what is left of it, and what the agent does instead."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hierebm.checkpoint.arrays import checked, plain
from hierebm.planning.graph.gates import Gate
from hierebm.planning.planner import PlanState
from hierebm.types import FloatArray

Failed = list[tuple[FloatArray, FloatArray]]
"""(from, to), (goal_dim,) each, of the edges that failed on the way to one goal."""


@dataclass
class ClosedLoopPlan(PlanState):
    """A path, what is left of it, and what the agent does instead of following it.

    Planners add what the path is made of.
    """

    path: list[int] = field(default_factory=list, init=False)
    """Nodes still to visit, the current subgoal first; empty when no path was found. Where the last
    one is not the goal, the rest of the way is planned from there."""
    way: list[tuple[FloatArray, float]] = field(default_factory=list, init=False)
    """While exploring: the subgoals after this one, and the steps to each."""
    exploring: bool = field(default=False, init=False)
    """The subgoal is on the frontier, not on any way to the goal."""
    gate: Gate | None = None
    """The gate that the path leads to, instead of the goal."""
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

    @property
    @abstractmethod
    def goal_node(self) -> int:
        """The number of the node that the path leads to: the goal, or the gate."""

    @property
    @abstractmethod
    def start(self) -> FloatArray:
        """(goal_dim,) where the edge to the subgoal begins."""

    @property
    @abstractmethod
    def is_verified(self) -> bool:
        """Whether there is a path and experience verifies every edge of it."""

    @property
    @abstractmethod
    def is_next_verified(self) -> bool:
        """Whether experience verifies the edge to the first node of the path."""

    def state_dict(self) -> dict[str, Any]:
        """See :class:`PlanState`."""
        own = {name: getattr(self, name) for name in _PLAIN}
        gate = None if self.gate is None else vars(self.gate)
        return {**super().state_dict(), **own, "gate": gate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, but for what the path is made of.

        Raises:
            ValueError: it is of other lengths or another path, or damaged.
        """
        super().load_state_dict(state)
        dim, path = len(self.goal), state["path"]
        if not all(isinstance(node, int) and 0 < node <= self.goal_node for node in path):
            raise ValueError(f"a path over {path!r:.60}, of {self.goal_node} nodes")
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


def _steps(value: Any) -> float:
    return float(plain({"steps": value}, "steps", 0.0, float("inf")))


_PLAIN = ("path", "way", "exploring", "jumping", "last", "moved", "told", "planned_for")
"""Names of a plan's own fields that hold arrays and plain values."""
