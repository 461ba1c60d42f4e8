"""How few nodes could do where the graph has to reach from start to goal."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from benchmarks.subgoals.measure import World, far
from hierebm import HierarchicalEBMAgent
from hierebm.planning.graph.edges import candidate_pairs

EVERYWHERE = 2000
"""Stored states that stand for all places a node could be at."""


def fewest_nodes(
    agent: HierarchicalEBMAgent, world: World, n_tasks: int, seed: int, share: float = 0.9
) -> dict[str, Any]:
    """Nodes on the path of fewest hops over a dense graph.

    No sampler can do with fewer, except one that lays out the way as it goes.

    An edge is one that the agent itself would trust: at most ``max_edge`` predicted steps, borne
    out by experience.

    Returns:
        ``nodes`` that this share of the far tasks can do with, their ``median``, and ``joined``,
        the share of tasks with a path at all.
    """
    assert agent.transition_map is not None and agent.planner.pool is not None
    c, pool, rng = agent.planner_config, agent.planner.pool, np.random.default_rng(seed)
    env = gym.make_vec(
        "PointMassGoal-v0", num_envs=n_tasks, distance=far(world), **world.kwargs
    ).unwrapped
    tasks, _ = env.reset(seed=seed)
    rows = rng.choice(len(pool), min(EVERYWHERE, len(pool)), replace=False)
    ends = [pool.achieved_goal[rows], tasks["achieved_goal"], tasks["desired_goal"]]
    nodes = pool.nodes_at(np.concatenate(ends))
    points, n = nodes.achieved_goal, len(nodes)
    edges = agent.high_level.edges(c)
    # All pairs within reach matter here, not only the nearest ones.
    i, j = candidate_pairs(points, points, n - 1, edges.candidate_radius)
    i, j = i[i != j], j[i != j]
    steps = np.concatenate(
        [
            edges.model.distance(nodes.observation[i[part]], points[i[part]], points[j[part]])
            for part in np.array_split(np.arange(len(i)), len(i) // 100_000 + 1)
        ]
    )
    steps, verified = edges.check(points[i], points[j], steps)
    edge = verified & (steps <= c.max_edge)
    graph = csr_array((np.ones(edge.sum()), (i[edge], j[edge])), shape=(n, n))
    start = np.arange(len(rows), len(rows) + n_tasks)
    hops = dijkstra(graph, indices=start, unweighted=True)[np.arange(n_tasks), start + n_tasks]
    return {
        "nodes": float(np.quantile(hops, share, method="higher") - 1.0),
        "median": float(np.median(hops) - 1.0),
        "joined": float(np.isfinite(hops).mean()),
    }
