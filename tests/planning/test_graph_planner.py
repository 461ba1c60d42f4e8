"""The graph planner: commitment, missed subgoals, exploration, placeholder edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from hierebm.planning.closed_loop import RANDOM_WALK_STEPS
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph_plan import GraphPlan, PlannerConfig
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.planner import PlanState
from hierebm.planning.samplers import (
    ReplaySampler,
    SubgoalSampler,
)
from tests.planning.world import (
    GOAL,
    SCALES,
    START,
    STEP,
    LeftHalf,
    WallWorld,
    make_pool,
    reached,
)


def make_planner(sampler: SubgoalSampler | None = None, **settings: Any) -> GraphPlanner:
    config = PlannerConfig(n_subgoals=150, **settings)
    context = PlanningContext(
        config,
        2,
        WallWorld(),
        reached,
        torch.Generator(),
        torch.device("cpu"),
        SCALES,
        make_pool(),
    )
    return GraphPlanner(context, sampler or ReplaySampler())


class EveryThirdOfTheWay(SubgoalSampler):
    """Nodes one after the other around the wall, too far apart for the graph's edges."""

    def sample(self, start, goal, n, pool, rng, edges=None):  # type: ignore
        way = np.array([[1.4, 1.2], [1.9, 3.2], [3.0, 2.0]], np.float32)
        return pool.nodes_at(way, np.zeros(3, np.float32), in_order=3)


def test_a_path_ends_where_an_unexpanded_segment_begins() -> None:
    planner = make_planner(EveryThirdOfTheWay(), max_edge=6.0, smooth_path=False)
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0))
    assert plan.path == [1], "over the first hop; only a placeholder edge leads on"
    assert np.isinf(planner.show(zeros, START, GOAL, np.random.default_rng(0)).length)
    graph, there = plan.graph, plan.subgoal
    plan = planner.step(plan, zeros, there)
    assert plan.graph is not graph, "at its end it is planned again"
    assert plan.path == [], "from there on, this sampler has placeholders only"
    graph.nodes = replace(graph.nodes, in_order=0)
    assert graph.shortest_path() == [], "no placeholder edges over nodes that are in no order"


def test_a_placeholder_edge_is_the_last_resort() -> None:
    planner = make_planner(EveryThirdOfTheWay(), max_edge=15.0, smooth_path=False)
    plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
    assert plan.path[-1] == plan.graph.goal_node, "edges lead all the way"
    plan.graph.block(plan.graph.start, plan.graph.point(1))
    plan.graph.block(plan.graph.start, plan.graph.point(2))
    plan.graph.move_start(np.zeros(4, np.float32), START)
    assert plan.graph.shortest_path() == [], "no placeholder over what failed"


def test_a_perfect_follower_arrives_and_no_subgoal_is_dropped_on_the_way() -> None:
    planner = make_planner()
    at, zeros = START.copy(), np.zeros(4, np.float32)
    plan = planner.begin(zeros, at, GOAL, np.random.default_rng(0), learning=True)
    subgoals, steps = [plan.subgoal], 0
    while not reached(at[None], GOAL[None])[0]:
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
    planner = make_planner()
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0), learning=True)
    first = plan.subgoal
    kept, seen = 0, {tuple(first)}
    for t in range(120):
        if np.array_equal(plan.subgoal, first) and kept == t:
            kept += 1
        plan = planner.step(plan, zeros, START)
        seen.add(tuple(plan.subgoal))
    assert kept == 5, "four steps without getting nearer, and the one that is asked in"
    assert len(seen) >= 5
    assert planner.stats.pop()["subgoal/reached_rate"] == 0.0


def test_on_slow_ground_a_follower_is_given_more_time_to_get_nearer() -> None:
    planner = make_planner(explore_share=0.0)
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0), learning=True)
    plan.slowness, first, kept = 2.0, plan.subgoal, 0
    plan.budget = 100
    while np.array_equal(plan.subgoal, first):
        kept += 1
        plan = planner.step(plan, zeros, START)
    assert kept == 9, "twice the four steps, and the one that is asked in"
    assert plan.slowness == 1.0, "the next subgoal is another one"


def test_a_subgoal_that_gets_nearer_is_kept_until_its_budget_is_spent() -> None:
    planner = make_planner(explore_share=0.0)
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0), learning=True)
    first, budget = plan.subgoal, plan.budget
    # Nearer by half a step for every step taken, and never there.
    far = first + np.array([0.0, 4.0], np.float32)
    steps = 0
    while np.array_equal(plan.subgoal, first):
        steps += 1
        plan = planner.step(plan, zeros, far - np.array([0.0, 0.5 * steps * STEP[1]], np.float32))
    assert steps == budget


