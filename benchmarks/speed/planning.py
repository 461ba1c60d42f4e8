"""Rows of the planner: a plan from nothing, a step along a plan, planning time against nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

import hierebm
from benchmarks.speed.measure import Row, fitted_exponent, limit, row
from benchmarks.speed.peer import ENV
from hierebm.planning.graph_planner import GraphPlanner

NODES = (16, 32, 64, 128, 256, 512)


def rows(quick: bool) -> Iterator[Row]:
    """Train a small agent, then yield the rows, each as soon as it is measured."""
    env = gym.make(ENV, layout="four_rooms")
    agent = hierebm.HierarchicalEBMAgent(seed=0, energy_train_freq=500)
    agent.learn(env, 1500 if quick else 4000)
    queries = _queries(env, 20 if quick else 60)
    medians = _planning_ms(agent, queries)
    yield limit("replan, 64 nodes: sample, join, search", medians[64], 25.0, "ms/plan", nodes=64)
    followed, every = _closed_loop_ms(agent, env, 300 if quick else 2000)
    what = "closed-loop step, one env: predict"
    yield limit(f"{what} along a plan", followed, 1.5, "ms/step")
    yield row(f"{what}, new plans included", ours=every, unit="ms/step")
    for nodes, ms in medians.items():
        yield row("planning time", ours=ms, unit="ms/plan", nodes=nodes)
    yield row(
        "planning time grows like nodes to the power",
        ours=fitted_exponent(list(medians), list(medians.values())),
        unit="exponent",
    )


def _queries(env: gym.Env[Any, Any], n: int) -> list[dict[str, np.ndarray]]:
    return [env.reset(seed=i)[0] for i in range(n)]


def _planning_ms(
    agent: hierebm.HierarchicalEBMAgent, queries: list[dict[str, np.ndarray]]
) -> dict[int, float]:
    """Median processor time of a plan at each number of nodes, which take turns; nodes are drawn
    once, verified path or not.
    """
    assert agent.sampler is not None
    planners = {}
    for nodes in NODES:
        config = replace(agent.config, n_subgoals=nodes, redraws=0)
        context = replace(agent.high_level.context, config=config)
        planners[nodes] = GraphPlanner(context, agent.sampler)
    times: dict[int, list[float]] = {nodes: [] for nodes in NODES}
    for i, query in enumerate([queries[0], *queries]):
        for nodes, planner in planners.items():
            rng = np.random.default_rng(i)
            before = time.process_time()
            planner.begin(query["observation"], query["achieved_goal"], query["desired_goal"], rng)
            times[nodes].append(1e3 * (time.process_time() - before))
    # The first of each grew its buffers.
    return {nodes: float(np.median(ms[1:])) for nodes, ms in times.items()}


def _closed_loop_ms(
    agent: hierebm.HierarchicalEBMAgent, env: gym.Env[Any, Any], n: int
) -> tuple[float, float]:
    """Mean processor times of ``predict``: of steps that go on with a plan, and of all steps."""
    spent: list[tuple[float, bool]] = []
    observation, _ = env.reset(seed=1000)
    state: Any = [None]
    first = True
    while len(spent) < n:
        plan, before = state[0], time.process_time()
        action, state = agent.predict(observation, state, np.array([first]))
        spent.append((time.process_time() - before, state[0] is plan))
        observation, _, terminated, truncated, _ = env.step(action)
        first = terminated or truncated
        if first:
            observation, _ = env.reset()
    followed = [seconds for seconds, same_plan in spent if same_plan]
    return 1e3 * float(np.mean(followed)), 1e3 * float(np.mean([s for s, _ in spent]))
