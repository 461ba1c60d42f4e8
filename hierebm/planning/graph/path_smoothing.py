"""Path smoothing: nodes are drawn before there is a path, so that it zigzags."""

from __future__ import annotations

import numpy as np

from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.graph.subgoal_graph import SubgoalGraph


def smooth_path(graph: SubgoalGraph, path: list[int], pool: NodePool, candidates: int = 4) -> None:
    """Move the nodes of a path to where the path over them costs least, in place.

    Every other node may be replaced by a stored state, with its neighbours held still; then the
    nodes in between. Once is enough: a second round gained less than a hundredth of the length.

    Args:
        graph: whose nodes move; costs of new edges follow its own rules.
        path: nodes from 0 (the start) on, as :meth:`SubgoalGraph.shortest_path` gives them.
        pool: stored states to move to.
        candidates: for each node, this many around the middle of its neighbours and as many
            half-way there.
    """
    points = np.stack([graph.start, *(graph.point(node) for node in path[1:])])
    observations = np.concatenate(
        [graph.start_observation[None], graph.nodes.observation[np.array(path[1:-1], int) - 1]]
    )
    # Of the edges between them.
    steps, is_verified = (
        graph.distance[path[:-1], path[1:]],
        ~graph.unverified[path[:-1], path[1:]],
    )
    for first in (1, 2):
        moving = np.arange(first, len(path) - 1, 2)
        if not moving.size:
            continue
        own, before, after = points[moving], points[moving - 1], points[moving + 1]
        middle = (before + after) / np.float32(2.0)
        near = [pool.nearest(x, candidates) for x in (middle, (middle + own) / np.float32(2.0))]
        choices = np.concatenate(near, axis=1)
        m, k, dim = choices.shape
        nodes = pool.nodes_at(choices.reshape(m * k, dim))
        cost, new_steps, new_verified = graph.evaluate(
            np.concatenate([np.repeat(observations[moving - 1], k, 0), nodes.observation]),
            np.concatenate([np.repeat(before, k, 0), nodes.achieved_goal]),
            np.concatenate([nodes.achieved_goal, np.repeat(after, k, 0)]),
        )
        costs = cost.reshape(2, m, k).sum(0)
        edge_costs = graph.cost(steps, is_verified)
        moves = np.flatnonzero(costs.min(1) < edge_costs[moving - 1] + edge_costs[moving])
        moving, best = moving[moves], moves * k + costs.argmin(1)[moves]
        points[moving], observations[moving] = nodes.achieved_goal[best], nodes.observation[best]
        to, onwards = best, m * k + best
        steps[moving - 1], steps[moving] = new_steps[to], new_steps[onwards]
        is_verified[moving - 1], is_verified[moving] = new_verified[to], new_verified[onwards]
    energy = np.full(len(path) - 2, np.nan, np.float32)
    graph.move_path(path, Nodes(observations[1:], points[1:-1], energy), steps, is_verified)
