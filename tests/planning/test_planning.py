"""Graph, stitching, samplers and the committed planner, on a world whose distances are known."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from hierebm.energy.point_selection import farthest_points
from hierebm.planning.graph.diagnostics import edge_calibration, edges_between
from hierebm.planning.graph.edges import EdgeRules, GraphConfig, candidate_pairs
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.graph.path_smoothing import smooth_path
from hierebm.planning.graph.stitching import along_polyline, stitched_between
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.planning.graph_planner import PlannerConfig, SubgoalPlanner
from hierebm.planning.samplers import EBMSampler, ReplaySampler
from hierebm.planning.samplers.between_energy import BetweenEnergy, EnergyConfig
from hierebm.planning.samplers.recursive_bisection import TooLong, recursive_bisection
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray

STEP = np.array([0.2, 0.2], np.float32)


class WallWorld:
    """Steps on the plane [0, 4]^2 with a wall at x = 2 that is open only above y = 3."""

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        gap = np.array([2.0, 3.0])
        straight = np.linalg.norm(goal - achieved_goal, axis=-1)
        around = np.linalg.norm(achieved_goal - gap, axis=-1) + np.linalg.norm(goal - gap, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (2.0 - achieved_goal[:, 0]) / (goal[:, 0] - achieved_goal[:, 0])
            height = achieved_goal[:, 1] + t * (goal[:, 1] - achieved_goal[:, 1])
        crosses = (achieved_goal[:, 0] < 2) != (goal[:, 0] < 2)
        steps = np.where(crosses & ~(height > 3), around, straight) / 0.2
        return np.clip(steps, 1.0, 30.0).astype(np.float32)


def _pool(n: int = 1500) -> NodePool:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 4, (n, 2)).astype(np.float32)
    velocity = rng.normal(0, 0.1, (n, 2)).astype(np.float32)
    return NodePool(np.concatenate([points, velocity], 1), points)


def _reached(achieved: FloatArray, goal: FloatArray) -> np.ndarray:
    return np.linalg.norm(achieved - goal, axis=-1) <= 0.3


RULES = EdgeRules(WallWorld(), GraphConfig(), STEP, _reached)
START, GOAL = np.array([1.0, 0.5], np.float32), np.array([3.0, 0.5], np.float32)


def test_a_place_repeats_the_point_and_averages_the_rest() -> None:
    nodes = _pool().nodes_at(np.array([[1.0, 1.0], [2.5, 3.5]], np.float32))
    assert (nodes.observation[:, :2] == nodes.achieved_goal).all()
    assert (np.abs(nodes.observation[:, 2:]) < 0.1).all()
    assert np.isnan(nodes.energy).all()


def test_candidate_pairs_are_the_near_ones() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 4, (2, 40, 2)).astype(np.float32)
    i, j = candidate_pairs(a, b, neighbours=1000, candidate_radius=np.array([0.7, 0.3], np.float32))
    near = (np.abs(a[:, None] - b[None]) <= [0.7, 0.3]).all(-1)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == set(
        map(tuple, np.argwhere(near).tolist())
    )
    few, _ = candidate_pairs(a, b, neighbours=2, candidate_radius=np.array([9.0, 9.0], np.float32))
    assert (np.bincount(few) == 3).all()


def test_edges_are_the_critics_word_until_experience_is_asked() -> None:
    a, b = (np.random.default_rng(i).uniform(0, 4, (60, 2)).astype(np.float32) for i in (3, 4))
    observation = np.zeros((60, 4), np.float32)
    steps, verified = RULES.verify(observation, a, b)
    assert (steps == WallWorld().distance(observation, a, b)).all() and verified.all()
    _, verified = replace(RULES, transition_map=_LeftHalf()).verify(observation, a, b)
    assert (verified == ((a[:, 0] < 2) & (b[:, 0] < 2))).all()
    short = replace(RULES, config=GraphConfig(max_edge=2.0, neighbours=1000))
    assert short.candidate_radius.dtype == np.float32 and short.candidate_radius == pytest.approx(
        [0.6, 0.6]
    )
    near = np.stack([short.is_candidate(x, b) for x in a])
    assert (near == (np.abs(a[:, None] - b) <= 0.6).all(-1)).all() and near.any()
    assert set(zip(*short.pairs(a, b), strict=True)) == set(zip(*near.nonzero(), strict=True))
    i, j = short.open_pairs(a, b)
    there = np.stack([_reached(np.tile(x, (60, 1)), b) for x in a])
    assert (near & there).any()
    assert set(zip(i, j, strict=True)) == set(zip(*(near & ~there).nonzero(), strict=True))


def test_the_shortest_path_goes_around_the_wall_by_weighted_length() -> None:
    pool = _pool()
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


def test_a_barred_edge_is_avoided() -> None:
    nodes = _pool().nodes_at(np.array([[1.0, 2.0], [1.2, 2.0]], np.float32))
    edges = replace(RULES, config=GraphConfig(max_edge=8.0))
    graph = SubgoalGraph(nodes, np.array([1.0, 3.0], np.float32), edges)
    graph.move_start(np.zeros(4, np.float32), np.array([1.0, 1.0], np.float32))
    assert graph.shortest_path() == [0, 1, 3]
    graph.blocked[1, 3] = True
    assert graph.shortest_path() == [0, 2, 3]
    graph.blocked[2, 3] = True
    assert graph.shortest_path() == []


def test_a_straightened_path_is_shorter_and_leads_over_stored_states() -> None:
    pool = _pool()
    rows = np.random.default_rng(2).choice(len(pool), 60, replace=False)
    nodes = pool.nodes_at(pool.achieved_goal[rows])
    given = nodes.achieved_goal.copy()
    graph = SubgoalGraph(nodes, GOAL, RULES)
    graph.move_start(np.zeros(4, np.float32), START)
    path = graph.shortest_path()
    before, way = graph.to_plan(path), list(pairwise(path))
    cost = sum(graph.costs[i, j] for i, j in way)
    smooth_path(graph, path, pool)
    after = graph.to_plan(path)
    assert sum(graph.costs[i, j] for i, j in way) < cost
    assert after.length < before.length
    true = WallWorld().distance(np.zeros((1, 4)), START[None], GOAL[None])[0]
    assert true <= after.length < true + 0.7 * (before.length - true)
    inner = after.path_points[1:-1]
    assert {tuple(x) for x in inner} <= {tuple(x) for x in pool.achieved_goal}
    others = np.setdiff1d(np.arange(1, 61), path)
    assert (after.nodes[others] == before.nodes[others]).all()
    # Samplers may hand out the same places again.
    assert (nodes.achieved_goal == given).all()


def test_a_path_is_not_straightened_into_what_failed_before() -> None:
    pool = _pool()
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


def test_calibration_finds_wormholes_and_what_experience_makes_of_them() -> None:
    class Straight(WallWorld):
        """Believes that walls can be crossed."""

        def distance(self, observation, achieved_goal, goal, reduce="max"):  # type: ignore
            steps = np.linalg.norm(goal - achieved_goal, axis=-1) / 0.2
            return np.clip(steps, 1.0, 30.0).astype(np.float32)

    def true_steps(a: FloatArray, b: FloatArray) -> np.ndarray:
        return WallWorld().distance(a, a, b)

    def measure(model: WallWorld, transition_map: _LeftHalf | None) -> dict[str, float]:
        rules = replace(RULES, model=model, transition_map=transition_map)
        edges = edges_between(rules, _pool(), np.random.default_rng(0), true_steps=true_steps)
        return edge_calibration(edges, rules.config)

    honest, fooled = measure(WallWorld(), None), measure(Straight(), None)
    assert honest["graph/underestimated_rate"] == 0.0 and honest["graph/verified_rate"] == 1.0
    assert abs(honest["graph/error_to_8"]) < 0.01
    assert fooled["graph/underestimated_rate"] > 0.01
    checked = measure(Straight(), _LeftHalf())
    assert checked["graph/underestimated_rate"] == fooled["graph/underestimated_rate"]
    assert checked["graph/underestimated_rate_verified"] == 0.0
    assert 0.3 < checked["graph/verified_rate"] < 0.7


def test_stitched_points_lie_on_the_way_around() -> None:
    triplets = stitched_between(_pool(), RULES, np.random.default_rng(0), n_nodes=300)
    zeros = np.zeros((len(triplets.start), 4), np.float32)
    d = WallWorld().distance
    through = d(zeros, triplets.start, triplets.between) + d(zeros, triplets.between, triplets.goal)
    direct = d(zeros, triplets.start, triplets.goal)
    far = (direct > 8) & (direct < 29)
    assert far.sum() > 1000
    assert np.median((through / direct)[far]) < 1.1


def test_along_polyline_is_uniform_in_arc_length() -> None:
    line = np.array([[0, 0], [1, 0], [1, 3]], np.float32)
    points = along_polyline(line, np.array([0.0, 0.25, 0.5, 1.0]))
    assert np.allclose(points, [[0, 0], [1, 0], [1, 1], [1, 3]])


def test_farthest_points_spread() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (500, 2)).astype(np.float32)
    chosen = points[farthest_points(points, 20, first=3)]
    gaps = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1) + 9 * np.eye(20)
    assert gaps.min() > 0.15
    assert (chosen[0] == points[3]).all()


def _detour_energy(points: FloatArray, start: FloatArray, goal: FloatArray) -> FloatArray:
    """(k, m, 2), (k, 2), (k, 2) -> (k, m) steps over a point: the energy that there should be."""
    k, m, _ = points.shape
    a, b, w = np.repeat(start, m, 0), np.repeat(goal, m, 0), points.reshape(k * m, 2)
    d = WallWorld().distance
    return (d(a, a, w) + d(w, w, b)).reshape(k, m)


def _steps(a: FloatArray, b: FloatArray) -> FloatArray:
    return WallWorld().distance(a, a, b)


def _above(limit: float) -> TooLong:
    return lambda a, b: _steps(a, b) > limit


def test_a_chain_leads_around_the_wall_in_even_steps() -> None:
    points = _pool().achieved_goal
    chain = recursive_bisection(
        START, GOAL, 20, points, _detour_energy, _above(6.0), np.random.default_rng(0)
    )
    way = np.stack([START, *chain, GOAL])
    hops = _steps(way[:-1], way[1:])
    assert hops.max() <= 6.0
    direct = _steps(START[None], GOAL[None])[0]
    assert hops.sum() < 1.1 * direct
    # Halving makes a power of two; no more than twice as many as it takes.
    assert direct / 6.0 < len(hops) <= 2.0 * direct / 6.0 + 1.0
    assert {tuple(x) for x in chain} <= {tuple(x) for x in points}


def test_a_chain_can_be_set_out_on_with_few_points() -> None:
    points = _pool().achieved_goal
    for n in (3, 4, 6):
        chain = recursive_bisection(
            START, GOAL, n, points, _detour_energy, _above(4.0), np.random.default_rng(0)
        )
        way = np.stack([START, *chain, GOAL])
        hops = _steps(way[:-1], way[1:])
        assert hops[0] <= 4.0 < hops.max(), "hops first, leaps where points are missing"
        assert hops.sum() < 1.1 * _steps(START[None], GOAL[None])[0]


def test_a_chain_keeps_to_its_number_and_ends_where_nothing_can_be_halved() -> None:
    points = _pool().achieved_goal
    for n in (0, 1, 3):
        chain = recursive_bisection(
            START, GOAL, n, points, _detour_energy, _above(2.0), np.random.default_rng(0)
        )
        assert chain.shape == (n, 2)
    near_the_ends = np.stack([START + 0.01, START + 0.05, GOAL - 0.05])
    chain = recursive_bisection(
        START, GOAL, 9, near_the_ends, _detour_energy, _above(2.0), np.random.default_rng(0)
    )
    assert chain.shape == (0, 2)
    only = np.array([[1.0, 2.0]], np.float32)
    assert (
        recursive_bisection(
            START, GOAL, 9, only, _detour_energy, _above(2.0), np.random.default_rng(0)
        )
        == only
    ).all()


def test_the_energys_sampler_lays_a_chain_first_and_spreads_the_rest() -> None:
    pool = _pool()
    energy = _train_energy(pool)
    energy.config.bisection = True
    sampler, rules = EBMSampler(energy), replace(RULES, config=GraphConfig(safe_edge=4.0))
    few = sampler.sample(START, GOAL, 3, pool, np.random.default_rng(0), rules)
    many = sampler.sample(START, GOAL, 32, pool, np.random.default_rng(0), rules)
    assert len(few) == few.in_order == 3
    assert len(many) == 32 > many.in_order > 3
    assert np.isfinite(many.energy).all()
    way = np.stack([START, *many.achieved_goal[: many.in_order], GOAL])
    hops = _steps(way[:-1], way[1:])
    assert hops.max() <= 6.0 and hops.sum() < 1.3 * _steps(START[None], GOAL[None])[0]


class _EveryThirdOfTheWay(ReplaySampler):
    """Places one after the other around the wall, too far apart for the graph's edges."""

    def sample_batch(self, start, goal, n, pool, rngs, edges=None):  # type: ignore
        way = np.array([[1.4, 1.2], [1.9, 3.2], [3.0, 2.0]], np.float32)
        return [pool.nodes_at(way, np.zeros(3, np.float32), in_order=3)]


