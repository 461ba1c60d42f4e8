"""The sequence planner's plans: a sequence of planned states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hierebm.checkpoint.arrays import checked, plain
from hierebm.planning.closed_loop_plan import ClosedLoopPlan, Failed
from hierebm.types import BoolArray, FloatArray


@dataclass
class SequencePlanState(ClosedLoopPlan):
    """A sequence of planned states; its path is made of their numbers."""

    states: FloatArray = field(kw_only=True)
    """(T, goal_dim) planned states, the first where the plan began, the last the goal or a gate."""
    energies: FloatArray = field(kw_only=True)
    """(T - 1,) energy of each transition."""
    verified: BoolArray = field(kw_only=True)
    """(T - 1,) whether experience leads over each transition."""
    at: FloatArray = field(kw_only=True)
    """(goal_dim,) where the agent was when it began to chase the subgoal."""
    chased_verified: bool = field(default=False, init=False)
    """Whether experience leads from there to the subgoal."""
    failed: Failed = field(default_factory=list)
    """Edges that failed on the way to this goal."""

    @property
    def goal_node(self) -> int:
        """See :class:`ClosedLoopPlan`."""
        return len(self.states) - 1

    @property
    def start(self) -> FloatArray:
        """See :class:`ClosedLoopPlan`."""
        return self.at

    @property
    def is_verified(self) -> bool:
        """See :class:`ClosedLoopPlan`."""
        return bool(self.path) and bool(self.verified[self.path[0] - 1 :].all())

    @property
    def is_next_verified(self) -> bool:
        """See :class:`ClosedLoopPlan`."""
        return self.chased_verified

    def lead_aside(self, here: FloatArray, point: FloatArray) -> None:
        """Plan from here (goal_dim,) over a verified point (goal_dim,); from there, plan again."""
        self.states = np.stack([here, point, self.states[-1]])
        self.energies, self.verified = np.zeros(2, np.float32), np.array([True, False])
        self.path, self.at, self.chased_verified = [1], here, True

    @classmethod
    def restored(
        cls, state: Mapping[str, Any], rng: np.random.Generator, dim: int
    ) -> SequencePlanState:
        """What :meth:`state_dict` gave, of goals of length dim.

        Raises:
            ValueError: it is of another plan, or damaged.
        """
        states = checked(state, "states", (None, dim), "floats")
        n = len(states) - 1
        plan = cls(
            goal := checked(state, "goal", (dim,), "floats"),
            rng,
            False,
            last=goal,
            states=states,
            energies=checked(state, "energies", (n,), "floats", low=-math.inf, high=math.inf),
            verified=np.zeros(n, np.bool_),
            at=goal,
        )
        plan.load_state_dict(state)
        return plan

    def state_dict(self) -> dict[str, Any]:
        """See :class:`PlanState`."""
        failed = np.zeros((0, 2, len(self.goal)), np.float32)
        own = {name: getattr(self, name) for name in ("states", "energies", "verified", "at")}
        own["chased_verified"] = self.chased_verified
        own["failed"] = np.array(self.failed, np.float32) if self.failed else failed
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, but for the states.

        Raises:
            ValueError: it is of another plan, or damaged.
        """
        super().load_state_dict(state)
        dim, n = len(self.goal), len(self.states)
        self.verified = checked(state, "verified", (n - 1,), "flags")
        self.at = checked(state, "at", (dim,), "floats")
        self.chased_verified = bool(plain(state, "chased_verified", 0, 1))
        self.failed = [(a, b) for a, b in checked(state, "failed", (None, 2, dim), "floats")]
