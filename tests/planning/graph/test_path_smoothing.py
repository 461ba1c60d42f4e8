"""Path smoothing: shorter, over stored states, and never into what failed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hierebm.planning.graph.edges import GraphConfig
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from tests.planning.world import (
    GOAL,
    RULES,
    START,
    STEP,
    WallWorld,
    make_pool,
)


def test_a_smoothed_path_is_shorter_and_leads_over_stored_states() -> None:
    pool = make_pool()
    rows = np.random.default_rng(2).choice(len(pool), 60, replace=False)
    nodes = pool.nodes_at(pool.achieved_goal[rows])
    given = nodes.achieved_goal.copy()
    graph = SubgoalGraph(nodes, GOAL, RULES)
    graph.move_start(np.zeros(4, np.float32), START)
    path = graph.shortest_path()
    before, way = graph.to_plan(path), list(pairwise(path))
    cost = sum(graph.costs[i, j] for i, j in way)
    smooth_path(graph, path, pool)
    points = np.stack([START, *(graph.point(node) for node in path[1:])])
    steps = WallWorld().distance(points[:-1], points[:-1], points[1:])
    assert graph.distance[path[:-1], path[1:]] == pytest.approx(steps, rel=1e-5)
    after = graph.to_plan(path)
    assert sum(graph.costs[i, j] for i, j in way) < cost
    assert after.length < before.length
    true = WallWorld().distance(np.zeros((1, 4)), START[None], GOAL[None])[0]
    assert true <= after.length < true + 0.7 * (before.length - true)
    inner = after.path_points[1:-1]
    assert {tuple(x) for x in inner} <= {tuple(x) for x in pool.achieved_goal}
    others = np.setdiff1d(np.arange(1, 61), path)
    assert (after.nodes[others] == before.nodes[others]).all()
    # Samplers may hand out the same nodes again.
    assert (nodes.achieved_goal == given).all()


def test_a_path_is_not_smoothed_into_what_failed_before() -> None:
    pool = make_pool()
    start, goal = np.array([0.5, 0.5], np.float32), np.array([0.5, 2.5], np.float32)
    nodes = pool.nodes_at(np.array([[1.3, 1.5]], np.float32))
    straight = np.array([0.5, 1.5], np.float32)
    inner = {}
    for failed in ([], [(start, straight)]):
        edges = replace(RULES, config=GraphConfig(max_edge=9.0))
        graph = SubgoalGraph(nodes, goal, edges, failed)
        graph.move_start(np.zeros(4, np.float32), start)
        assert graph.shortest_path() == [0, 1, 2]
        smooth_path(graph, [0, 1, 2], pool, candidates=30)
        assert graph.shortest_path() == [0, 1, 2]
        inner[len(failed)] = graph.point(1)
    assert (np.abs(inner[0] - straight) <= 2 * STEP).all()
    assert not (np.abs(inner[1] - straight) <= 2 * STEP).all()