def test_a_way_that_is_not_laid_out_yet_is_followed_as_far_as_it_is() -> None:
    planner = _planner(max_edge=6.0, smooth_path=False, explore=0.0)
    planner.sampler = _EveryThirdOfTheWay()
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0))
    assert plan.path == [1], "over the first hop; the next place can only be leapt to"
    assert np.isinf(planner.show(zeros, START, GOAL, np.random.default_rng(0)).length)
    graph, there = plan.graph, plan.subgoal
    plan = planner.step(plan, zeros, there)
    assert plan.graph is not graph, "at its end the plan is made anew"
    assert plan.path == [], "from there on, this sampler knows leaps only"
    graph.nodes = replace(graph.nodes, in_order=0)
    assert graph.shortest_path() == [], "no leaps over places that are in no order"


def test_a_leap_is_the_last_resort() -> None:
    planner = _planner(max_edge=15.0, smooth_path=False)
    planner.sampler = _EveryThirdOfTheWay()
    plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
    assert plan.path[-1] == plan.graph.goal_node, "edges lead all the way"
    plan.graph.fail(plan.graph.start, plan.graph.point(1))
    plan.graph.fail(plan.graph.start, plan.graph.point(2))
    plan.graph.move_start(np.zeros(4, np.float32), START)
    assert plan.graph.shortest_path() == [], "what was tried in vain is not leapt over"