def test_a_subgoal_too_far_to_be_told_from_farther_ones_is_not_given_up_early() -> None:
    planner = make_planner()
    zeros, far = np.zeros(4, np.float32), np.array([1.0, -2.0], np.float32)
    plan = PlanState(far, np.random.default_rng(0), learning=False)
    plan.chase(far, 20.0)

    def missed(steps_away: float) -> bool:
        plan.elapsed += 1
        return planner.is_missed(plan, zeros, far + np.array([0.0, 0.2 * steps_away], np.float32))

    assert not any(missed(30 + i) for i in range(12, 0, -1)), "all predicted at 30, the largest"
    # Within the edges of plans, it counts whether the agent gets nearer.
    assert not any(missed(steps) for steps in range(20, 10, -1))
    assert [missed(11) for _ in range(6)].index(True) in (3, 4, 5)


def _half_known(**settings: Any) -> GraphPlanner:
    planner = make_planner(**settings)
    planner.context.transition_map = LeftHalf()  # type: ignore
    return planner


def test_learning_explores_the_frontier_and_walks_at_random_there() -> None:
    planner = _half_known(explore_share=1.0)
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0), learning=True)
    halfway, frontier = np.array([1.4, 0.8], np.float32), np.array([1.8, 1.0], np.float32)
    assert plan.exploring and not plan.random_walk and np.array_equal(plan.subgoal, halfway)
    plan = planner.step(plan, zeros, halfway)
    assert plan.exploring and not plan.random_walk and np.array_equal(plan.subgoal, frontier)
    plan = planner.step(plan, zeros, frontier)
    for _ in range(RANDOM_WALK_STEPS):
        assert plan.random_walk
        plan = planner.step(plan, zeros, frontier)
    assert plan.exploring and not plan.random_walk, "and then the next one to explore"
    known = planner.begin(zeros, START, frontier, np.random.default_rng(0), learning=True)
    assert known.path and not known.exploring, "no exploring where a verified path is known"


class _SlowHalf(LeftHalf):
    """Where everything takes three times the fewest steps."""

    def fewest(self, source: Any, target: Any, predicted: Any) -> Any:
        return np.abs(target - source).max(1) / STEP[0]

    def expected(self, source: Any, target: Any) -> Any:
        return 3.0 * self.fewest(source, target, None)

    def slowness(self, source: Any, target: Any) -> Any:
        return np.full(len(source), 3.0)


def test_a_try_that_is_given_up_counts_the_steps_that_were_left() -> None:
    """Else those that missed would look as short as the patience with them."""
    planner = make_planner()
    planner.context.transition_map = _SlowHalf()  # type: ignore
    cutoff = planner.context.edge_cutoff = EdgeCutoff(safe_edge=8.0)
    zeros, goal = np.zeros(4, np.float32), np.array([1.0, 2.5], np.float32)
    for follows in (True, False):
        plan = planner.begin(zeros, START, goal, np.random.default_rng(0), learning=True)
        first, n_before = plan.subgoal, len(cutoff.outcomes)
        steps = 0
        while len(cutoff.outcomes) == n_before:
            plan = planner.step(plan, zeros, first if follows else START)
            steps += 1
        _, reached, fewest, expected, spent = cutoff.state_dict()["outcomes"][-1]
        assert reached == follows and expected == pytest.approx(3.0 * fewest)
        assert spent == pytest.approx(steps if follows else steps + fewest)
        assert len(planner.context.transition_map.doubted) == (not follows)
    ((point, target, nats),) = planner.context.transition_map.doubted
    np.testing.assert_array_equal(point, START)
    np.testing.assert_array_equal(target, first)
    assert nats > 0.0, "one of two tries was reached before"


def test_predicting_does_not_explore_but_draws_other_nodes() -> None:
    planner = _half_known(redraws=2)
    drawn = []
    sample = planner.sampler.sample
    planner.sampler.sample = lambda *args: drawn.append(1) or sample(*args)  # type: ignore
    for may_lead, draws in ((True, 3), (False, 1)):
        # Other nodes can help only where experience leads to the goal.
        planner.context.transition_map.may_lead = lambda *_: may_lead  # type: ignore  # noqa: B023
        plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
        assert plan.path and not plan.exploring, "better an unverified path than none"
        assert len(drawn) == draws
        drawn.clear()
    near = np.array([1.0, 2.5], np.float32)
    planner.begin(np.zeros(4, np.float32), START, near, np.random.default_rng(0))
    assert len(drawn) == 1


