"""Rows of the planner: a plan from nothing, a step along a plan, planning time against nodes."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

import hierebm
from benchmarks.speed_measure import Row, fitted_exponent, limit, row
from benchmarks.speed_peer import ENV

NODES = (16, 32, 64, 128, 256, 512)


def rows(quick: bool) -> Iterator[Row]:
    """Train a small agent, then yield the rows, each as soon as it is measured."""
    env = gym.make(ENV, layout="four_rooms")
    agent = hierebm.HierarchicalEBMAgent(seed=0, energy_train_freq=500)
    agent.learn(env, 1500 if quick else 4000)
    queries = _queries(env, 20 if quick else 60)
    medians = _planning_ms(agent, queries)
    yield limit("replan, 64 nodes: sample, join, search", medians[64], 25.0, "ms/plan", nodes=64)
    yield limit(
        "closed-loop step, one env: predict along a plan",
        _closed_loop_ms(agent, env, 300 if quick else 2000),
        1.5,
        "ms/step",
    )
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
    """Median processor time of a plan at each number of nodes, which take turns."""
    planners = {}
    for nodes in NODES:
        planners[nodes] = copy.copy(agent.planner)
        planners[nodes].config = replace(agent.config, n_subgoals=nodes)
    times: dict[int, list[float]] = {nodes: [] for nodes in NODES}
    for i, query in enumerate([queries[0], *queries]):
        for nodes, planner in planners.items():
            rng = np.random.default_rng(i)
            before = time.process_time()
            planner.begin(query["observation"], query["achieved_goal"], query["desired_goal"], rng)
            times[nodes].append(1e3 * (time.process_time() - before))
    # The first of each grew its buffers.
    return {nodes: float(np.median(ms[1:])) for nodes, ms in times.items()}


def _closed_loop_ms(agent: hierebm.HierarchicalEBMAgent, env: gym.Env[Any, Any], n: int) -> float:
    """Mean processor time of ``predict`` on all steps but the first one of an episode."""
    spent: list[float] = []
    observation, _ = env.reset(seed=1000)
    state, first = None, True
    while len(spent) < n:
        before = time.process_time()
        action, state = agent.predict(observation, state, np.array([first]))
        if not first:
            spent.append(time.process_time() - before)
        observation, _, terminated, truncated, _ = env.step(action)
        first = terminated or truncated
        if first:
            observation, _ = env.reset()
    return 1e3 * float(np.mean(spent))
