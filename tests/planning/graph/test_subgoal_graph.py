"""Shortest paths through the subgoal graph, on a world whose distances are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.types import BoolArray, FloatArray
from tests.planning.world import (
    GOAL,
    RULES,
    START,
    STEP,
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


class CountingWorld(WallWorld):
    """Counts the pairs it is asked about."""

    asked = 0

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        self.asked += len(goal)
        # Some predictions are far too short: shortcuts through the wall.
        steps = super().distance(observation, achieved_goal, goal)
        lucky = np.sin(50.0 * (achieved_goal + goal).sum(-1)) > 0.9
        return np.where(lucky, np.maximum(0.3 * steps, 1.0), steps)


class RoughMap:
    """Experience that rounds to four steps, and that knows nothing of one stripe."""

    def __init__(self, stripe: float) -> None:
        self.stripe = stripe

    def _known(self, source: FloatArray, target: FloatArray) -> FloatArray:
        steps = WallWorld().distance(source, source, target)
        unknown = np.abs(np.stack([source, target])[..., 1] - self.stripe).min(0) < 0.4
        return np.where(unknown, np.float32(np.inf), 4.0 * np.ceil(steps / 4.0))

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        known = self._known(source, target)
        is_verified = known <= 1.5 * predicted + 6.0
        return np.maximum(predicted, np.where(is_verified, known - 4.0, 0.0)), is_verified

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        i, j = (x.ravel() for x in np.indices((len(source), len(target))))
        known = self._known(source[i], target[j]).reshape(len(source), -1)
        return np.maximum(known - 4.0, 0.0).astype(np.float32)

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        return True


@pytest.mark.parametrize("stripe", [-1.0, 0.5, 2.5])
def test_what_is_not_predicted_is_on_no_shortest_path(stripe: float) -> None:
    pool, verified, asked = make_pool(), 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = (8, 20, 60)[seed % 3]
        nodes = pool.random_nodes(n, rng)
        start, goal = rng.uniform(0, 4, (2, 2)).astype(np.float32)
        worlds, paths = [CountingWorld(), CountingWorld()], []
        for world in worlds:
            rules = EdgeRules(world, GraphConfig(), STEP, RULES.reached, RoughMap(stripe))
            graph = SubgoalGraph(nodes, goal, rules)
            graph.move_start(np.zeros(4, np.float32), start)
            graph.block(start, nodes.achieved_goal[0])
            graph.block(nodes.achieved_goal[1], goal)
            possible = graph.may_be_verified()
            if world is worlds[1]:
                graph.predict(np.ones_like(graph.blocked))
            paths.append(graph.shortest_path())
        # By Floyd and Warshall, over verified edges where those lead to the goal.
        costs = graph.costs.astype(np.float64)
        best = [_all_pairs(np.where(graph.unverified, np.inf, costs)), _all_pairs(costs)]
        found = sum(costs[i, j] for i, j in pairwise(paths[0])) if paths[0] else np.inf
        wanted = best[0] if np.isfinite(best[0]) else best[1]
        assert found == pytest.approx(wanted, rel=1e-5)
        assert paths[0] == paths[1]
        assert possible or np.isinf(best[0])
        verified += bool(np.isfinite(best[0]))
        if np.isfinite(best[0]):
            asked.append(worlds[0].asked / worlds[1].asked)
    assert verified >= 3
    assert max(asked) <= 1.0 and np.mean(asked) < 0.8


def _all_pairs(costs: np.ndarray) -> float:
    for k in range(len(costs)):
        costs = np.minimum(costs, costs[:, k : k + 1] + costs[k : k + 1])
    return float(costs[0, -1])
