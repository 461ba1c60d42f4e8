"""The graph planner: commits to a subgoal until it is reached or its budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.edges import GraphConfig
from hierebm.planning.graph.nodes import Nodes
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph.stitching import stitched_between
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.planning.planner import Log, Planner, PlanState
from hierebm.planning.samplers.base import LearnedSampler, SubgoalSampler
from hierebm.planning.samplers.training_data import TrainingData, newest_triplets
from hierebm.replay import BetweenTriplets, EpisodeReplay
from hierebm.settings import setting
from hierebm.types import FloatArray

Self = TypeVar("Self", bound="GraphPlanner")

# Steps of a random-walk phase, which begins at the frontier.
RANDOM_WALK_STEPS = 48
# Stitched triplets that are kept; the newest replace the oldest.
STITCHED_TRIPLETS = 120_000


@dataclass
class PlannerConfig(GraphConfig):
    """Planning and exploration."""

    n_subgoals: int = setting(64, "Subgoal candidates (nodes of the graph) in a query.", low=1)
    redraws: int = setting(
        2,
        "Times that other nodes are drawn, in predict, where those drawn give no verified path.",
        low=0,
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

    def state_dict(self) -> dict[str, Any]:
        """See :class:`PlanState`."""
        own = {"path": self.path, "way": self.way, "exploring": self.exploring}
        return {**super().state_dict(), **own, "graph": self.graph.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, but for the graph."""
        super().load_state_dict(state)
        self.path, self.exploring = list(state["path"]), bool(state["exploring"])
        self.way = [(point, float(steps)) for point, steps in state["way"]]

    @property
    def is_verified(self) -> bool:
        """Whether there is a path and experience verifies every edge of it."""
        nodes = [0, *self.path]
        return bool(self.path) and not self.graph.unverified[nodes[:-1], nodes[1:]].any()


class GraphPlanner(Planner):
    """Sampler -> graph -> shortest path -> subgoal, and what happens when a subgoal is missed.

    Args:
        context: what plans are made of.
        sampler: where the nodes come from.
    """

    def __init__(self, context: PlanningContext, sampler: SubgoalSampler) -> None:
        super().__init__(context)
        self.sampler = sampler
        # Triplets from the last shortest paths over pools.
        self.stitched = BetweenTriplets.none(context.goal_dim)

    @classmethod
    def build(
        cls: type[Self], context: PlanningContext, make_sampler: Callable[[], SubgoalSampler]
    ) -> Self:
        """See :class:`Planner`."""
        return cls(context, make_sampler())

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
        # While learning, an unknown way is explored; otherwise other nodes may know one.
        for redraws in reversed(range(1 if learning else 1 + c.redraws)):
            nodes = self.sampler.sample(achieved_goal, goal, c.n_subgoals, pool, rng, edges)
            if not isinstance(nodes, Nodes) or not len(nodes):
                raise ValueError(
                    f"{type(self.sampler).__name__}.sample must return at least one node: make "
                    "Nodes of points by pool.nodes_at(points)"
                )
            graph = SubgoalGraph(nodes, goal, edges, failed)
            graph.move_start(observation, achieved_goal)
            plan = GraphPlan(goal, rng, learning, graph=graph)
            may_be_verified = graph.may_be_verified()
            last = not redraws or not (may_be_verified or edges.may_lead(achieved_goal, goal))
            if may_be_verified or last:
                self.find_path(plan, achieved_goal)
            if last or plan.is_verified or plan.arrived:
                break
        if failed and not plan.path and not plan.exploring:
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

    def find_path(self, plan: GraphPlan, achieved_goal: FloatArray) -> None:
        """The shortest path from here; while learning, perhaps a subgoal on the frontier."""
        if not plan.learning and self._is_reached(achieved_goal, plan.goal):
            # No detour, whatever the edges cost.
            plan.graph.predict_from_start()
            goal_node = plan.graph.goal_node
            plan.path = [goal_node] if np.isfinite(plan.graph.distance[0, goal_node]) else []
            plan.stay()
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
            self._set_subgoal(plan, plan.goal, self.context.config.max_edge)

    def _set_subgoal(
        self, plan: GraphPlan, subgoal: FloatArray | None = None, predicted: float = 0.0
    ) -> None:
        """Chase the first node of the path or, without one, a subgoal (goal_dim,)."""
        if subgoal is None:
            node = plan.path[0]
            subgoal, predicted = plan.graph.point(node), float(plan.graph.distance[0, node])
        plan.chase(subgoal, predicted)
        plan.exploring = plan.random_walk = False

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
        at_goal, reached = self._reached(achieved_goal, plan.goal, plan.subgoal)
        # What is learned by exploring does not depend on the goal: it may lie on the way.
        if at_goal and not (plan.learning and plan.exploring):
            return self._stay(plan, reached)
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
            if not self._advance(plan, observation, achieved_goal):
                return self.replan(plan, observation, achieved_goal)
        elif missed:
            self._record_outcome(plan, reached=False)
            plan.graph.block(plan.graph.start, plan.subgoal)
            plan.graph.block(achieved_goal, plan.subgoal)
            return self.replan(plan, observation, achieved_goal)
        return plan

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
            cutoff.add(plan.predicted, reached)
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
        goal = state["goal"]
        graph = SubgoalGraph.restored(state["graph"], goal, self.context.edges)
        plan = GraphPlan(goal, rng, bool(state["learning"]), graph=graph)
        plan.load_state_dict(state)
        return plan

    # ------------------------------------------------------------------- learning

    def learn(self, replay: EpisodeReplay, rng: np.random.Generator, log: Log) -> None:
        """Stitch new paths over the pool, and fit the sampler to what lies between."""
        if not isinstance(self.sampler, LearnedSampler):
            return
        c, pool = self.context.config, self.context.experienced
        if self.sampler.learns_from_triplets:
            fresh = stitched_between(pool, self.context.edges, rng)
            self.stitched = newest_triplets(self.stitched, fresh, STITCHED_TRIPLETS)
        data = TrainingData(replay, pool, self.stitched, c.stitched_share, rng)
        for _ in range(c.energy_gradient_steps * self.context.effort):
            log(self.sampler.train(data))

    def fit_scale(self) -> None:
        """See :class:`Planner`."""
        if isinstance(self.sampler, LearnedSampler):
            assert self.context.scales is not None
            self.sampler.fit_scale(self.context.scales)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Planner`."""
        return self.sampler.state_dict() if isinstance(self.sampler, LearnedSampler) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`Planner`."""
        if isinstance(self.sampler, LearnedSampler):
            self.sampler.load_state_dict(state)

    def replay_arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`Planner`."""
        return {f"stitched/{name}": array for name, array in vars(self.stitched).items()}

    def load_replay_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`Planner`."""
        self.stitched = BetweenTriplets(*(arrays[f"stitched/{n}"] for n in vars(self.stitched)))