class NowhereNear(SubgoalSampler):
    """Nodes that are on no way."""

    def sample(self, start, goal, n, pool, rng, edges=None):  # type: ignore
        return pool.nodes_at(np.array([[0.1, 3.9]], np.float32))


def test_where_no_drawn_nodes_know_the_way_landmarks_do() -> None:
    planner = _half_known(sampler=NowhereNear(), redraws=1, max_edge=6.0)
    known, zeros = planner.context.transition_map, np.zeros(4, np.float32)
    assert known is not None
    start, goal = np.array([[1.0, 0.5], [1.0, 3.5]], np.float32)
    points = np.linspace(start, goal, 7, dtype=np.float32)
    hops = csr_array((np.full(6, 2.5), (np.arange(6), np.arange(1, 7))), shape=(7, 7))
    known.hops = lambda: (points, hops)  # type: ignore
    plan = planner.begin(zeros, start, goal, np.random.default_rng(0))
    assert plan.leads_to_the_end and len(plan.path) > 2
    assert planner.stats_of_predict.pop()["graph/nodes"] == len(plan.graph.nodes) == 5
    along = plan.graph.nodes.achieved_goal
    assert np.abs(along[:, 0] - 1.0).max() < 0.5 and (np.diff(along[:, 1]) > 0).all()
    learning = planner.begin(zeros, start, goal, np.random.default_rng(0), learning=True)
    assert not learning.leads_to_the_end, "while learning, what is not found is explored"
    known.may_lead = lambda *_: False  # type: ignore
    assert not planner.begin(zeros, start, goal, np.random.default_rng(0)).leads_to_the_end


class InOrderOnDemand(SubgoalSampler):
    """Nodes that join nothing, until a way is to be laid out."""

    def sample(self, start, goal, n, pool, rng, edges=None):  # type: ignore
        return pool.nodes_at(np.array([[0.1, 3.9]], np.float32))

    def lay_out(self, start, goal, n, pool, rng, edges):  # type: ignore
        return pool.nodes_at(np.linspace(start, goal, 5)[1:-1], in_order=3)


def test_where_nodes_do_not_join_the_way_is_laid_out() -> None:
    planner = _half_known(sampler=InOrderOnDemand(), redraws=1, max_edge=6.0)
    zeros = np.zeros(4, np.float32)
    start, goal = np.array([[0.5, 0.5], [1.5, 3.5]], np.float32)
    plan = planner.begin(zeros, start, goal, np.random.default_rng(0))
    assert plan.is_verified and plan.path == [1, 2, 3, 4]
    unknown = np.array([3.9, 3.5], np.float32)
    plan = planner.begin(zeros, start, unknown, np.random.default_rng(0))
    assert plan.path, "nothing verifies all of it, and it is laid out as far as it goes"
    planner.context.config.explore_share = 0.0
    plan = planner.begin(zeros, start, goal, np.random.default_rng(0), learning=True)
    assert plan.path == [], "while learning, no other nodes are drawn"


def test_a_planner_joins_nodes_by_the_current_settings_and_tells_its_sampler() -> None:
    planner, told = make_planner(), []
    sample = planner.sampler.sample
    planner.sampler.sample = lambda *args: told.append(args[-1]) or sample(*args)  # type: ignore
    longest = []
    for max_edge in (20.0, 9.0):
        planner.context.config = replace(planner.context.config, max_edge=max_edge)
        plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
        longest.append(plan.graph.to_plan([]).distances.max())
    assert longest[1] <= 9.0 < longest[0] <= 20.0
    assert [edges.config.max_edge for edges in told] == [20.0, 9.0]


def test_planning_without_experience_says_so() -> None:
    planner = make_planner()
    planner.context.pool = None
    with pytest.raises(RuntimeError, match=r"learn\(\)"):
        planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))


def _arrived(planner: GraphPlanner, *, learning: bool = False) -> GraphPlan:
    """A plan whose agent has just come to its final goal, over the nodes of the path."""
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0), learning=learning)
    while not np.array_equal(plan.subgoal, GOAL):
        plan = planner.step(plan, zeros, plan.subgoal)
    return planner.step(plan, zeros, GOAL)


