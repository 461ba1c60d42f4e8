"""The closed-loop planner: commits to a subgoal until it is reached or its budget is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hierebm.planning.graph import DistanceModel, EdgeCheck, GraphConfig, SubgoalGraph
from hierebm.planning.places import PlacePool
from hierebm.planning.plan import Plan
from hierebm.planning.samplers import SubgoalSampler
from hierebm.replay.episodes import FloatArray
from hierebm.replay.hindsight import ReachedFn


@dataclass
class PlannerConfig(GraphConfig):
    """Settings of subgoal search."""

    n_subgoals: int = 64
    """Subgoal candidates (nodes of the graph) in a query."""
    budget_factor: float = 2.0
    """A subgoal is missed after this many times its predicted steps ..."""
    budget_slack: int = 4
    """... plus this many."""


@dataclass
class PlanState:
    """One environment's way to its goal; the ``state`` that ``predict`` hands back and forth."""

    goal: FloatArray
    """(goal_dim,) the final goal that this plan leads to."""
    graph: SubgoalGraph
    rng: np.random.Generator
    """Source of the draws if this plan has to be made anew."""
    path: list[int] = field(default_factory=list)
    """Nodes still to visit, the current subgoal first; empty when no path was found."""
    origin: int = 0
    """The node last reached; 0 where the way began between nodes."""
    subgoal: FloatArray = field(init=False)
    """(goal_dim,) what the low level chases now."""
    predicted: float = 0.0
    """Steps that the current subgoal should take."""
    budget: int = 0
    """Steps after which it counts as missed."""
    elapsed: int = 0
    """Steps spent on the current subgoal."""


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
        model: the low level's distances.
        sampler: where the nodes come from.
        config: settings.
        step_scale: (goal_dim,) how far one step at full speed goes.
        reached: whether an achieved goal counts as a goal.
        experience: tells edges that trajectories bear out from others; None trusts the critics.
        learning: what to do where no path is found: explore, chasing random places nearby (True),
            or try the final goal itself (False).
    """

    def __init__(
        self,
        model: DistanceModel,
        sampler: SubgoalSampler,
        config: PlannerConfig,
        step_scale: FloatArray,
        reached: ReachedFn,
        experience: EdgeCheck | None = None,
        learning: bool = True,
    ) -> None:
        self.model, self.sampler, self.config = model, sampler, config
        self.learning = learning
        self.step_scale, self.reached, self.experience = step_scale, reached, experience
        self.pool: PlacePool | None = None
        self.stats = PlannerStats()

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
        if self.pool is None:
            raise RuntimeError("there is no experience to plan with yet; call learn() first")
        started = time.perf_counter()
        places = self.sampler.sample(achieved_goal, goal, self.config.n_subgoals, self.pool, rng)
        graph = SubgoalGraph(
            places,
            goal,
            self.model,
            self.config,
            self.step_scale,
            self.reached,
            self.experience,
        )
        plan = PlanState(goal, graph, rng)
        self._replan(plan, observation, achieved_goal)
        self.stats.add(
            graph__nodes=len(places),
            graph__edges=np.isfinite(graph.distance).sum(),
            graph__largest_component=graph.largest_component(),
            graph__path_found_rate=bool(plan.path),
            graph__plan_ms=1e3 * (time.perf_counter() - started),
        )
        return plan

    def step(
        self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> PlanState:
        """Follow the plan to where we are now: the subgoal is kept, advanced or given up."""
        plan.elapsed += 1
        on_the_way = not np.array_equal(plan.subgoal, plan.goal)
        if on_the_way and self.reached(achieved_goal[None], plan.subgoal[None])[0]:
            if not plan.path:
                return self.begin(observation, achieved_goal, plan.goal, plan.rng)
            self.stats.add(
                subgoal__reached_rate=1.0,
                subgoal__distance_error=plan.elapsed - plan.predicted,
            )
            plan.graph.barred[0] = False
            plan.origin = plan.path[0]
            self._replan(plan, observation, achieved_goal)
        elif plan.elapsed >= plan.budget:
            if not plan.path:
                return self.begin(observation, achieved_goal, plan.goal, plan.rng)
            self.stats.add(subgoal__reached_rate=0.0)
            plan.graph.bar(plan.origin, plan.path[0])
            plan.graph.bar(0, plan.path[0])
            plan.origin = 0
            self._replan(plan, observation, achieved_goal)
            if not plan.path:
                return self.begin(observation, achieved_goal, plan.goal, plan.rng)
        return plan

    def _replan(self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray) -> None:
        plan.graph.move_start(observation, achieved_goal)
        plan.path = plan.graph.shortest_path()[1:]
        plan.elapsed = 0
        if plan.path:
            plan.subgoal = plan.graph.point(plan.path[0])
            plan.predicted = float(plan.graph.distance[0, plan.path[0]])
        else:
            plan.subgoal = self._without_path(plan, achieved_goal)
            plan.predicted = self.config.max_edge
        plan.budget = int(self.config.budget_factor * plan.predicted) + self.config.budget_slack

    def _without_path(self, plan: PlanState, achieved_goal: FloatArray) -> FloatArray:
        """Where to go when no path is known: explore nearby, or try the goal itself."""
        assert self.pool is not None
        if not self.learning:
            return plan.goal
        reach = self.config.max_edge * self.step_scale
        near = np.flatnonzero((np.abs(self.pool.achieved_goal - achieved_goal) <= reach).all(-1))
        if not near.size:
            return plan.goal
        result: FloatArray = self.pool.achieved_goal[plan.rng.choice(near)]
        return result

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

    pool: PlacePool | None
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
