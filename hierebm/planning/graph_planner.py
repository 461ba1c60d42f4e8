"""The closed-loop planner: commits to a subgoal until it is reached or its budget is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.planning.samplers import SubgoalSampler
from hierebm.types import FloatArray


@dataclass
class PlannerConfig(GraphConfig):
    """Settings of subgoal search."""

    n_subgoals: int = 64
    """Subgoal candidates (nodes of the graph) in a query."""
    budget_factor: float = 2.0
    """A subgoal is missed after this many times its predicted steps ..."""
    budget_slack: int = 4
    """... plus this many."""
    redraws: int = 2
    """Times that new nodes are drawn, once learning is over, where those drawn give no path that
    experience supports."""
    calibrate: bool = True
    """Let ``safe_edge`` grow to the predicted steps up to which 95% of the subgoals were reached
    while learning. Off: it stays as it was set."""
    smooth_path: bool = True
    """Pull the path taut: its nodes move to stored states over which the way is shorter."""
    explore: float = 0.75
    """While learning, where no way to the goal is known that experience supports: share of times
    that the low level explores instead of trying what the critics believe in."""
    random_walk_steps: int = 24
    """Steps of random movement at the rim of what is known."""


@dataclass
class PlanState:
    """One environment's way to its goal; the ``state`` that ``predict`` hands back and forth."""

    goal: FloatArray
    """(goal_dim,) the final goal that this plan leads to."""
    graph: SubgoalGraph
    rng: np.random.Generator
    """Source of the draws if this plan has to be made anew."""
    path: list[int] = field(default_factory=list)
    """Nodes still to visit, the current subgoal first; empty when no path was found. Not all of
    the way has to be laid out: where the last one is not the goal, the plan is made anew there."""
    subgoal: FloatArray = field(init=False)
    """(goal_dim,) what the low level chases now."""
    predicted: float = 0.0
    """Steps that the current subgoal should take."""
    budget: int = 0
    """Steps after which it counts as missed."""
    elapsed: int = 0
    """Steps spent on the current subgoal."""
    exploring: bool = False
    """The subgoal is a place at the rim of what is known, not on any way to the goal."""
    random_walk: bool = False
    """Exploring, and there: move at random, the subgoal is not chased any more."""


@dataclass
class PlannerStats:
    """Means since the last :meth:`pop`, by TensorBoard key."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Sum and count by key: a planner may predict for ever without anybody asking."""

    def add(self, **metrics: float) -> None:
        """Keys with two underscores for the slash: ``graph__plan_ms``."""
        for key, value in metrics.items():
            total, count = self.sums.get(key.replace("__", "/"), (0.0, 0))
            self.sums[key.replace("__", "/")] = (total + float(value), count + 1)

    def pop(self) -> dict[str, float]:
        """The means, and start over."""
        means = {key: total / count for key, (total, count) in self.sums.items()}
        self.sums.clear()
        return means