def test_an_episode_that_starts_at_its_goal_is_no_try_and_needs_no_way() -> None:
    planner = make_planner(redraws=0)
    # Everything looks too far for an edge, the goal itself included.
    planner.context.model.distance = lambda o, s, g: np.full(len(g), 25.0, np.float32)
    zeros = np.zeros(4, np.float32)
    plan = first = planner.begin(zeros, GOAL, GOAL, np.random.default_rng(0))
    assert plan.arrived
    for _ in range(60):
        plan = planner.step(plan, zeros, GOAL)
        assert plan is first and np.array_equal(plan.subgoal, GOAL)
    assert "subgoal/reached_rate" not in planner.stats_of_predict.sums, "nothing was tried"


@pytest.mark.parametrize("learning", [False, True])
def test_an_agent_that_stands_on_the_goal_stays_there(learning: bool) -> None:
    planner = make_planner()
    planner.context.edge_cutoff = cutoff = EdgeCutoff(12.0)
    stats, zeros = planner.stats if learning else planner.stats_of_predict, np.zeros(4, np.float32)
    plan = first = _arrived(planner, learning=learning)
    arrivals = stats.sums["subgoal/reached_rate"]
    outcomes = cutoff.state_dict()["outcomes"].copy()
    assert arrivals[0] == arrivals[1], "the final goal counts as reached"
    for _ in range(200):
        plan = planner.step(plan, zeros, GOAL)
        assert plan is first and np.array_equal(plan.subgoal, GOAL)
        assert plan.elapsed < plan.budget and not plan.random_walk
    assert plan.graph.failed == []
    assert stats.sums["subgoal/reached_rate"] == arrivals, "once, not at every step"
    np.testing.assert_array_equal(cutoff.state_dict()["outcomes"], outcomes)


def test_an_agent_that_drifts_off_the_goal_chases_it_again_and_then_plans_again() -> None:
    planner = make_planner()
    zeros, off = np.zeros(4, np.float32), GOAL + np.array([0.5, 0.0], np.float32)
    plan = first = _arrived(planner)
    plan = planner.step(plan, zeros, off)
    assert plan is first and np.array_equal(plan.subgoal, GOAL), "it may come back by itself"
    assert planner.step(plan, zeros, GOAL) is first
    steps = 0
    while plan is first:
        plan, steps = planner.step(plan, zeros, off), steps + 1
    assert 2 <= steps <= 10 and plan.graph.failed == [], "no edge to the goal failed"
    stats = planner.stats_of_predict.sums["subgoal/reached_rate"]
    assert stats[0] == stats[1], "a goal that was reached is not missed"


def test_a_goal_that_is_passed_on_the_way_ends_the_way() -> None:
    planner = make_planner()
    plan = planner.begin(np.zeros(4, np.float32), START, GOAL, np.random.default_rng(0))
    assert not np.array_equal(plan.subgoal, GOAL)
    plan = planner.step(plan, np.zeros(4, np.float32), GOAL)
    assert np.array_equal(plan.subgoal, GOAL) and plan.graph.failed == []


def test_predicting_from_the_goal_chases_it_whatever_is_verified() -> None:
    planner = _half_known(redraws=2)
    at = GOAL + np.array([0.2, 0.0], np.float32)
    plan = planner.begin(np.zeros(4, np.float32), at, GOAL, np.random.default_rng(0))
    assert np.array_equal(plan.subgoal, GOAL)
    shown = planner.show(np.zeros(4, np.float32), at, GOAL, np.random.default_rng(0))
    assert len(shown.path) == 2, "from here to the goal"


def test_exploring_goes_on_over_the_goal_only_while_learning() -> None:
    planner = _half_known(explore_share=1.0)
    zeros = np.zeros(4, np.float32)
    plan = planner.begin(zeros, START, GOAL, np.random.default_rng(0), learning=True)
    frontier = plan.subgoal
    plan = planner.step(plan, zeros, GOAL)
    assert plan.exploring and np.array_equal(plan.subgoal, frontier), "still to be explored"
    plan = planner.step(plan, zeros, frontier)
    plan = planner.step(plan, zeros, plan.subgoal)
    assert plan.random_walk and planner.step(plan, zeros, GOAL).random_walk
    plan.learning = False
    plan = planner.step(plan, zeros, GOAL)
    assert not plan.exploring and not plan.random_walk and np.array_equal(plan.subgoal, GOAL)
