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
    path: list[int]
    """Nodes still to visit, the current subgoal first; empty when no path was found."""
    origin: int
    """The node last reached; 0 where the way began between nodes."""
    predicted: float
    """Steps that the current subgoal should take."""
    budget: int
    """Steps left for the current subgoal."""
    rng: np.random.Generator
    """Source of the draws if this plan has to be made anew."""
    elapsed: int = 0
    """Steps spent on the current subgoal."""

    @property
    def subgoal(self) -> FloatArray:
        """(goal_dim,) what the low level chases now; the final goal when there is no path."""
        return self.graph.point(self.path[0]) if self.path else self.goal

    @property
    def is_final(self) -> bool:
        """Whether the low level chases the final goal itself."""
        return len(self.path) <= 1


@dataclass
class PlannerStats:
    """Means since the last :meth:`pop`, by TensorBoard key."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **metrics: float) -> None:
        """Keys with two underscores for the slash: ``graph__plan_ms``."""
        for key, value in metrics.items():
            self.values.setdefault(key.replace("__", "/"), []).append(float(value))

    def pop(self) -> dict[str, float]:
        """The means, and start over."""
        means = {key: float(np.mean(values)) for key, values in self.values.items()}
        self.values.clear()
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
    """

    def __init__(
        self,
        model: DistanceModel,
        sampler: SubgoalSampler,
        config: PlannerConfig,
        step_scale: FloatArray,
        reached: ReachedFn,
        experience: EdgeCheck | None = None,
    ) -> None:
        self.model, self.sampler, self.config = model, sampler, config
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
        plan = PlanState(goal, graph, [], origin=0, predicted=0.0, budget=0, rng=rng)
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
        subgoal = plan.subgoal
        if not plan.is_final and self.reached(achieved_goal[None], subgoal[None])[0]:
            self.stats.add(
                subgoal__reached_rate=1.0,
                subgoal__distance_error=plan.elapsed - plan.predicted,
            )
            plan.graph.barred[0] = False
            plan.origin = plan.path[0]
            self._replan(plan, observation, achieved_goal)
        elif plan.elapsed >= plan.budget:
            if plan.path:
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
        # Without a path the low level tries the goal itself for a while.
        plan.predicted = float(
            plan.graph.distance[0, plan.path[0]] if plan.path else self.config.max_edge
        )
        plan.budget = int(self.config.budget_factor * plan.predicted) + self.config.budget_slack

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
