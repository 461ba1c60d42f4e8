"""Shortest paths through the subgoal graph, on a world whose distances are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hierebm.planning.graph.edges import GraphConfig
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from tests.planning.world import (
    GOAL,
    RULES,
    START,
    WallWorld,
    make_pool,
)


def test_the_shortest_path_goes_around_the_wall_by_weighted_length() -> None:
    pool = make_pool()
    rows = np.random.default_rng(2).choice(len(pool), 200, replace=False)
    nodes = pool.nodes_at(pool.achieved_goal[rows])
    graph = SubgoalGraph(nodes, GOAL, RULES)
    graph.move_start(np.zeros(4, np.float32), START)
    path = graph.shortest_path()
    assert path[0] == 0 and path[-1] == graph.goal_node
    plan = graph.to_plan(path)
    assert (plan.nodes[0] == START).all() and (plan.nodes[-1] == GOAL).all()
    true = WallWorld().distance(np.zeros((1, 4)), START[None], GOAL[None])[0]
    assert true <= plan.length <= 1.1 * true
    assert plan.path_points[:, 1].max() > 2.0, "up towards the gap"
    costs = sum(graph.costs[i, j] for i, j in pairwise(path))
    brute = graph.costs.astype(np.float64)
    for k in range(graph.goal_node + 1):  # Floyd-Warshall
        brute = np.minimum(brute, brute[:, k : k + 1] + brute[k : k + 1])
    assert costs == pytest.approx(brute[0, -1], rel=1e-5)
    assert graph.largest_component() == 200


def test_a_blocked_edge_is_avoided() -> None:
    nodes = make_pool().nodes_at(np.array([[1.0, 2.0], [1.2, 2.0]], np.float32))
    edges = replace(RULES, config=GraphConfig(max_edge=8.0))
    graph = SubgoalGraph(nodes, np.array([1.0, 3.0], np.float32), edges)
    graph.move_start(np.zeros(4, np.float32), np.array([1.0, 1.0], np.float32))
    assert graph.shortest_path() == [0, 1, 3]
    graph.blocked[1, 3] = True
    assert graph.shortest_path() == [0, 2, 3]
    graph.blocked[2, 3] = True
    assert graph.shortest_path() == []
