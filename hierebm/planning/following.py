"""Following the plans of several environments side by side: in learning and in predict alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hierebm.planning.graph.novelty_walk import Walk
from hierebm.planning.planner import Planner
from hierebm.types import BoolArray, FloatArray, GoalObservation


class PlanFollower:
    """The plans of n environments, and which episodes go without one.

    Args:
        planner: makes the plans and follows them.
        plans: one for each environment, None where there is none yet; None for no plans at all.
        n: number of environments.
        rng: gives the source of the draws of a new plan, and of ``direct_share``.
        learning: given to the planner.
        direct_share: share of episodes in which the final goal is chased all the way.
        direct: (n,) in which of the running ones; None draws it.

    Raises:
        ValueError: plans of another number of environments.
    """

    def __init__(
        self,
        planner: Planner,
        plans: Sequence[Any] | None,
        n: int,
        rng: Callable[[], np.random.Generator],
        *,
        learning: bool,
        direct_share: float = 0.0,
        direct: Sequence[bool] | None = None,
    ) -> None:
        self.planner, self.rng = planner, rng
        self.plans = [None] * n if plans is None else list(plans)
        if len(self.plans) != n:
            raise ValueError(
                f"the state is that of {len(self.plans)} environment(s), the observation of {n}: "
                "hand back what the last predict on these environments returned, or None"
            )
        self.learning, self.direct_share = learning, direct_share
        self._direct = [False] * n if direct is None else list(direct)
        if len(self._direct) != n:
            raise ValueError(f"{len(self._direct)} episode(s) go without a plan or not, not {n}")
        if learning and direct is None:
            self._direct = (rng().random(n) < direct_share).tolist()

    def advance(
        self,
        observation: GoalObservation,
        ended: Sequence[bool] | BoolArray,
        valid: BoolArray | None = None,
    ) -> None:
        """The environments are one step later, or begin another episode.

        Args:
            observation: the current one, of n rows.
            ended: (n,) the episode that a plan was made for is over.
            valid: (n,) False where the step was a reset and no transition; default: nowhere.
        """
        for i in range(len(self.plans)):
            if valid is not None and not valid[i]:
                # The last plan was made for the end of the episode before.
                self.plans[i] = None
                continue
            plan = self.plans[i]
            if ended[i]:
                self.plans[i] = None
                if self.learning:
                    self._direct[i] = bool(self.rng().random() < self.direct_share)
            elif plan is not None:
                self.plans[i] = self._stepped(plan, observation, i)

    def _stepped(self, plan: Any, observation: GoalObservation, i: int) -> Any:
        """The plan one step later; None where the goal is another one now."""
        goal = observation.desired_goal[i]
        if not np.array_equal(plan.goal, goal) and not self.planner.move_goal(plan, goal):
            return None
        later = self.planner.step(plan, observation.observation[i], observation.achieved_goal[i])
        if later is None:
            raise TypeError(f"{type(self.planner).__name__}.step must return the plan, got None")
        return later

    def subgoals(self, observation: GoalObservation) -> FloatArray:
        """(n, goal_dim) what to chase now; plans are made where there are none.

        Args:
            observation: the one that :meth:`advance` saw last, or that of a reset.
        """
        goals = observation.desired_goal.copy()
        for i, direct in enumerate(self._direct):
            if direct:
                continue
            plan = self.plans[i]
            if plan is None:
                plan = self.plans[i] = self.planner.begin(
                    observation.observation[i],
                    observation.achieved_goal[i],
                    observation.desired_goal[i],
                    self.rng(),
                    self.learning,
                )
            goals[i] = plan.subgoal
        return goals

    @property
    def direct(self) -> Sequence[bool]:
        """In which of the running episodes the final goal is chased all the way, n of them."""
        return self._direct

    @property
    def random_walk(self) -> Sequence[bool]:
        """Whether each plan asks for random actions instead of its subgoal, n of them."""
        return [plan is not None and plan.random_walk for plan in self.plans]

    def walk(self, random: FloatArray) -> FloatArray:
        """(n, action_dim) random actions -> the same, but for plans whose walk chose another."""
        action = random.copy()
        for i, plan in enumerate(self.plans):
            # A plan need not be a PlanState, and may call anything else by this name.
            if isinstance(walk := getattr(plan, "walk", None), Walk):
                action[i] = walk.action
        return action
