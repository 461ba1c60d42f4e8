"""How few nodes could do if the graph had to lead from start to goal."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from benchmarks.subgoals.measure import World, far
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.edges import nearest_pairs

EVERYWHERE = 2000
"""Stored states that stand for all nodes there could be."""


def fewest_nodes(
    context: PlanningContext, world: World, n_tasks: int, seed: int, share: float = 0.9
) -> dict[str, Any]:
    """Nodes on the path of fewest hops over a dense graph.

    No sampler can do with fewer, except one that bisects the rest of the way on arrival. Edges are
    those that the agent itself would trust: of at most ``max_edge`` steps, verified by experience.

    Args:
        context: what the agent plans with.
        world: where the tasks are.
        n_tasks, seed: how many far tasks, and which.
        share: of the tasks that the nodes have to do for.

    Returns:
        ``nodes`` that the share of tasks can do with, their ``median``, and ``joined``,
        the share of tasks with a path at all.
    """
    edges, pool, rng = context.edges, context.experienced, np.random.default_rng(seed)
    env = gym.make_vec(
        "PointMassGoal-v0", num_envs=n_tasks, distance=far(world), **world.kwargs
    ).unwrapped
    tasks, _ = env.reset(seed=seed)
    rows = rng.choice(len(pool), min(EVERYWHERE, len(pool)), replace=False)
    ends = [pool.achieved_goal[rows], tasks["achieved_goal"], tasks["desired_goal"]]
    nodes = pool.nodes_at(np.concatenate(ends))
    points, n = nodes.achieved_goal, len(nodes)
    # All pairs within the radius matter here, not only the nearest ones.
    i, j = nearest_pairs(points, points, n - 1, edges.candidate_radius)
    i, j = i[i != j], j[i != j]
    steps = np.concatenate(
        [
            edges.model.distance(nodes.observation[i[part]], points[i[part]], points[j[part]])
            for part in np.array_split(np.arange(len(i)), len(i) // 100_000 + 1)
        ]
    )
    steps, verified = edges.verify(points[i], points[j], steps)
    edge = verified & (steps <= edges.config.max_edge)
    graph = csr_array((np.ones(edge.sum()), (i[edge], j[edge])), shape=(n, n))
    start = np.arange(len(rows), len(rows) + n_tasks)
    hops = dijkstra(graph, indices=start, unweighted=True)[np.arange(n_tasks), start + n_tasks]
    return {
        "nodes": float(np.quantile(hops, share, method="higher") - 1.0),
        "median": float(np.median(hops) - 1.0),
        "joined": float(np.isfinite(hops).mean()),
    }
