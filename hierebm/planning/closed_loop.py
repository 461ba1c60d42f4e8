"""The closed loop that planners share: what is chased, missed, explored, jumped and learned from.

Whatever a path is made of, the agent commits to a subgoal of it until that is reached or its budget
is spent; while no verified path is known, learning explores the frontier; at a gate it tries to
jump; what became of a subgoal is told to the edge cutoff. All of it rests on the experience that
the high level keeps in the :class:`~hierebm.planning.context.PlanningContext`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import numpy as np

from hierebm.planning.closed_loop_plan import ClosedLoopPlan, Failed
from hierebm.planning.graph.gates import TRY, Gate, Gates, far_steps
from hierebm.planning.graph.novelty_walk import Walk
from hierebm.planning.graph.subgoal_graph import ALIKE
from hierebm.planning.planner import Planner
from hierebm.types import FloatArray

# Steps of a random-walk phase, which begins at the frontier.
RANDOM_WALK_STEPS = 48

P = TypeVar("P", bound=ClosedLoopPlan)


class ClosedLoopPlanner(Planner, Generic[P]):
    """Follows paths; :meth:`_plan`, :meth:`_advance` and :meth:`_block` say what they are."""

    @abstractmethod
    def _plan(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool,
        failed: Failed,
        before: P | None = None,
    ) -> P:
        """A new plan that remembers which edges failed so far.

        Args:
            before: the plan that this one replaces.
        """

    @abstractmethod
    def _advance(self, plan: P, observation: FloatArray, achieved_goal: FloatArray) -> bool:
        """Go on to a later node of the path; False where there is none to go on to."""

    @abstractmethod
    def _failed(self, plan: P) -> Failed:
        """The edges that failed on the way to this goal; grows in place."""

    def _block(self, plan: P, source: FloatArray, target: FloatArray) -> None:
        """The edge from source (goal_dim,) to target failed."""
        self._failed(plan).append((source, target))

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
    ) -> P:
        """Plan from (obs_dim,), (goal_dim,) to the final goal (goal_dim,).

        Raises:
            RuntimeError: if there is no experience to plan with yet.
        """
        return self._plan(observation, achieved_goal, goal, rng, learning, [])

    def replan(self, plan: P, observation: FloatArray, achieved_goal: FloatArray) -> P:
        """Another plan from the current state; edges that failed stay blocked."""
        failed, goal = self._failed(plan), plan.goal
        return self._plan(observation, achieved_goal, goal, plan.rng, plan.learning, failed, plan)

    # ---------------------------------------------------------------------- gates

    @property
    def _gates(self) -> Gates | None:
        """The gates that are known; None without any."""
        known = self.context.transition_map
        return known.gates if known is not None and len(known.gates) else None

    def _gate(self, achieved_goal: FloatArray, goal: FloatArray, failed: Failed) -> Gate | None:
        """The gate that the best way to the goal leads to first, without those that failed."""
        if self._gates is None or self._is_reached(achieved_goal, goal):
            return None
        avoided = np.array([target for _, target in failed], np.float32).reshape(-1, len(goal))
        margin = ALIKE * self.context.step_scale
        return self._gates.route(achieved_goal, goal, avoided, margin)

    def _try_to_jump(self, plan: P, gate: Gate) -> None:
        """At the gate: chase where a jump once led. What decides is whether there is a jump."""
        self._chase(plan, gate.exit, float(TRY))
        plan.path, plan.budget, plan.jumping = [], TRY, True

    # ------------------------------------------------------------------ exploring

    def _explores(self, plan: P, achieved_goal: FloatArray, *, to_the_goal: bool) -> bool:
        """While learning, where no verified path leads to the goal: perhaps explore the frontier.

        Args:
            to_the_goal: whether a verified path does.

        Returns:
            whether the subgoal is on the frontier now.
        """
        explore = plan.learning and not to_the_goal
        if not explore or plan.rng.random() >= self.context.config.explore_share:
            return False
        self._explore(plan, *self._frontier(plan, achieved_goal))
        return True

    def _explore(self, plan: P, points: FloatArray, steps: FloatArray) -> None:
        """Go along points (m, goal_dim), so many steps (m,) each, and explore from the last on."""
        plan.path, plan.way = [], list(zip(points, steps.tolist(), strict=True))
        self._chase(plan, *plan.way.pop(0))
        plan.exploring = True

    def _frontier(self, plan: P, achieved_goal: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Subgoals (m, goal_dim) on a way to the frontier that experience leads to, and the steps
        (m,) to each from the one before.
        """
        context, max_edge = self.context, self.context.config.max_edge
        if context.transition_map is not None:
            found = context.transition_map.frontier(achieved_goal, context.safe_edge, plan.rng)
            if found is not None:
                return found
        stored = context.experienced.achieved_goal
        radius = max_edge * context.step_scale
        near = np.flatnonzero((np.abs(stored - achieved_goal) <= radius).all(-1))
        subgoal = stored[plan.rng.choice(near)] if near.size else plan.goal
        return subgoal[None], np.full(1, max_edge, np.float32)

    def _walk(self, plan: P, achieved_goal: FloatArray) -> None:
        """Go on with the novelty walk; without a transition map, the walk is a random one."""
        if (novelty := self.context.novelty_walk) is not None:
            plan.walk = novelty.step(plan.walk, achieved_goal, plan.elapsed, plan.rng)

    def _check_walk(self, walk: Walk | None) -> None:
        """Raises ValueError where a restored walk is of another agent."""
        novelty = self.context.novelty_walk
        if walk is not None and (
            novelty is None or len(walk.action) != novelty.displacement.action_dim
        ):
            raise ValueError("a walk by actions of another number of axes")

    # ------------------------------------------------------------------ following

    def _chase(self, plan: P, subgoal: FloatArray, predicted: float) -> None:
        """Chase a subgoal (goal_dim,), on the path or not, that should take so many steps."""
        plan.chase(subgoal, predicted)
        known = self.context.transition_map
        if known is not None and known.expected_share:
            slowness = float(known.slowness(plan.last[None], subgoal[None])[0])
            plan.slowness = 1.0 + known.expected_share * max(slowness - 1.0, 0.0)
        plan.exploring = plan.random_walk = plan.jumping = False

    def step(self, plan: P, observation: FloatArray, achieved_goal: FloatArray) -> P:
        """Follow the plan to the current state: keep its subgoal, advance, or plan again."""
        plan.elapsed += self.context.step_length
        gates, last, plan.last = self._gates, plan.last, achieved_goal
        if gates is not None:
            moved = (achieved_goal - last) / self.context.step_scale
            before, plan.moved = plan.moved, np.abs(moved).max(keepdims=True)
            if far_steps(moved[None], before)[0]:
                if plan.jumping and plan.learning:
                    gates.add_try(last, jumped=True)
                return self.replan(plan, observation, achieved_goal)
        at_goal, reached = self._reached(achieved_goal, plan.goal, plan.subgoal)
        # What is learned by exploring does not depend on the goal: it may lie on the way.
        if at_goal and not (plan.learning and plan.exploring):
            return self._stay(plan, reached)
        if plan.jumping and plan.gate is not None:
            if plan.elapsed < plan.budget:
                return plan
            if plan.learning and gates is not None:
                gates.add_try(plan.gate.point, jumped=False)
            self._block(plan, plan.gate.point, plan.gate.point)
            return self.replan(plan, observation, achieved_goal)
        missed = self.is_missed(plan, observation, achieved_goal)
        if plan.random_walk and not missed:
            self._walk(plan, achieved_goal)
            return plan
        if plan.exploring and not plan.random_walk and reached and plan.way:
            plan.chase(*plan.way.pop(0))
        elif plan.exploring and not plan.random_walk and (reached or missed):
            plan.walk_at_random(RANDOM_WALK_STEPS)
            self._walk(plan, achieved_goal)
        elif not plan.path and (reached or missed):
            return self.replan(plan, observation, achieved_goal)
        elif reached:
            self._record_outcome(plan, reached=True)
            at_gate = plan.gate is not None and plan.path == [plan.goal_node]
            if at_gate or not self._advance(plan, observation, achieved_goal):
                return self.replan(plan, observation, achieved_goal)
        elif missed:
            self._record_outcome(plan, reached=False)
            self._block(plan, plan.start, plan.subgoal)
            self._block(plan, achieved_goal, plan.subgoal)
            return self.replan(plan, observation, achieved_goal)
        return plan

    def _stay(self, plan: P, reached: bool) -> P:
        """The same plan, to stay on the final goal; ``reached``: its subgoal is reached, too."""
        if plan.path and reached and not plan.arrived:
            self._record_outcome(plan, reached=True)
        # No edge is on the way any more that could fail.
        plan.path, plan.exploring = [], False
        plan.stay()
        return plan

    def move_goal(self, plan: P, goal: FloatArray) -> bool:
        """See :class:`Planner`: a plan serves while the goal it was made for would count as this
        one, so that a goal that moves slowly does not cost a plan at every step."""
        if not self._is_reached(plan.planned_for, goal):
            return False
        if np.array_equal(plan.subgoal, plan.goal):
            plan.subgoal = goal
        plan.goal = goal
        if plan.gate is None:
            self._move_end(plan, goal)
        return True

    @abstractmethod
    def _move_end(self, plan: P, goal: FloatArray) -> None:
        """The end of the path is at (goal_dim,) now."""

    def _is_reached(self, achieved_goal: FloatArray, point: FloatArray) -> bool:
        return self._reached(achieved_goal, point)[0]

    def _reached(self, achieved_goal: FloatArray, *points: FloatArray) -> list[bool]:
        """Whether each point (goal_dim,) is reached."""
        here = np.repeat(achieved_goal[None], len(points), 0)
        reached: list[bool] = self.context.reached(here, np.stack(points)).tolist()
        return reached

    # ------------------------------------------------------- what is learned from

    def _told(
        self, plan: P, observation: FloatArray, achieved_goal: FloatArray, subgoal: FloatArray
    ) -> tuple[float, float]:
        """Steps from here to a subgoal, as :class:`ClosedLoopPlan` remembers them of a try; zeros
        where nothing is learned from it."""
        known = self.context.transition_map
        if known is None or not plan.learning:
            return 0.0, 0.0
        start, target = achieved_goal[None], subgoal[None]
        predicted = self.context.edges.predict(observation[None], start, target)
        fewest = known.fewest(start, target, predicted)
        return float(fewest[0]), float(known.expected(start, target)[0])

    def _left(self, achieved_goal: FloatArray, subgoal: FloatArray) -> float:
        """Steps that are left at least where a try is given up."""
        known = self.context.transition_map
        assert known is not None
        start, target = achieved_goal[None], subgoal[None]
        return float(known.fewest(start, target, known.expected(start, target))[0])

    def _record_outcome(self, plan: P, reached: bool) -> None:
        cutoff = self.context.edge_cutoff
        # Unverified edges say nothing about how far a verified one may be.
        if plan.learning and cutoff is not None and plan.is_next_verified:
            fewest, expected = plan.told
            spent = plan.elapsed
            if not reached and expected > fewest:
                spent += self._left(plan.last, plan.subgoal)
            known = self.context.transition_map
            if not reached and known is not None:
                known.doubt(plan.last, plan.subgoal, cutoff.surprise)
            cutoff.add(plan.predicted, reached, fewest=fewest, expected=expected, spent=spent)
        metrics = {"subgoal/reached_rate": float(reached)}
        if reached:
            metrics["subgoal/distance_error"] = plan.elapsed - plan.predicted
        self._record(plan, metrics)

    def _record(self, plan: P, metrics: Mapping[str, float]) -> None:
        (self.stats if plan.learning else self.stats_of_predict).add(metrics)
