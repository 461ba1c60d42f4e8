"""The sequence planner: planned states are subgoals where experience leads to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from hierebm.planning.closed_loop import ClosedLoopPlanner
from hierebm.planning.closed_loop_plan import Failed
from hierebm.planning.context import PlanningContext
from hierebm.planning.failures import goes_again, has_failed
from hierebm.planning.graph.plan import Plan
from hierebm.planning.landmark_ways import Way
from hierebm.planning.planner import Log
from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.planning.sequence import SequenceOptimizer
from hierebm.planning.sequence_plan import SequencePlanState
from hierebm.planning.sequence_ways import KnownWays
from hierebm.replay import EpisodeReplay, sample_pairs
from hierebm.types import BoolArray, FloatArray

Self = TypeVar("Self", bound="SequenceSubgoalPlanner")

# The planned states, from the next on, among which the subgoal is chosen.
AHEAD = 12
# Relaxed sequences among which the plan is chosen, besides the way itself.
PLANS = 2


class SequenceSubgoalPlanner(ClosedLoopPlanner[SequencePlanState]):
    """Plans a sequence, hands out its states as subgoals, learns from those that were missed.

    It stands on the same ground as the graph planner: where experience leads to the goal, the
    sequence begins as the way that experience knows, and the energy of the whole sequence relaxes
    it. A planned state that no experience leads to is no subgoal but a candidate for exploring.

    A subgoal that is missed shows that the transition to it was not feasible: it becomes a negative
    of the transition energy (the active learning of Du, Lin & Mordatch 2019, arXiv 1909.06878), and
    the rest is planned again from the current state.

    Args:
        context: what plans are made of.
        sequences: the optimiser.
    """

    def __init__(self, context: PlanningContext, sequences: SequenceOptimizer) -> None:
        super().__init__(context)
        self.sequences = sequences
        # States of every sequence; None: as many as the way takes.
        self.n_states: int | None = None
        self._known_ways = KnownWays(context, sequences)

    @classmethod
    def build(
        cls: type[Self], context: PlanningContext, make_sampler: Callable[[], SubgoalSampler]
    ) -> Self:
        """See :class:`Planner`."""
        c = context.config.sequence
        return cls(context, SequenceOptimizer(context.goal_dim, c, context.generator))

    # ------------------------------------------------------------------- planning

    def _plan(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool,
        failed: Failed,
        before: SequencePlanState | None = None,
    ) -> SequencePlanState:
        """A sequence from here to the goal or a gate; one chain begins as the rest of the last."""
        started = time.perf_counter()
        gate = self._gate(achieved_goal, goal, failed)
        target = goal if gate is None else gate.point
        plan = SequencePlanState(
            goal,
            rng,
            learning,
            gate=gate,
            last=achieved_goal,
            states=np.stack([achieved_goal, target]),
            energies=np.zeros(1, np.float32),
            verified=np.zeros(1, np.bool_),
            at=achieved_goal,
            failed=failed,
        )
        ways = self._known_ways.find(achieved_goal, target, failed, rng)
        known_way = ways is None or ways[0].is_verified
        if not learning and self._is_reached(achieved_goal, goal):
            plan.path = [plan.goal_node]
            plan.stay()
        elif gate is not None and self._is_reached(achieved_goal, gate.point):
            self._try_to_jump(plan, gate)
        elif not self._explores(plan, achieved_goal, to_the_goal=known_way):
            self._find_path(plan, achieved_goal, ways, before)
            if learning and not plan.is_verified:
                self._explore_at(plan, int(plan.verified.argmin()), achieved_goal)
            else:
                self._set_subgoal(plan, observation, achieved_goal)
        self._record(
            plan,
            {
                "graph/nodes": len(plan.states),
                "graph/path_found_rate": bool(plan.path),
                "graph/path_verified_rate": plan.is_verified,
                "graph/plan_ms": 1e3 * (time.perf_counter() - started),
            },
        )
        return plan

    def _find_path(
        self,
        plan: SequencePlanState,
        achieved_goal: FloatArray,
        ways: list[Way] | None,
        before: SequencePlanState | None,
    ) -> None:
        """Give the plan a sequence of little energy, and what experience says of it.

        Args:
            ways: where its chains begin; None: over replayed states.
            before: the plan that this one replaces; its rest is where one chain begins, unless
                something failed there.
        """
        rest = None
        if before is not None and before.path and not plan.failed:
            rest = np.concatenate([achieved_goal[None], before.states[before.path]])
        starts, ground = None, self.sequences.ground
        # Ground that was seen is believed in until a try fails.
        lead = ground is not None and not (plan.failed and ways is not None)
        if ways is not None:
            points = [way.points for way in ways]
            if ground is not None and lead:
                points[0] = ground.led_over(points[0], insert=True)
            starts = [[torch.from_numpy(way) for way in points]]
        known_way = ways is not None and ways[0].is_verified
        planned = self.sequences.plan(
            _batch(achieved_goal),
            _batch(plan.states[-1]),
            self.n_states,
            generator=torch.Generator().manual_seed(int(plan.rng.integers(2**62))),
            warm_start=None if rest is None else _batch(rest),
            ways=starts,
            n_plans=1 if known_way else min(PLANS, self.sequences.config.chains),
            refine=known_way,
            snap=lead,
        )
        sequences = [s[:n].numpy() for s, n in zip(planned.states, planned.n_states, strict=True)]
        known: list[BoolArray | None] = [None] * len(sequences)
        if known_way:
            # What experience knows, and nothing else.
            sequences.append(points[0])
            known.append(np.ones(len(points[0]) - 1, np.bool_))
        plan.states, plan.verified = self._chosen(sequences, known, plan.failed)
        plan.energies = self.sequences.energies(torch.from_numpy(plan.states)).numpy()
        plan.path = list(range(1, len(plan.states)))

    def _chosen(
        self, sequences: list[FloatArray], known: list[BoolArray | None], failed: Failed
    ) -> tuple[FloatArray, BoolArray]:
        """Of sequences (T, goal_dim), the shortest over ground that was seen that is verified and
        goes no failed way again; if there is none, the shortest.

        Args:
            known: (T - 1,) which transitions are verified, where that is known already.

        Returns:
            the sequence, and which of its transitions are verified.
        """
        ground = self.sequences.ground
        order = list(range(len(sequences)))
        if ground is not None:
            order.sort(key=lambda k: float(ground.costs(sequences[k][:-1], sequences[k][1:]).sum()))
        for k in order:
            if goes_again(sequences[k], failed, self.context.step_scale):
                continue
            verified = known[k]
            if verified is None:
                verified = known[k] = self._verify(sequences[k], failed)
            if verified.all():
                return sequences[k], verified
        states, verified = sequences[order[0]], known[order[0]]
        return states, self._verify(states, failed) if verified is None else verified

    def _verify(self, states: FloatArray, failed: Failed) -> BoolArray:
        """(T, goal_dim) -> (T - 1,) whether experience leads over each transition."""
        seen = self._is_seen(states[:-1], states[1:], failed)
        if not seen.all():
            rest = np.flatnonzero(~seen)
            nodes = self.context.experienced.nodes_at(states[rest])
            steps, is_verified = self.context.edges.evaluate(
                nodes.observation, nodes.achieved_goal, states[rest + 1]
            )
            seen[rest] = is_verified & (steps <= self.context.config.max_edge)
        return seen

    def _is_seen(self, source: FloatArray, target: FloatArray, failed: Failed) -> BoolArray:
        """(n,) whether ground between points (n, goal_dim) was seen, and no try has failed yet."""
        if failed:
            return np.zeros(len(source), np.bool_)
        return self._known_ways.is_seen(source, target)

    def _explore_at(self, plan: SequencePlanState, state: int, achieved_goal: FloatArray) -> None:
        """Go to the last state that experience leads to, over every other one, and explore there;
        where it leads to none, at the frontier."""
        if state == 0:
            self._explore(plan, *self._frontier(plan, achieved_goal))
            return
        stops = [*range(state, 0, -2)][::-1]
        lengths = np.abs(np.diff(plan.states[: state + 1], axis=0)) / self.context.step_scale
        travelled = np.concatenate([[0.0], lengths.max(-1).cumsum()])
        self._explore(plan, plan.states[stops], np.diff(travelled[stops], prepend=0.0))

    def _set_subgoal(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> None:
        """Chase the farthest of the planned states ahead that is a safe edge away.

        Planned states are nearer to each other than subgoals need be.
        """
        context, ahead = self.context, plan.path[:AHEAD]
        points = plan.states[ahead]
        here = np.repeat(achieved_goal[None], len(ahead), 0)
        predicted = context.edges.predict(np.repeat(observation[None], len(ahead), 0), here, points)
        steps, is_verified = context.edges.verify(here, points, predicted)
        is_verified |= self._is_seen(here, points, plan.failed)
        untried = ~has_failed(achieved_goal, points, plan.failed, context.step_scale)
        safe = is_verified & (steps <= context.safe_edge) & untried
        if safe.any():
            chosen = int(np.flatnonzero(safe)[-1])
        elif not (plan.learning or untried.any()) and self._step_aside(
            plan, observation, achieved_goal
        ):
            return
        else:
            if not untried.any():
                scale = context.step_scale
                untried = ~has_failed(achieved_goal, points, plan.failed, scale, same_way=False)
            chosen = int(np.where(untried, steps, np.inf).argmin())
        plan.path, plan.at = plan.path[chosen:], achieved_goal
        plan.chased_verified = bool(is_verified[chosen])
        plan.told = self._told(plan, observation, achieved_goal, points[chosen])
        self._chase(plan, points[chosen], float(steps[chosen]))

    def _step_aside(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> bool:
        """Where every edge ahead has failed: plan over a landmark nearby, drawn at random; False
        where there is none."""
        points, steps = self._known_ways.aside(observation, achieved_goal, plan.failed)
        if not len(points):
            return False
        k = int(plan.rng.integers(len(points)))
        plan.lead_aside(achieved_goal, points[k])
        self._chase(plan, points[k], float(steps[k]))
        return True

    # ------------------------------------------------------------------ following

    def _advance(
        self, plan: SequencePlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> bool:
        """Go on to a later state of the sequence; False at its end."""
        here = np.repeat(achieved_goal[None], len(plan.path), 0)
        reached = self.context.reached(here, plan.states[plan.path])
        # A later state that is reached too saves the way over those before it.
        plan.path = plan.path[int(np.flatnonzero(reached).max(initial=0)) + 1 :]
        if not plan.path:
            return False
        self._set_subgoal(plan, observation, achieved_goal)
        return True

    def _failed(self, plan: SequencePlanState) -> Failed:
        return plan.failed

    def _block(self, plan: SequencePlanState, source: FloatArray, target: FloatArray) -> None:
        super()._block(plan, source, target)
        if plan.learning:
            self.sequences.add_negatives(_batch(np.stack([source, target])))

    def _move_end(self, plan: SequencePlanState, goal: FloatArray) -> None:
        plan.states = np.concatenate([plan.states[:-1], goal[None]])

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
        plan = SequencePlanState.restored(state, rng, self.context.goal_dim)
        self._check_walk(plan.walk)
        return plan

    # ------------------------------------------------------------------- learning

    def learn(self, replay: EpisodeReplay, rng: np.random.Generator, log: Log) -> None:
        """Fit E(s_t, s_t+1) to transitions of the replay and to planned ones that were missed."""
        c, self._known_ways = self.context.config, KnownWays(self.context, self.sequences)
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
        self._known_ways = KnownWays(self.context, self.sequences)


def _batch(rows: FloatArray) -> torch.Tensor:
    """An array as a batch of one."""
    return torch.from_numpy(rows)[None]
