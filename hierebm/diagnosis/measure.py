"""Measures the figures of a diagnosis. Draws from generators of its own and learns nothing."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from hierebm.control.base import LowLevel
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.diagnostics import edge_calibration, edges_between
from hierebm.planning.graph.transition_map import SPACING, TransitionMap
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.replay import EpisodeReplay, sample_transitions
from hierebm.replay.scales import FULL_SPEED, InputScales
from hierebm.types import BoolArray, FloatArray, GoalObservation, ReachedFn

# Stored states that are looked at, and pairs of them that predictions are asked for.
N_STATES, N_PAIRS = 4000, 512
# Steps between the states of a pair: so far an edge is safe by default, before it is calibrated.
PAIR_STEPS = 8
# Tasks to plan for; no more plans are begun after so many seconds.
N_TASKS, PLAN_SECONDS = 24, 1.0
# An axis moves in a step if it moves by more than a tenth of a step at full speed, and by more than
# a simulator lets things tremble that lie still, as a share of goal space.
MOVES, TREMBLES = 0.1, 1e-4
# It rarely moves if it does so in less than this share of the steps: full speed, the 95% quantile,
# says nothing of such an axis.
RARELY = 1.0 - FULL_SPEED
# An action is at a bound from here on; the range is [-1, 1].
AT_BOUND = 0.99


class Pairs(NamedTuple):
    """States of which experience knows how many steps lead from one to the other; n rows each.

    Not pairs of which the other one is reached already.
    """

    observation: FloatArray
    achieved_goal: FloatArray
    goal: FloatArray
    steps: FloatArray

    @classmethod
    def of_replay(
        cls, replay: EpisodeReplay, reached: ReachedFn, rng: np.random.Generator
    ) -> Pairs:
        """States of an episode, ``PAIR_STEPS`` apart."""
        rows = replay.sample_rows(N_PAIRS, rng)
        rows = rows[replay.steps_left(rows) >= PAIR_STEPS]
        goal = replay.achieved_goal[replay.later(rows, PAIR_STEPS)]
        start = replay.achieved_goal[rows]
        keep = ~reached(start, goal)
        steps = np.full(int(keep.sum()), PAIR_STEPS, np.float32)
        return cls(replay.observation[rows][keep], start[keep], goal[keep], steps)

    @classmethod
    def of_map(cls, context: PlanningContext, rng: np.random.Generator) -> Pairs | None:
        """Pool states about ``PAIR_STEPS`` apart by the transition map; None without one."""
        known = context.transition_map
        if known is None:
            return None
        pool = context.experienced
        i, j = rng.integers(len(pool), size=(2, 16 * N_PAIRS))
        start, goal = pool.achieved_goal[i], pool.achieved_goal[j]
        steps = known.steps(start, goal)
        apart = (np.abs(steps - PAIR_STEPS) <= SPACING) & ~context.reached(start, goal)
        rows = np.flatnonzero(apart)[:N_PAIRS]
        return cls(pool.observation[i[rows]], start[rows], goal[rows], steps[rows])


class Motion(NamedTuple):
    """How achieved goals move in one step."""

    step: FloatArray
    """(goal_dim,) how far at full speed."""
    moves: FloatArray
    """(goal_dim,) in which share of the steps."""
    moves_at_all: float
    """In which share of the steps along any axis."""

    @classmethod
    def of_replay(
        cls, replay: EpisodeReplay, scales: InputScales, rng: np.random.Generator
    ) -> Motion:
        """Measured again: the step scale that is learned with has a least value."""
        rows = replay.sample_rows(N_STATES, rng)
        moved = np.abs(replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows])
        step = np.quantile(moved, FULL_SPEED, axis=0).astype(np.float32)
        moves = moved > np.maximum(MOVES * step, TREMBLES * 2.0 * scales.goal_scale)
        step = np.where(step > 0.0, step, scales.step)
        return cls(step, moves.mean(0, dtype=np.float32), float(moves.any(1).mean()))

    @property
    def still_axes(self) -> tuple[int, ...]:
        """Axes that rarely move."""
        return tuple(np.flatnonzero(self.moves < RARELY).tolist())


def clock(scales: InputScales, tolerance: FloatArray, motion: Motion | None) -> dict[str, Any]:
    """How far a step goes along each axis, against the success tolerance (goal_dim,)."""
    world, step, still = 2.0 * scales.goal_scale, scales.step, np.zeros(len(tolerance), np.bool_)
    if motion is not None:
        step, still = motion.step, motion.moves < RARELY
    ratios = (tolerance / step)[(tolerance < world) & ~still]
    return {
        "goal_range": _per_axis(world),
        "step": _per_axis(step),
        "success_tolerance": _per_axis(tolerance),
        "tolerance_in_steps": float(ratios.min()) if ratios.size else None,
    }


def experience(
    replay: EpisodeReplay,
    motion: Motion,
    reached: ReachedFn,
    config: Any,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What stored transitions and relabelled goals can teach."""
    figures: dict[str, Any] = {"moving": motion.moves_at_all, "still_axes": motion.still_axes}
    # Without chased goals: those are none that hindsight gave.
    future, random = config.her_future, config.her_random
    if future + random > 0.0:
        batch = sample_transitions(
            replay,
            N_PAIRS,
            reached,
            rng,
            future=future / (future + random),
            random=random / (future + random),
            horizon=config.her_horizon,
        )
        figures["already_reached"] = float(reached(batch.achieved_goal, batch.goal).mean())
    return figures


