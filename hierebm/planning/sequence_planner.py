"""Closed loop around the sequence optimiser: its planned states are the low level's subgoals."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from hierebm.planning.graph.edges import DistanceModel
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph_planner import PlannerConfig, PlannerStats
from hierebm.planning.sequence import SequencePlanner
from hierebm.types import FloatArray, ReachedFn


@dataclass
class SequencePlanState:
    """One environment's sequence of planned states and how far along it we are."""

    goal: FloatArray
    """(goal_dim,) the final goal."""
    states: FloatArray
    """(T, goal_dim) planned states, the first where the plan began, the last the goal."""
    energies: FloatArray
    """(T - 1,) energy of each transition."""
    rng: np.random.Generator
    """Source of the draws of the next plan."""
    next: int = 1
    """Row of ``states`` that the low level chases."""
    predicted: float = 0.0
    """Steps that it should take."""
    budget: int = 0
    """Steps after which it counts as missed."""
    elapsed: int = 0
    """Steps spent on it."""

    @property
    def subgoal(self) -> FloatArray:
        """(goal_dim,) what the low level chases now."""
        result: FloatArray = self.states[self.next]
        return result


class SequenceSubgoalPlanner:
    """Plans a sequence, hands out its states as subgoals, learns from those that were missed.

    A planned state that is not reached within its budget shows that the transition to it was not
    feasible: it becomes a negative of the transition energy (the active learning of Du, Lin &
    Mordatch 2019, arXiv 1909.06878), and the rest is planned anew from where we are.

    Args:
        model: the low level's distances, for the budgets.
        sequences: the optimiser; trained by its owner.
        config: ``budget_factor`` and ``budget_slack`` are used.
        reached: whether an achieved goal counts as a goal.
        learning: whether missed states become negatives.
    """

    def __init__(
        self,
        model: DistanceModel,
        sequences: SequencePlanner,
        config: PlannerConfig,
        reached: ReachedFn,
        learning: bool = True,
    ) -> None:
        self.model, self.sequences, self.config, self.reached = model, sequences, config, reached
        self.learning = learning
        self.pool: NodePool | None = None
        self.stats = PlannerStats()

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        warm_start: FloatArray | None = None,
    ) -> SequencePlanState:
        """Plan from (obs_dim,), (goal_dim,) to the final goal (goal_dim,).

        Args:
            rng: source of the chains' noise; the plan keeps it.
            warm_start: (T', goal_dim) what is left of the last plan.
        """
        started = time.perf_counter()
        planned = self.sequences.plan(
            torch.from_numpy(achieved_goal)[None],
            torch.from_numpy(goal)[None],
            generator=torch.Generator().manual_seed(int(rng.integers(2**62))),
            warm_start=None if warm_start is None else torch.from_numpy(warm_start)[None],
        )
        plan = SequencePlanState(goal, planned.states[0].numpy(), planned.energies[0].numpy(), rng)
        self.stats.add(
            graph__nodes=len(plan.states), graph__plan_ms=1e3 * (time.perf_counter() - started)
        )
        self._set_subgoal(plan, observation, achieved_goal)
        return plan

    def step(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> SequencePlanState:
        """Follow the plan to where we are now: the subgoal is kept, advanced or planned anew."""
        plan.elapsed += 1
        last = len(plan.states) - 1
        ahead = plan.states[plan.next :]
        here = np.repeat(achieved_goal[None], len(ahead), 0)
        done = np.flatnonzero(self.reached(here, ahead))
        if plan.next < last and done.size:
            self.stats.add(
                subgoal__reached_rate=1.0,
                subgoal__distance_error=plan.elapsed - plan.predicted,
            )
            # A later state that is reached too saves the way through those before it.
            plan.next = min(plan.next + int(done[-1]) + 1, last)
            self._set_subgoal(plan, observation, achieved_goal)
        elif plan.elapsed >= plan.budget:
            self.stats.add(subgoal__reached_rate=0.0)
            if self.learning:
                missed = np.stack([achieved_goal, plan.subgoal])
                self.sequences.add_negatives(torch.from_numpy(missed)[None])
            return self._from_here(plan, observation, achieved_goal)
        elif self._has_deviated(plan, achieved_goal):
            return self._from_here(plan, observation, achieved_goal)
        return plan

    def _has_deviated(self, plan: SequencePlanState, achieved_goal: FloatArray) -> bool:
        at, before, subgoal = (
            torch.from_numpy(x)[None]
            for x in (achieved_goal, plan.states[plan.next - 1], plan.subgoal)
        )
        return bool(self.sequences.has_deviated(at, before, subgoal)[0])

    def _from_here(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> SequencePlanState:
        """A new plan, warm-started with what is left of this one."""
        rest = np.concatenate([achieved_goal[None], plan.states[plan.next :]])
        return self.begin(observation, achieved_goal, plan.goal, plan.rng, rest)

    def _set_subgoal(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> None:
        plan.elapsed = 0
        plan.predicted = float(
            self.model.distance(observation[None], achieved_goal[None], plan.subgoal[None])[0]
        )
        plan.budget = int(self.config.budget_factor * plan.predicted) + self.config.budget_slack

    def show(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Plan:
        """A fresh plan in the form that a person looks at; a state's energy is that of its step.

        Raises:
            RuntimeError: if there is no experience yet.
        """
        if self.pool is None:
            raise RuntimeError("there is no experience to plan with yet; call learn() first")
        plan = self.begin(observation, achieved_goal, goal, rng)
        n = len(plan.states)
        edges = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
        nodes = self.pool.nodes_at(plan.states[:-1])
        distances = self.model.distance(nodes.observation, nodes.achieved_goal, plan.states[1:])
        energies = np.concatenate([np.full(1, np.nan, np.float32), plan.energies])
        return Plan(plan.states, edges, distances, list(range(n)), energies)
