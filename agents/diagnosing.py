"""Gathers what a diagnosis is made of from an agent, and leaves the agent as it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierebm.agents.state import AgentState
from hierebm.diagnosis import Diagnosis, Figures, measure
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.planner import Planner
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray, GoalObservation, ReachedFn


def diagnose(agent: AgentState, tolerance: FloatArray | None, reached: ReachedFn) -> Diagnosis:
    """The diagnosis of an agent whose spaces are known.

    Args:
        tolerance: (goal_dim,) success tolerance; None before learning has begun.
        reached: whether an achieved goal counts as a goal.
    """
    figures = {**_facts(agent), **_episodes(agent)}
    if agent.scales is not None and tolerance is not None:
        figures |= _measured(agent, tolerance, reached, np.random.default_rng(agent.seed))
    return Diagnosis.of(Figures(**figures))


def _facts(agent: AgentState) -> dict[str, Any]:
    high_level, replay = agent.high_level, _filled(agent)
    spec = None if agent.env is None else getattr(agent.env.env, "spec", None)
    return {
        "agent": type(agent).__name__,
        "env": None if spec is None else spec.id,
        "timesteps": agent.num_timesteps,
        "learning_starts": agent.config.learning_starts,
        "updates": agent.n_updates,
        "trainable": agent.low_level.trainable,
        "has_replay": replay is not None,
        "has_high_level": high_level is not None,
        "can_plan": high_level is not None and high_level.can_plan,
        "action_repeat": agent.action_repeat,
    }


def _filled(agent: AgentState) -> EpisodeReplay | None:
    """The replay buffer, if there is something in it."""
    if agent.replay is None:
        return None
    agent.replay.flush()
    return agent.replay if agent.replay.n_transitions else None


def _episodes(agent: AgentState) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "episodes": agent.episodes.n_ended,
        "successes": agent.episodes.n_successes,
    }
    if not (finished := agent.episodes.finished):
        return figures
    return figures | {
        "recent_episodes": len(finished),
        "success_rate": float(np.mean([e.success for e in finished])),
        "reached_rate": float(np.mean([e.reached for e in finished])),
        "mean_return": float(np.mean([e.reward for e in finished])),
        "time_limit_rate": float(np.mean([e.truncated for e in finished])),
        "failure_rate": float(np.mean([e.failure for e in finished])),
        "longest_episode": max(e.length for e in finished) / agent.action_repeat,
    }


def _measured(
    agent: AgentState, tolerance: FloatArray, reached: ReachedFn, rng: np.random.Generator
) -> dict[str, Any]:
    """What takes stored states to tell."""
    scales, replay, context = agent.scales, _filled(agent), None
    assert scales is not None
    if agent.high_level is not None and agent.high_level.can_plan:
        context = agent.high_level.context
    figures: dict[str, Any] = {}
    states = pairs = motion = None
    if replay is not None:
        motion = measure.Motion.of_replay(replay, scales, rng)
        figures |= measure.experience(replay, motion, reached, agent.config, rng)
        states = replay.achieved_goal[replay.sample_rows(measure.N_STATES, rng)]
        pairs = measure.Pairs.of_replay(replay, reached, rng)
    elif context is not None:
        states = context.experienced.achieved_goal
        pairs = measure.Pairs.of_map(context, rng)
    figures |= measure.clock(scales, tolerance, motion)
    if pairs is not None:
        figures |= measure.predictions(agent.low_level, pairs)
    tasks = agent.episodes.tasks()
    if tasks is not None and states is not None:
        known = None if context is None else context.transition_map
        figures["known_goals"] = measure.known_goals(
            tasks.desired_goal, states, known, reached, scales
        )
    if agent.high_level is not None and context is not None:
        figures |= _planning(agent.high_level.planner, context, tasks, agent.seed, rng)
    return figures


def _planning(
    planner: Planner,
    context: PlanningContext,
    tasks: GoalObservation | None,
    seed: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What of the graph there is: planners may do without."""
    figures: dict[str, Any] = {}
    if planner.uses_graph:
        figures |= measure.edges(context, rng)
        if context.transition_map is not None:
            figures |= measure.ground(context.transition_map)
    if isinstance(planner, GraphPlanner):
        figures["tasks_from"] = "states" if tasks is None else "episodes"
        if tasks is None:
            tasks = measure.tasks_of_pool(context, rng)
        figures |= measure.paths(planner, tasks[-measure.N_TASKS :], seed)
    return figures