class SubgoalPlanner:
    """Sampler -> graph -> shortest path -> subgoal, and what happens when a subgoal is missed.

    Args:
        edges: how nodes are joined, but for its config.
        sampler: where the nodes come from.
        config: settings, those of the edges too; may be exchanged, for the plans made from then on.
        learning: what to do where no path is found: explore, chasing random places nearby (True),
            or try the final goal itself (False).
        reliability: told of every subgoal that was reached or missed.
    """

    def __init__(
        self,
        edges: EdgeRules,
        sampler: SubgoalSampler,
        config: PlannerConfig,
        learning: bool = True,
        edge_cutoff: EdgeCutoff | None = None,
    ) -> None:
        self._rules, self.sampler, self.config = edges, sampler, config
        self.learning, self.edge_cutoff = learning, edge_cutoff
        self.pool: NodePool | None = None
        self.stats = PlannerStats()

    @property
    def edges(self) -> EdgeRules:
        """How nodes are joined, by the settings of now."""
        return replace(self._rules, config=self.config)

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> PlanState:
        """Plan from (obs_dim,), (goal_dim,) to the final goal (goal_dim,).

        Args:
            rng: source of the nodes' draw; the plan keeps it.

        Raises:
            RuntimeError: if there is no experience to draw places from yet.
        """
        return self._plan(observation, achieved_goal, goal, rng, failed=[])

    def _plan(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        failed: list[tuple[FloatArray, FloatArray]],
    ) -> PlanState:
        """A plan over new nodes that remembers what failed on the way so far."""
        if self.pool is None:
            raise RuntimeError("there is no experience to plan with yet; call learn() first")
        started, c, edges = time.perf_counter(), self.config, self.edges
        # Where learning goes on, an unknown way is explored; otherwise other nodes may know it.
        for _ in range(1 if self.learning else 1 + c.redraws):
            nodes = self.sampler.sample(achieved_goal, goal, c.n_subgoals, self.pool, rng, edges)
            graph = SubgoalGraph(nodes, goal, edges, failed)
            plan = PlanState(goal, graph, rng)
            self._find_path(plan, observation, achieved_goal)
            if self._is_verified(plan):
                break
        if failed and not plan.path and not plan.exploring:
            graph.release()
            self._find_path(plan, observation, achieved_goal)
        self.stats.add(
            graph__nodes=len(nodes),
            graph__edges=np.isfinite(graph.distance).sum(),
            graph__largest_component=graph.largest_component(),
            graph__path_found_rate=bool(plan.path),
            graph__path_known_rate=self._is_verified(plan),
            graph__plan_ms=1e3 * (time.perf_counter() - started),
        )
        return plan

    def step(
        self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> PlanState:
        """Follow the plan to where we are now: the subgoal is kept, advanced or given up."""
        plan.elapsed += 1
        missed = plan.elapsed >= plan.budget
        on_the_way = not np.array_equal(plan.subgoal, plan.goal)
        there = on_the_way and self._is_reached(achieved_goal, plan.subgoal)
        if plan.random_walk and not missed:
            return plan
        if plan.exploring and not plan.random_walk and (there or missed):
            plan.random_walk, plan.elapsed, plan.budget = True, 0, self.config.random_walk_steps
        elif not plan.path and (there or missed):
            return self._replan(plan, observation, achieved_goal)
        elif there:
            self._record_outcome(plan, reached=True)
            self.stats.add(
                subgoal__reached_rate=1.0,
                subgoal__distance_error=plan.elapsed - plan.predicted,
            )
            if not self._advance(plan, observation, achieved_goal):
                return self._replan(plan, observation, achieved_goal)
        elif missed:
            self._record_outcome(plan, reached=False)
            self.stats.add(subgoal__reached_rate=0.0)
            plan.graph.fail(plan.graph.start, plan.subgoal)
            plan.graph.fail(achieved_goal, plan.subgoal)
            return self._replan(plan, observation, achieved_goal)
        return plan

    def _record_outcome(self, plan: PlanState, reached: bool) -> None:
        # Edges that experience does not support are not where a cutoff is to be drawn.
        if self.edge_cutoff is not None and not plan.graph.unverified[0, plan.path[0]]:
            self.edge_cutoff.add(plan.predicted, reached)

    def _replan(
        self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> PlanState:
        return self._plan(observation, achieved_goal, plan.goal, plan.rng, plan.graph.failed)

    def _advance(self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray) -> bool:
        """On to the node of the path, the next or a later one, from which the rest is shortest.

        Choosing among all nodes again would let small errors turn us round: from a to b, from b
        back to a, and so for ever.

        Returns:
            whether there is such a node; not so where the path has come to its end, or to places
            from which the next one looks too far.
        """
        graph, path = plan.graph, plan.path[1:]
        while (
            path
            and path[0] != graph.goal_node
            and self._is_reached(achieved_goal, graph.point(path[0]))
        ):
            path = path[1:]
        if not path:
            return False
        graph.move_start(observation, achieved_goal)
        costs = graph.costs
        rest = np.cumsum([0.0, *costs[path[:-1], path[1:]][::-1]])[::-1]
        total = costs[0, path] + rest
        if not np.isfinite(total).any():
            return False
        self._set_subgoal(plan, path[int(total.argmin()) :])
        return True

    def _find_path(
        self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> None:
        """The shortest path from here; while learning, perhaps a place to explore instead."""
        plan.graph.move_start(observation, achieved_goal)
        path = plan.graph.shortest_path()
        if path and self.config.smooth_path:
            assert self.pool is not None
            smooth_path(plan.graph, path, self.pool)
        plan.path = path[1:]
        to_the_goal = self._is_verified(plan) and plan.path[-1] == plan.graph.goal_node
        if self.learning and not to_the_goal and plan.rng.random() < self.config.explore:
            self._set_subgoal(plan, [], *self._frontier(achieved_goal, plan))
            plan.exploring = True
        elif plan.path:
            self._set_subgoal(plan, plan.path)
        else:
            self._set_subgoal(plan, [], plan.goal, self.config.max_edge)

    def _set_subgoal(
        self,
        plan: PlanState,
        path: list[int],
        subgoal: FloatArray | None = None,
        predicted: float = 0.0,
    ) -> None:
        """Go for the first node of the path or, without one, for a subgoal (goal_dim,)."""
        if subgoal is None:
            subgoal, predicted = plan.graph.point(path[0]), float(plan.graph.distance[0, path[0]])
        plan.path, plan.subgoal, plan.predicted = path, subgoal, predicted
        plan.elapsed, plan.exploring, plan.random_walk = 0, False, False
        plan.budget = int(self.config.budget_factor * predicted) + self.config.budget_slack

    def _is_reached(self, achieved_goal: FloatArray, point: FloatArray) -> bool:
        return bool(self._rules.reached(achieved_goal[None], point[None])[0])

    def _is_verified(self, plan: PlanState) -> bool:
        """Whether experience supports every edge of the path."""
        nodes = [0, *plan.path]
        return bool(plan.path) and not plan.graph.unverified[nodes[:-1], nodes[1:]].any()

    def _frontier(self, achieved_goal: FloatArray, plan: PlanState) -> tuple[FloatArray, float]:
        """A seldom visited place that experience leads to, and the steps to it."""
        transition_map, max_edge = self.edges.transition_map, self.config.max_edge
        if transition_map is not None:
            found = transition_map.frontier(achieved_goal, max_edge, plan.rng)
            if found is not None:
                return found
        assert self.pool is not None
        candidate_radius = max_edge * self.edges.step_scale
        near = np.flatnonzero(
            (np.abs(self.pool.achieved_goal - achieved_goal) <= candidate_radius).all(-1)
        )
        if not near.size:
            return plan.goal, max_edge
        node: FloatArray = self.pool.achieved_goal[plan.rng.choice(near)]
        return node, max_edge

    def show(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Plan:
        """A fresh plan in the form that a person looks at."""
        plan = self.begin(observation, achieved_goal, goal, rng)
        return plan.graph.to_plan([0, *plan.path] if plan.path else [])


class ClosedLoopPlanner(Protocol):
    """What an agent asks of a planner; ``Any`` is the planner's own plan state."""

    config: PlannerConfig
    pool: NodePool | None
    stats: PlannerStats

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Any:
        """A plan with the attributes ``goal`` and ``subgoal``."""

    def step(self, plan: Any, observation: FloatArray, achieved_goal: FloatArray) -> Any:
        """The plan one environment step later."""

    def show(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Plan:
        """A fresh plan for a person to look at."""
