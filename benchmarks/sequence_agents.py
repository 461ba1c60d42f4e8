"""Agents that act on sequences, and beside them the graph: equal steps, tasks and seeds."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from hierebm.envs.layouts import get_layout
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.types import FloatArray

PLANNERS = ("graph", "sequence")
# Layouts, and environment steps of training there.
QUICK = (("u", 8_000),)
FULL = (("open", 6_000), ("u", 20_000), ("four_rooms", 20_000), ("serpentine", 20_000))
# Planned states, whatever the length of the way.
HORIZONS = (5, 10, 20, 40)
# Tasks that success is measured on, and those whose ways and plans are looked at.
TASKS, WAYS = 200, 30


def train(layout: str, planner: str, steps: int, seed: int) -> Any:
    """An agent after so many steps in a layout."""
    import hierebm

    agent = hierebm.HierarchicalEBMAgent(planner=planner, seed=seed)
    return agent.learn(gym.make("PointMassGoal-v0", layout=layout), total_timesteps=steps)


def rows_of(layout: str, planner: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """One row for the agent and, of a sequence planner, one for each horizon."""
    started = time.process_time()
    agent = train(layout, planner, steps, seed)
    what = {"planner": planner, "layout": layout, "env_steps": steps, "seed": seed}
    what["train_s"] = round(time.process_time() - started, 1)
    rows = [{**what, "horizon": None, **measure(agent, layout)}]
    sequences = agent.high_level.planner
    if isinstance(sequences, SequenceSubgoalPlanner):
        for horizon in HORIZONS:
            sequences.n_states = horizon
            rows.append({**what, "horizon": horizon, **measure(agent, layout)})
    return rows


def measure(agent: Any, layout: str) -> dict[str, Any]:
    """Success; how long ways and plans are, and how many plans cross no wall; time of a plan."""
    from hierebm.evaluation import evaluate

    lanes = gym.make_vec("PointMassGoal-v0", num_envs=25, layout=layout)
    success = evaluate(agent, lanes, TASKS, seed=2)
    lanes.close()
    walls, env = get_layout(layout), gym.make("PointMassGoal-v0", layout=layout)
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
    env.close()
    return {
        "success": success.success_rate,
        "ci95": [round(bound, 3) for bound in success.ci95],
        "steps": round(success.mean_ep_length, 1),
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
    return np.stack(path), bool(info["is_success"])