def _train_energy(pool: NodePool, steps: int = 150) -> BetweenEnergy:
    rng = np.random.default_rng(0)
    energy = BetweenEnergy(
        2, EnergyConfig(energy_width=32, energy_lr=3e-3), torch.Generator().manual_seed(0)
    )
    two = torch.full((2,), 2.0)
    energy.fit_scale(two, two, torch.from_numpy(STEP))
    triplets = stitched_between(pool, RULES, rng, n_sources=200, n_nodes=300)
    for _ in range(steps):
        rows = rng.integers(len(triplets.start), size=128)
        batch = BetweenTriplets(*(getattr(triplets, f.name)[rows] for f in fields(triplets)))
        energy.update(batch, pool.achieved_goal[rng.integers(len(pool), size=(128, 16))])
    return energy


def test_the_energy_tells_half_the_way_from_anywhere_on_it() -> None:
    pool = _pool()
    energy = _train_energy(pool, steps=400)
    w = pool.achieved_goal
    start, goal = np.tile(START, (len(w), 1)), np.tile(GOAL, (len(w), 1))
    done = _steps(start, w) / (_steps(start, w) + _steps(w, goal))
    spread = []
    for half in (False, True):
        chance = np.exp(-energy.energy(w, START, GOAL, half).astype(np.float64))
        spread.append(np.sqrt(np.average((done - 0.5) ** 2, weights=chance)))
    assert spread[1] < 0.8 * spread[0], spread