def known_goals(
    goals: FloatArray,
    states: FloatArray,
    known: TransitionMap | None,
    reached: ReachedFn,
    scales: InputScales,
) -> float:
    """Share of the goals (n, goal_dim) that lie where the agent has been.

    Args:
        states: (m, goal_dim) stored ones.
        known: the transition map, where there is one: it knows all ground, not just a sample.
    """
    gap, nearest = cKDTree(states / scales.step).query(goals / scales.step)
    been: BoolArray = reached(states[nearest], goals) | (gap <= SPACING)
    if known is not None:
        been |= known.knows(goals)
    return float(been.mean())


def ground(known: TransitionMap) -> dict[str, Any]:
    """How much of the known ground hangs together."""
    return {
        "landmarks": len(known.landmarks),
        "connected_ground": known.connected_share(),
    }


def tasks_of_pool(context: PlanningContext, rng: np.random.Generator) -> GoalObservation:
    """From pool states to other pool states: tasks where no others are known."""
    pool = context.experienced
    start, goal = rng.integers(len(pool), size=(2, N_TASKS))
    points = pool.achieved_goal
    return GoalObservation(pool.observation[start], points[start], points[goal])


def paths(planner: GraphPlanner, tasks: GoalObservation, seed: int) -> dict[str, Any]:
    """Plan for each task, as ``predict`` does."""
    found, verified, steps = [], [], []
    # Benchmarks read them: these plans were not asked for by predict.
    stats = dict(planner.stats_of_predict.sums)
    begun = time.perf_counter()
    for i in range(len(tasks.observation)):
        if time.perf_counter() - begun > PLAN_SECONDS:
            break
        task = tasks[i]
        plan = planner.begin(
            task.observation, task.achieved_goal, task.desired_goal, np.random.default_rng(seed)
        )
        found.append(bool(plan.path) and plan.path[-1] == plan.graph.goal_node)
        verified.append(found[-1] and plan.is_verified)
        if verified[-1]:
            nodes = [0, *plan.path]
            steps.append(float(plan.graph.distance[nodes[:-1], nodes[1:]].sum()))
    planner.stats_of_predict.sums = stats
    return {
        "tasks": len(found),
        "path_found": float(np.mean(found)),
        "path_verified": float(np.mean(verified)),
        "path_steps": float(np.median(steps)) if steps else None,
    }


def edges(context: PlanningContext, rng: np.random.Generator) -> dict[str, Any]:
    """What experience says of predicted edges, and what became of chased subgoals."""
    sample = edges_between(context.edges, context.experienced, rng)
    rate = edge_calibration(sample, context.edges.config).get("graph/verified_rate")
    figures: dict[str, Any] = {
        "verified_edges": rate if context.transition_map is not None else None,
        "safe_edge": context.safe_edge,
        "configured_safe_edge": float(context.config.safe_edge),
    }
    if context.edge_cutoff is not None and len(outcomes := context.edge_cutoff.outcomes):
        figures |= {"subgoals": len(outcomes), "subgoals_reached": float(outcomes[:, 1].mean())}
    return figures


def predictions(low_level: LowLevel, pairs: Pairs) -> dict[str, Any]:
    """What the low level predicts and does where the truth is known."""
    if not len(pairs.goal):
        return {}
    where = pairs[:3]
    predicted, action = low_level.distance(*where), low_level.act(*where)
    return {
        "experienced_steps": float(pairs.steps.mean()),
        "predicted_steps": float(np.median(predicted)),
        "saturated_actions": float((np.abs(action) > AT_BOUND).mean()),
    }


def _per_axis(values: FloatArray) -> tuple[float, ...]:
    return tuple(values.astype(float).tolist())
