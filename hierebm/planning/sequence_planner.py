"""Closed loop around the sequence optimiser: its planned states are the low level's subgoals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from hierebm.checkpoint.arrays import checked, plain
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.plan import Plan
from hierebm.planning.planner import Log, Planner, PlanState
from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.planning.sequence import SequenceOptimizer
from hierebm.replay import EpisodeReplay, sample_pairs
from hierebm.types import FloatArray

Self = TypeVar("Self", bound="SequenceSubgoalPlanner")


@dataclass
class SequencePlanState(PlanState):
    """A sequence of planned states and how far along it the agent is."""

    states: FloatArray = field(kw_only=True)
    """(T, goal_dim) planned states, the first where the plan began, the last the goal."""
    energies: FloatArray = field(kw_only=True)
    """(T - 1,) energy of each transition."""
    next: int = field(default=1, init=False)
    """Row of ``states`` that the low level chases."""

    def state_dict(self) -> dict[str, Any]:
        """See :class:`PlanState`."""
        own = {"states": self.states, "energies": self.energies, "next": self.next}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is of another plan."""
        super().load_state_dict(state)
        self.next = int(plain(state, "next", 1, len(self.states) - 1))


class SequenceSubgoalPlanner(Planner):
    """Plans a sequence, hands out its states as subgoals, learns from those that were missed.

    A planned state that is not reached within its budget shows that the transition to it was not
    feasible: it becomes a negative of the transition energy (the active learning of Du, Lin &
    Mordatch 2019, arXiv 1909.06878), and the rest is planned again from the current state.

    Args:
        context: what plans are made of.
        sequences: the optimiser.
    """

    uses_graph: ClassVar[bool] = False

    def __init__(self, context: PlanningContext, sequences: SequenceOptimizer) -> None:
        super().__init__(context)
        self.sequences = sequences

    @classmethod
    def build(
        cls: type[Self], context: PlanningContext, make_sampler: Callable[[], SubgoalSampler]
    ) -> Self:
        """See :class:`Planner`."""
        c = context.config.sequence
        return cls(context, SequenceOptimizer(context.goal_dim, c, context.generator))

    # ------------------------------------------------------------------- planning

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
        warm_start: FloatArray | None = None,
    ) -> SequencePlanState:
        """Plan from (obs_dim,), (goal_dim,) to the final goal (goal_dim,).

        Args:
            warm_start: (T', goal_dim) what is left of the last plan.
        """
        started = time.perf_counter()
        planned = self.sequences.plan(
            torch.from_numpy(achieved_goal)[None],
            torch.from_numpy(goal)[None],
            generator=torch.Generator().manual_seed(int(rng.integers(2**62))),
            warm_start=None if warm_start is None else torch.from_numpy(warm_start)[None],
        )
        states, energies = planned.states[0].numpy(), planned.energies[0].numpy()
        plan = SequencePlanState(goal, rng, learning, states=states, energies=energies)
        milliseconds = 1e3 * (time.perf_counter() - started)
        self._record(plan, {"graph/nodes": len(states), "graph/plan_ms": milliseconds})
        if bool(self.context.reached(achieved_goal[None], goal[None])[0]):
            self._stay(plan)
        else:
            self._set_subgoal(plan, observation, achieved_goal)
        return plan

    def step(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> SequencePlanState:
        """Follow the plan to the current state: keep its subgoal, advance, or plan again."""
        plan.elapsed += self.context.step_length
        ahead = plan.states[plan.next :]
        here = np.repeat(achieved_goal[None], len(ahead), 0)
        reached = np.flatnonzero(self.context.reached(here, ahead))
        if reached.size and reached[-1] == len(ahead) - 1:
            if not plan.arrived:
                self._record_reached(plan)
            self._stay(plan)
        elif plan.arrived:
            # Off the goal again: it may come back by itself, and the way there is known.
            if plan.elapsed >= plan.budget:
                return self.replan(plan, observation, achieved_goal)
        elif reached.size:
            self._record_reached(plan)
            # A later state that is reached too saves the way over those before it.
            plan.next += int(reached[-1]) + 1
            self._set_subgoal(plan, observation, achieved_goal)
        elif plan.elapsed >= plan.budget:
            self._record(plan, {"subgoal/reached_rate": 0.0})
            if plan.learning:
                missed = np.stack([achieved_goal, plan.subgoal])
                self.sequences.add_negatives(torch.from_numpy(missed)[None])
            return self.replan(plan, observation, achieved_goal)
        elif self._has_deviated(plan, achieved_goal):
            return self.replan(plan, observation, achieved_goal)
        return plan

    def _stay(self, plan: SequencePlanState) -> None:
        plan.next = len(plan.states) - 1
        plan.stay()

    def _record_reached(self, plan: SequencePlanState) -> None:
        error = plan.elapsed - plan.predicted
        self._record(plan, {"subgoal/reached_rate": 1.0, "subgoal/distance_error": error})

    def _has_deviated(self, plan: SequencePlanState, achieved_goal: FloatArray) -> bool:
        at, before, subgoal = (
            torch.from_numpy(x)[None]
            for x in (achieved_goal, plan.states[plan.next - 1], plan.subgoal)
        )
        return bool(self.sequences.has_deviated(at, before, subgoal)[0])

    def replan(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> SequencePlanState:
        """A new plan, warm-started with what is left of this one."""
        rest = np.concatenate([achieved_goal[None], plan.states[plan.next :]])
        return self.begin(observation, achieved_goal, plan.goal, plan.rng, plan.learning, rest)

    def _set_subgoal(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> None:
        subgoal: FloatArray = plan.states[plan.next]
        predicted = self.context.model.distance(
            observation[None], achieved_goal[None], subgoal[None]
        )
        plan.chase(subgoal, float(predicted[0]))

    def _record(self, plan: SequencePlanState, metrics: Mapping[str, float]) -> None:
        (self.stats if plan.learning else self.stats_of_predict).add(metrics)

    def show(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Plan:
        """See :class:`Planner`; a state's energy is that of the transition to it.

        Raises:
            RuntimeError: if there is no experience yet.
        """
        pool = self.context.experienced
        plan = self.begin(observation, achieved_goal, goal, rng)
        n = len(plan.states)
        edges = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
        nodes = pool.nodes_at(plan.states[:-1])
        distances = self.context.model.distance(
            nodes.observation, nodes.achieved_goal, plan.states[1:]
        )
        energies = np.concatenate([np.full(1, np.nan, np.float32), plan.energies])
        return Plan(plan.states, edges, distances, list(range(n)), energies)

    def plan_state(self, plan: SequencePlanState) -> dict[str, Any]:
        """See :class:`Planner`."""
        return plan.state_dict()

    def restored_plan(
        self, state: Mapping[str, Any], rng: np.random.Generator
    ) -> SequencePlanState:
        """See :class:`Planner`."""
        dim = self.context.goal_dim
        states = checked(state, "states", (None, dim), "floats")
        energies = checked(
            state, "energies", (len(states) - 1,), "floats", low=-math.inf, high=math.inf
        )
        goal = checked(state, "goal", (dim,), "floats")
        plan = SequencePlanState(goal, rng, False, states=states, energies=energies)
        plan.load_state_dict(state)
        return plan

    # ------------------------------------------------------------------- learning

    def learn(self, replay: EpisodeReplay, rng: np.random.Generator, log: Log) -> None:
        """Fit E(s_t, s_t+1) to transitions of the replay and to planned ones that were missed."""
        c = self.context.config
        for _ in range(c.energy_gradient_steps * self.context.effort):
            pairs = sample_pairs(
                replay, c.energy_batch_size, rng, max_steps=c.sequence.transition_steps
            )
            log(self.sequences.update(torch.from_numpy(pairs)))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Planner`."""
        return self.sequences.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`Planner`."""
        self.sequences.load_state_dict(dict(state))
