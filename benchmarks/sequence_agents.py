"""Agents that act on sequences, and beside them the graph: equal steps, tasks and seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from hierebm.envs.layouts import Layout, get_layout
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.types import FloatArray

AnyLayout = str | Sequence[str]

PLANNERS = ("graph", "sequence")
# Of agents, instead of the defaults.
SETTINGS: dict[str, Any] = {}
# Planned states, whatever the length of the way.
HORIZONS = (5, 10, 20, 40)
# Tasks that success is measured on; those whose ways and plans are looked at; those a horizon has.
TASKS, WAYS, HORIZON_TASKS = 100, 20, 50
# The door that closes: its cell in rows of text, and points on both sides, in cells from the lower
# left corner.
DOOR = (2, 6)
BESIDE = ((4.5, 10.5), (8.5, 10.5))
# Episodes that an agent has to find another way, of how many steps at most.
DOOR_EPISODES, DOOR_STEPS = 20, 150


def train(layout: AnyLayout, planner: str, steps: int, seed: int) -> Any:
    """An agent after so many steps in a layout."""
    import hierebm

    agent = hierebm.HierarchicalEBMAgent(planner=planner, seed=seed, **SETTINGS)
    return agent.learn(gym.make("PointMassGoal-v0", layout=layout), total_timesteps=steps)


def compare(
    layout: str, planner: str, steps: int, seed: int, horizons: bool = False, door: bool = False
) -> list[dict[str, Any]]:
    """One row for the agent and, if asked for, one for each horizon of a sequence planner, and
    those after a door closed."""
    started = time.process_time()
    agent = train(layout, planner, steps, seed)
    what = {"planner": planner, "layout": layout, "env_steps": steps, "seed": seed}
    what["train_s"] = round(time.process_time() - started, 1)
    env = gym.make("PointMassGoal-v0", layout=layout)
    measured = {
        **measure_success(agent, layout, TASKS),
        **measure_ways(agent, env, get_layout(layout)),
    }
    env.close()
    rows = [{"kind": "agents", **what, "horizon": None, **measured}]
    sequences = agent.high_level.planner
    if horizons and isinstance(sequences, SequenceSubgoalPlanner):
        for horizon in HORIZONS:
            sequences.n_states = horizon
            success = measure_success(agent, layout, HORIZON_TASKS)
            rows.append({"kind": "agents", **what, "horizon": horizon, **success})
        sequences.n_states = None
    return rows + close_door(agent, layout, what) if door else rows


def measure_success(agent: Any, layout: AnyLayout, tasks: int) -> dict[str, Any]:
    """Success on random tasks with its interval, and steps to the goal."""
    from hierebm.evaluation import evaluate

    lanes = gym.make_vec("PointMassGoal-v0", num_envs=min(tasks, 25), layout=layout)
    result = evaluate(agent, lanes, tasks, seed=2)
    lanes.close()
    return told(result)


def told(result: Any) -> dict[str, Any]:
    """What a row tells of an evaluation."""
    return {
        "success": result.success_rate,
        "ci95": [round(bound, 3) for bound in result.ci95],
        "steps": round(result.mean_ep_length, 1),
    }


def measure_ways(agent: Any, env: gym.Env, walls: Layout) -> dict[str, Any]:
    """How long ways are, how many plans cross no wall, and the time of a plan."""
    ratios, free, milliseconds = [], [], []
    for task in range(WAYS):
        observation, _ = env.reset(seed=1000 + task)
        started = time.process_time()
        points = agent.plan(observation).path_points
        milliseconds.append(1e3 * (time.process_time() - started))
        free.append(bool(walls.segment_is_free(points[:-1], points[1:]).all()))
        path, arrived = follow(agent, env, observation)
        shortest = float(walls.shortest_path_distance(path[0], observation["desired_goal"]))
        # Ways within the tolerance of the goal have no length to speak of.
        if arrived and shortest > 1.0:
            ratios.append(float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()) / shortest)
    return {
        "path_ratio": round(median(ratios), 3) if ratios else None,
        "plans_free": round(float(np.mean(free)), 3),
        "plan_ms": round(median(milliseconds), 1),
    }


def follow(agent: Any, env: gym.Env, observation: dict[str, FloatArray]) -> tuple[FloatArray, bool]:
    """Positions (n, 2) until the end of the episode, and whether that was the goal."""
    path, plan, ended = [observation["achieved_goal"]], None, False
    info: dict[str, Any] = {}
    while not ended:
        action, plan = agent.predict(observation, plan)
        observation, _, terminated, truncated, info = env.step(action)
        path.append(observation["achieved_goal"])
        ended = terminated or truncated
    return np.stack(path), bool(info.get("is_success", info.get("success")))


def close_door(agent: Any, layout: str, what: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an agent whose shortest way was closed: success from one side to the other at once,
    and after it learned there for some episodes."""
    closed = closed_layout(layout)
    start, goal = (tuple(closed.low + closed.cell_size * np.array(point)) for point in BESIDE)
    env = gym.make("PointMassGoal-v0", layout=closed, start=start, goal=goal, time_limit=DOOR_STEPS)
    agent.set_env(env)
    measured, rounds = [], (("at once", 0), ("after learning", DOOR_EPISODES))
    for when, episodes in rounds:
        if episodes:
            agent.learn(None, 10**9, callback=_until(episodes))
        result = _tries(agent, env)
        row = {"kind": "door", **what, "when": when, "learned_episodes": episodes}
        measured.append({**row, **result})
    return measured


def closed_layout(layout: str) -> Layout:
    """The layout with its door closed."""
    rows = [list(row) for row in get_layout(layout).rows]
    rows[DOOR[0]][DOOR[1]] = "#"
    return get_layout(["".join(row) for row in rows])


def _until(episodes: int) -> Callable[[dict[str, Any], dict[str, Any]], bool]:
    """A callback that stops learning after so many episodes."""
    return lambda known, _: bool(known["self"].num_episodes < episodes)


def _tries(agent: Any, env: gym.Env) -> dict[str, Any]:
    from hierebm.evaluation import evaluate

    return told(evaluate(agent, env, DOOR_EPISODES, seed=3))