def test_the_energy_draws_subgoals_on_the_way_and_replay_does_not() -> None:
    pool = _pool()
    energy = _train_energy(pool)
    d = WallWorld().distance
    detours = {}
    for name, sampler in (("ebm", EBMSampler(energy)), ("replay", ReplaySampler())):
        nodes = sampler.sample(START, GOAL, 32, pool, np.random.default_rng(0))
        assert isinstance(nodes, Nodes) and len(nodes) == 32
        zeros = np.zeros((32, 4), np.float32)
        start, goal = np.tile(START, (32, 1)), np.tile(GOAL, (32, 1))
        w = nodes.achieved_goal
        detours[name] = np.median(d(zeros, start, w) + d(zeros, w, goal)) / float(
            d(zeros[:1], START[None], GOAL[None])[0]
        )
    assert detours["ebm"] < 1.06 < 1.12 < detours["replay"], detours


def _planner(**kwargs: float) -> SubgoalPlanner:
    planner = SubgoalPlanner(RULES, ReplaySampler(), PlannerConfig(n_subgoals=150, **kwargs))
    planner.pool = _pool()
    return planner


def test_a_perfect_follower_arrives_and_no_subgoal_is_dropped_on_the_way() -> None:
    planner = _planner()
    at, zeros = START.copy(), np.zeros(4, np.float32)
    plan = planner.begin(zeros, at, GOAL, np.random.default_rng(0))
    subgoals, steps = [plan.subgoal], 0
    while not _reached(at[None], GOAL[None])[0]:
        step = plan.subgoal - at
        at = at + step * min(1.0, 0.2 / max(float(np.linalg.norm(step)), 1e-9))
        plan = planner.step(plan, zeros, at.astype(np.float32))
        if not np.array_equal(plan.subgoal, subgoals[-1]):
            subgoals.append(plan.subgoal)
        steps += 1
        assert steps < 60
    stats = planner.stats.pop()
    assert stats["subgoal/reached_rate"] == 1.0
    assert abs(stats["subgoal/distance_error"]) < 3.0
    true = WallWorld().distance(zeros[None], START[None], GOAL[None])[0]
    assert steps <= 1.25 * true
    assert len(subgoals) <= 20


