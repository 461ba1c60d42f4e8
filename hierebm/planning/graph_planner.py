"""The graph planner: what is chased lies on a shortest path over sampled nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from hierebm.checkpoint.arrays import checked
from hierebm.planning.closed_loop import ClosedLoopPlanner
from hierebm.planning.closed_loop_plan import Failed
from hierebm.planning.graph.nodes import Nodes
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.planning.graph_plan import GraphPlan
from hierebm.planning.landmark_ways import LandmarkWays
from hierebm.planning.sampling_planner import SamplingPlanner
from hierebm.types import BoolArray, FloatArray


class GraphPlanner(SamplingPlanner, ClosedLoopPlanner[GraphPlan]):
    """Sampler -> graph -> shortest path -> subgoal, and what happens when a subgoal is missed."""

    # The graph of the last search, and ways over it.
    _searched: tuple[csr_array, LandmarkWays] | None = None

    # ------------------------------------------------------------------- planning

    def _plan(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool,
        failed: Failed,
        before: GraphPlan | None = None,
    ) -> GraphPlan:
        """A plan over new nodes that remembers which edges failed so far."""
        started, c, edges = time.perf_counter(), self.context.config, self.context.edges
        pool = self.context.experienced
        gate = self._gate(achieved_goal, goal, failed)
        target = goal if gate is None else gate.point
        draw = self.sampler.sample
        # While learning, an unknown way is explored; otherwise other nodes may know one.
        for redraws in reversed(range(1 if learning else 1 + c.redraws)):
            nodes = draw(achieved_goal, target, c.n_subgoals, pool, rng, edges)
            if not isinstance(nodes, Nodes) or not len(nodes):
                raise ValueError(
                    f"{type(self.sampler).__name__}.sample must return at least one node: make "
                    "Nodes of points by pool.nodes_at(points)"
                )
            graph = SubgoalGraph(nodes, target, edges, failed)
            graph.move_start(observation, achieved_goal)
            plan = GraphPlan(goal, rng, learning, graph=graph, gate=gate, last=achieved_goal)
            hopeless = redraws > 0 and not graph.may_be_verified()
            doubtful = hopeless or nodes.in_order > 0
            leads = not redraws or not doubtful or edges.may_lead(achieved_goal, target)
            if not (hopeless and leads):
                self.find_path(plan, achieved_goal)
            if not redraws or plan.is_verified or plan.arrived or plan.jumping:
                break
            if not leads and (plan.path or nodes.in_order):
                # No nodes know a verified way, and these know a beginning.
                break
            draw = self.sampler.lay_out
        if not (learning or plan.leads_to_the_end or plan.arrived or plan.jumping):
            plan = self._over_landmarks(plan, observation, achieved_goal) or plan
        graph = plan.graph
        if failed and not (plan.path or plan.exploring or plan.jumping):
            graph.unblock()
            self.find_path(plan, achieved_goal)
        self._record(
            plan,
            {
                "graph/nodes": len(graph.nodes),
                "graph/edges": graph.edges.sum(),
                "graph/path_found_rate": bool(plan.path),
                "graph/path_verified_rate": plan.is_verified,
                "graph/plan_ms": 1e3 * (time.perf_counter() - started),
            },
        )
        return plan

    def _over_landmarks(
        self, plan: GraphPlan, observation: FloatArray, achieved_goal: FloatArray
    ) -> GraphPlan | None:
        """A verified path to the end over landmarks, where no drawn nodes had one; None if there is
        none."""
        known, target = self.context.transition_map, plan.graph.goal
        if known is None or not known.may_lead(achieved_goal, target):
            return None
        failed = plan.graph.failed
        (way,) = self._ways(known).find(achieved_goal, target, failed, 1, plan.rng)
        if not way.is_verified or len(way.points) == 2:
            return None
        nodes = self.context.experienced.nodes_at(way.points[1:-1])
        graph = SubgoalGraph(nodes, target, self.context.edges, failed)
        graph.move_start(observation, achieved_goal)
        over = GraphPlan(plan.goal, plan.rng, False, graph=graph, gate=plan.gate, last=plan.last)
        self.find_path(over, achieved_goal)
        return over if over.leads_to_the_end else None

    def _ways(self, known: TransitionMap) -> LandmarkWays:
        """Ways over the landmarks of the last search."""
        points, hops = known.hops()
        if self._searched is None or self._searched[0] is not hops:
            scale, unverified_cost = self.context.step_scale, self.context.config.unverified_cost

            def price(source: FloatArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
                steps = np.abs((target - source) / scale).max(-1)
                return unverified_cost * steps, np.zeros(len(steps), np.bool_)

            ways = LandmarkWays(points, hops, known.spacing, scale, price)
            self._searched = hops, ways
        return self._searched[1]

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
        if self._explores(plan, achieved_goal, to_the_goal=plan.leads_to_the_end):
            return
        if plan.path:
            self._set_subgoal(plan)
        else:
            self._chase(plan, plan.graph.goal, self.context.config.max_edge)

    def _set_subgoal(self, plan: GraphPlan) -> None:
        """Chase the first node of the path."""
        node, graph = plan.path[0], plan.graph
        subgoal, predicted = graph.point(node), float(graph.distance[0, node])
        plan.told = self._told(plan, graph.start_observation, graph.start, subgoal)
        self._chase(plan, subgoal, predicted)

    # ------------------------------------------------------------------ following

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

    def _failed(self, plan: GraphPlan) -> Failed:
        return plan.graph.failed

    def _block(self, plan: GraphPlan, source: FloatArray, target: FloatArray) -> None:
        plan.graph.block(source, target)

    def _move_end(self, plan: GraphPlan, goal: FloatArray) -> None:
        plan.graph.move_goal(goal)

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
        self._check_walk(plan.walk)
        return plan
