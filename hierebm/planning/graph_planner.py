"""The graph planner: commits to a subgoal until it is reached or its budget is spent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from hierebm.checkpoint.arrays import checked
from hierebm.planning.graph.gates import TRY, Gate, Gates, far_steps
from hierebm.planning.graph.nodes import Nodes
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph.subgoal_graph import ALIKE, SubgoalGraph
from hierebm.planning.graph_plan import GraphPlan
from hierebm.planning.sampling_planner import SamplingPlanner
from hierebm.types import FloatArray

# Steps of a random-walk phase, which begins at the frontier.
RANDOM_WALK_STEPS = 48


class GraphPlanner(SamplingPlanner):
    """Sampler -> graph -> shortest path -> subgoal, and what happens when a subgoal is missed."""

    # ------------------------------------------------------------------- planning

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
    ) -> GraphPlan:
        """Plan from (obs_dim,), (goal_dim,) to the final goal (goal_dim,).

        Raises:
            RuntimeError: if there is no experience to draw nodes from yet.
        """
        return self._plan(observation, achieved_goal, goal, rng, learning, failed=[])

    def _plan(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool,
        failed: list[tuple[FloatArray, FloatArray]],
    ) -> GraphPlan:
        """A plan over new nodes that remembers which edges failed so far."""
        started, c, edges = time.perf_counter(), self.context.config, self.context.edges
        pool = self.context.experienced
        gate = self._gate(achieved_goal, goal, failed)
        target = goal if gate is None else gate.point
        # While learning, an unknown way is explored; otherwise other nodes may know one.
        for redraws in reversed(range(1 if learning else 1 + c.redraws)):
            nodes = self.sampler.sample(achieved_goal, target, c.n_subgoals, pool, rng, edges)
            if not isinstance(nodes, Nodes) or not len(nodes):
                raise ValueError(
                    f"{type(self.sampler).__name__}.sample must return at least one node: make "
                    "Nodes of points by pool.nodes_at(points)"
                )
            graph = SubgoalGraph(nodes, target, edges, failed)
            graph.move_start(observation, achieved_goal)
            plan = GraphPlan(goal, rng, learning, graph=graph, gate=gate, last=achieved_goal)
            hopeless = redraws > 0 and not graph.may_be_verified()
            last = not redraws or (hopeless and not edges.may_lead(achieved_goal, target))
            if last or not hopeless:
                self.find_path(plan, achieved_goal)
            if last or plan.is_verified or plan.arrived or plan.jumping:
                break
        if failed and not (plan.path or plan.exploring or plan.jumping):
            graph.unblock()
            self.find_path(plan, achieved_goal)
        self._record(
            plan,
            {
                "graph/nodes": len(nodes),
                "graph/edges": graph.edges.sum(),
                "graph/path_found_rate": bool(plan.path),
                "graph/path_verified_rate": plan.is_verified,
                "graph/plan_ms": 1e3 * (time.perf_counter() - started),
            },
        )
        return plan

    @property
    def _gates(self) -> Gates | None:
        """The gates that are known; None without any."""
        known = self.context.transition_map
        return known.gates if known is not None and len(known.gates) else None

    def _gate(
        self,
        achieved_goal: FloatArray,
        goal: FloatArray,
        failed: list[tuple[FloatArray, FloatArray]],
    ) -> Gate | None:
        """The gate that the best way to the goal leads to first, without those that failed."""
        if self._gates is None or self._is_reached(achieved_goal, goal):
            return None
        avoided = np.array([target for _, target in failed], np.float32).reshape(-1, len(goal))
        margin = ALIKE * self.context.step_scale
        return self._gates.route(achieved_goal, goal, avoided, margin)

    def find_path(self, plan: GraphPlan, achieved_goal: FloatArray) -> None:
        """The shortest path from here; while learning, perhaps a subgoal on the frontier."""
        if not plan.learning and self._is_reached(achieved_goal, plan.goal):
            # No detour, whatever the edges cost.
            plan.graph.predict_from_start()
            goal_node = plan.graph.goal_node
            plan.path = [goal_node] if np.isfinite(plan.graph.distance[0, goal_node]) else []
            plan.stay()
            return
        if plan.gate is not None and self._is_reached(achieved_goal, plan.gate.point):
            self._try_to_jump(plan, plan.gate)
            return
        path = plan.graph.shortest_path()
        if path and self.context.config.smooth_path:
            smooth_path(plan.graph, path, self.context.experienced)
        plan.path = path[1:]
        to_the_goal = plan.is_verified and plan.path[-1] == plan.graph.goal_node
        explore = plan.learning and not to_the_goal
        if explore and plan.rng.random() < self.context.config.explore_share:
            plan.path = []
            points, steps = self._frontier(plan, achieved_goal)
            plan.way = list(zip(points, steps.tolist(), strict=True))
            self._set_subgoal(plan, *plan.way.pop(0))
            plan.exploring = True
        elif plan.path:
            self._set_subgoal(plan)
        else:
            self._set_subgoal(plan, plan.graph.goal, self.context.config.max_edge)

    def _try_to_jump(self, plan: GraphPlan, gate: Gate) -> None:
        """At the gate: chase where a jump once led. What decides is whether there is a jump."""
        self._set_subgoal(plan, gate.exit, float(TRY))
        plan.path, plan.budget, plan.jumping = [], TRY, True

    def _set_subgoal(
        self, plan: GraphPlan, subgoal: FloatArray | None = None, predicted: float = 0.0
    ) -> None:
        """Chase the first node of the path or, without one, a subgoal (goal_dim,)."""
        if subgoal is None:
            node = plan.path[0]
            subgoal, predicted = plan.graph.point(node), float(plan.graph.distance[0, node])
            plan.told = self._told(plan.graph, subgoal) if plan.learning else (0.0, 0.0)
        plan.chase(subgoal, predicted)
        plan.exploring = plan.random_walk = plan.jumping = False

    def _told(self, graph: SubgoalGraph, subgoal: FloatArray) -> tuple[float, float]:
        """Steps from the graph's start, as :class:`GraphPlan` remembers them of a try."""
        known = self.context.transition_map
        if known is None:
            return 0.0, 0.0
        start, target = graph.start[None], subgoal[None]
        expected = self.context.edges.predict(graph.start_observation[None], start, target)
        return float(known.fewest(start, target, expected)[0]), float(expected[0])

    def _frontier(
        self, plan: GraphPlan, achieved_goal: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
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

    # ------------------------------------------------------------------ following

    def step(
        self, plan: GraphPlan, observation: FloatArray, achieved_goal: FloatArray
    ) -> GraphPlan:
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
            plan.graph.block(plan.gate.point, plan.gate.point)
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
            at_gate = plan.gate is not None and plan.path == [plan.graph.goal_node]
            if at_gate or not self._advance(plan, observation, achieved_goal):
                return self.replan(plan, observation, achieved_goal)
        elif missed:
            self._record_outcome(plan, reached=False)
            plan.graph.block(plan.graph.start, plan.subgoal)
            plan.graph.block(achieved_goal, plan.subgoal)
            return self.replan(plan, observation, achieved_goal)
        return plan

    def move_goal(self, plan: GraphPlan, goal: FloatArray) -> bool:
        """See :class:`Planner`: a plan serves while the goal it was made for would count as this
        one, so that a goal that moves slowly does not cost a plan at every step."""
        if not self._is_reached(plan.planned_for, goal):
            return False
        if np.array_equal(plan.subgoal, plan.goal):
            plan.subgoal = goal
        plan.goal = goal
        if plan.gate is None:
            plan.graph.move_goal(goal)
        return True

    def _walk(self, plan: GraphPlan, achieved_goal: FloatArray) -> None:
        """Go on with the novelty walk; without a transition map, the walk is a random one."""
        if (novelty := self.context.novelty_walk) is not None:
            plan.walk = novelty.step(plan.walk, achieved_goal, plan.elapsed, plan.rng)

    def _stay(self, plan: GraphPlan, reached: bool) -> GraphPlan:
        """The same plan, to stay on the final goal; ``reached``: its subgoal is reached, too."""
        if plan.path and reached and not plan.arrived:
            self._record_outcome(plan, reached=True)
        # No edge is on the way any more that could fail.
        plan.path, plan.exploring = [], False
        plan.stay()
        return plan

    def replan(
        self, plan: GraphPlan, observation: FloatArray, achieved_goal: FloatArray
    ) -> GraphPlan:
        """A plan over new nodes from the current state; edges that failed stay blocked."""
        failed = plan.graph.failed
        return self._plan(observation, achieved_goal, plan.goal, plan.rng, plan.learning, failed)

    def _advance(self, plan: GraphPlan, observation: FloatArray, achieved_goal: FloatArray) -> bool:
        """Go on to the node of the path, the next or a later one, from which the rest is shortest.

        Choosing among all nodes again would let small errors turn the agent round: from a to b,
        from b back to a, and so for ever.

        Returns:
            whether there is such a node; not so where the path has come to its end, or to nodes
            from which the next one looks too far.
        """
        graph, path = plan.graph, plan.path[1:]
        while path and path[0] != graph.goal_node:
            if not self._is_reached(achieved_goal, graph.point(path[0])):
                break
            path = path[1:]
        if not path:
            return False
        graph.move_start(observation, achieved_goal)
        graph.predict_from_start()
        costs = graph.costs
        rest = np.cumsum([0.0, *costs[path[:-1], path[1:]][::-1]])[::-1]
        total = costs[0, path] + rest
        if not np.isfinite(total).any():
            return False
        plan.path = path[int(total.argmin()) :]
        self._set_subgoal(plan)
        return True

    def _is_reached(self, achieved_goal: FloatArray, point: FloatArray) -> bool:
        return self._reached(achieved_goal, point)[0]

    def _reached(self, achieved_goal: FloatArray, *points: FloatArray) -> list[bool]:
        """Whether each point (goal_dim,) is reached."""
        here = np.repeat(achieved_goal[None], len(points), 0)
        reached: list[bool] = self.context.reached(here, np.stack(points)).tolist()
        return reached

    def _record_outcome(self, plan: GraphPlan, reached: bool) -> None:
        cutoff = self.context.edge_cutoff
        # Unverified edges say nothing about how far a verified one may be.
        if plan.learning and cutoff is not None and not plan.graph.unverified[0, plan.path[0]]:
            fewest, expected = plan.told
            cutoff.add(
                plan.predicted, reached, fewest=fewest, expected=expected, spent=plan.elapsed
            )
        metrics = {"subgoal/reached_rate": float(reached)}
        if reached:
            metrics["subgoal/distance_error"] = plan.elapsed - plan.predicted
        self._record(plan, metrics)

    def _record(self, plan: GraphPlan, metrics: Mapping[str, float]) -> None:
        (self.stats if plan.learning else self.stats_of_predict).add(metrics)

    def show(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Plan:
        """See :class:`Planner`."""
        plan = self.begin(observation, achieved_goal, goal, rng)
        return plan.graph.to_plan([0, *plan.path] if plan.path else [])

    def plan_state(self, plan: GraphPlan) -> dict[str, Any]:
        """See :class:`Planner`."""
        return plan.state_dict()

    def restored_plan(self, state: Mapping[str, Any], rng: np.random.Generator) -> GraphPlan:
        """See :class:`Planner`."""
        goal, gate = state["goal"], state["gate"]
        target = goal if gate is None else gate["point"]
        obs_dim = self.context.experienced.observation.shape[1]
        graph = SubgoalGraph.restored(state["graph"], target, self.context.edges, obs_dim)
        goal = checked(state, "goal", (self.context.goal_dim,), "floats")
        plan = GraphPlan(goal, rng, False, graph=graph, last=graph.start)
        plan.load_state_dict(state)
        novelty, walk = self.context.novelty_walk, plan.walk
        if walk is not None and (
            novelty is None or len(walk.action) != novelty.displacement.action_dim
        ):
            raise ValueError("a walk by actions of another number of axes")
        return plan