def test_a_follower_that_is_stuck_is_given_other_subgoals() -> None:
    planner = _planner()
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0))
    first = plan.subgoal
    kept, seen = 0, {tuple(first)}
    for t in range(120):
        if np.array_equal(plan.subgoal, first) and kept == t:
            kept += 1
        plan = planner.step(plan, zeros, START)
        seen.add(tuple(plan.subgoal))
    assert 6 <= kept <= 2 * 12 + 4, "kept until its budget of about twice its steps was spent"
    assert len(seen) >= 5
    assert planner.stats.pop()["subgoal/reached_rate"] == 0.0


class _LeftHalf:
    """Experience of a world of which only x < 2 is known; the rim is at (1.8, 1.0)."""

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, np.ndarray]:
        return predicted, (source[:, 0] < 2) & (target[:, 0] < 2)

    def frontier(
        self, point: FloatArray, candidate_radius: float, rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        return np.array([1.8, 1.0], np.float32), 4.0


def _half_known(learning: bool, **kwargs: float) -> SubgoalPlanner:
    edges, config = (
        replace(RULES, transition_map=_LeftHalf()),
        PlannerConfig(n_subgoals=150, **kwargs),
    )
    planner = SubgoalPlanner(edges, ReplaySampler(), config, learning)
    planner.pool = _pool()
    return planner


def test_learning_explores_the_rim_of_the_known_world_and_wanders_there() -> None:
    planner = _half_known(True, explore=1.0, random_walk_steps=5)
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0))
    rim = np.array([1.8, 1.0], np.float32)
    assert plan.exploring and not plan.random_walk and np.array_equal(plan.subgoal, rim)
    plan = planner.step(plan, zeros, rim)
    for _ in range(5):
        assert plan.random_walk
        plan = planner.step(plan, zeros, rim)
    assert plan.exploring and not plan.random_walk, "and then the next place to explore"
    known = planner.begin(zeros, START, rim, np.random.default_rng(0))
    assert known.path and not known.exploring, "no exploring where the way is known"


def test_a_learnt_agent_does_not_explore_but_draws_other_nodes() -> None:
    planner = _half_known(False, redraws=2)
    drawn = []
    sample = planner.sampler.sample
    planner.sampler.sample = lambda *args: drawn.append(1) or sample(*args)  # type: ignore
    plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
    assert plan.path and not plan.exploring, "better a way that only the critics know than none"
    assert len(drawn) == 3
    drawn.clear()
    near = np.array([1.0, 2.5], np.float32)
    planner.begin(np.zeros(4, np.float32), START, near, np.random.default_rng(0))
    assert len(drawn) == 1


def test_a_planner_joins_nodes_by_the_settings_of_now_and_tells_its_sampler() -> None:
    planner, told = _planner(), []
    sample = planner.sampler.sample
    planner.sampler.sample = lambda *args: told.append(args[-1]) or sample(*args)  # type: ignore
    longest = []
    for max_edge in (20.0, 9.0):
        planner.config = replace(planner.config, max_edge=max_edge)
        plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
        longest.append(plan.graph.to_plan([]).distances.max())
    assert longest[1] <= 9.0 < longest[0] <= 20.0
    assert [edges.config.max_edge for edges in told] == [20.0, 9.0]


def test_planning_without_experience_says_so() -> None:
    planner = _planner()
    planner.pool = None
    with pytest.raises(RuntimeError, match=r"learn\(\)"):
        planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
