"""The closed loop around the sequence optimiser: subgoals are handed out, missed, planned again."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from hierebm.agents.config import HierarchicalEBMConfig
from hierebm.planning.closed_loop import RANDOM_WALK_STEPS
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.sequence import SequenceConfig
from hierebm.planning.sequence_plan import SequencePlanState
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.replay import EpisodeReplay
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray
from tests.device_rules import StaysOn

STEP = np.array([0.1, 0.1], np.float32)
START, GOAL = np.array([0.0, 0.0], np.float32), np.array([6.0, 0.0], np.float32)


class OpenPlane:
    """Ten steps a unit of length, on the plane without walls."""

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        return (10 * np.linalg.norm(goal - achieved_goal, axis=-1)).astype(np.float32)


def reached(achieved: FloatArray, goal: FloatArray) -> np.ndarray:
    return np.linalg.norm(achieved - goal, axis=-1) <= 0.3


def make_planner(seed: int = 0, device: str = "cpu", **settings: Any) -> SequenceSubgoalPlanner:
    config = HierarchicalEBMConfig(
        sequence=SequenceConfig(chains=4, langevin_steps=3),
        energy_gradient_steps=3,
        energy_batch_size=16,
        **settings,
    )
    stored = np.random.default_rng(3).uniform(-1, 7, (400, 2)).astype(np.float32)
    ones = np.ones(2, np.float32)
    context = PlanningContext(
        config=config,
        goal_dim=2,
        model=OpenPlane(),
        reached=reached,
        generator=torch.Generator().manual_seed(seed),
        device=torch.device(device),
        scales=InputScales(0 * ones, ones, 0 * ones, ones, STEP),
        pool=NodePool(stored, stored),
    )
    return SequenceSubgoalPlanner.build(context, lambda: pytest.fail("needs no subgoal sampler"))


def begin(planner: SequenceSubgoalPlanner, *, learning: bool = False) -> SequencePlanState:
    return planner.begin(START, START, GOAL, np.random.default_rng(0), learning=learning)


def test_a_plan_leads_from_the_start_over_subgoals_to_the_goal() -> None:
    plan = begin(make_planner())
    np.testing.assert_array_equal(plan.states[0], START)
    np.testing.assert_array_equal(plan.states[-1], GOAL)
    assert len(plan.states) > 3 and plan.energies.shape == (len(plan.states) - 1,)
    np.testing.assert_array_equal(plan.subgoal, plan.states[plan.path[0]])
    assert plan.predicted == pytest.approx(10 * float(np.linalg.norm(plan.subgoal - START)))


def test_the_farthest_planned_state_that_is_safe_is_chased() -> None:
    planner = make_planner(safe_edge=35.0, max_edge=40.0)
    plan = begin(planner)
    steps = 10 * np.linalg.norm(plan.states - START, axis=1)
    first = plan.path[0]
    assert steps[first] <= 35.0 < steps[first + 1] and first > 1
    plan = planner.step(plan, plan.subgoal, plan.subgoal)
    assert plan.path[0] > first, "and from there the next of them"


def test_reached_subgoals_are_passed_and_the_goal_is_kept() -> None:
    planner = make_planner()
    plan = begin(planner)
    chased = plan.path[0]
    at = plan.states[chased + 1]
    # Beyond the subgoal and within its tolerance, too.
    plan.states[chased] = at
    plan.subgoal = at
    plan = planner.step(plan, at, at)
    assert plan.path[0] >= chased + 2, "a later state that is reached saves the one before"
    np.testing.assert_array_equal(plan.subgoal, plan.states[plan.path[0]])
    assert planner.stats_of_predict.pop()["subgoal/reached_rate"] == 1.0
    plan = planner.step(plan, GOAL, GOAL)
    np.testing.assert_array_equal(plan.subgoal, GOAL)
    assert planner.step(plan, GOAL, GOAL) is plan and plan.arrived


@pytest.mark.parametrize("learning", [False, True])
def test_a_missed_subgoal_is_a_negative_only_while_learning(learning: bool) -> None:
    planner = make_planner(explore_share=0.0)
    planner.context.edge_cutoff = cutoff = EdgeCutoff(8.0)
    plan = first = begin(planner, learning=learning)
    missed = plan.subgoal
    steps = 0
    while plan is first:
        assert planner.sequences.model.missed.size == 0 and steps < 10
        plan, steps = planner.step(plan, START, START), steps + 1
    assert steps == 5, "four steps without getting nearer, and the one that is asked in"
    np.testing.assert_array_equal(plan.states[0], START)
    np.testing.assert_array_equal(plan.states[-1], GOAL)
    assert plan.learning is learning and plan.elapsed == 0
    assert len(plan.failed) == 2 and not np.array_equal(plan.subgoal, missed)
    remembered = planner.sequences.model.missed.contents
    assert len(remembered) == 2 * int(learning)
    assert len(cutoff.state_dict()["outcomes"]) == int(learning)
    if learning:
        np.testing.assert_array_equal(remembered[0].numpy(), np.stack([START, missed]))


class Known:
    """Experience of x < 3 alone, along y = 0 and then back to it; the frontier is at (2.5, 0)."""

    gates = ()
    expected_share = 0.0

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, np.ndarray]:
        return predicted, (source[:, 0] < 3) & (target[:, 0] < 3)

    def fewest(self, source: FloatArray, target: FloatArray, predicted: FloatArray) -> FloatArray:
        return predicted

    def expected(self, source: FloatArray, target: FloatArray) -> FloatArray:
        return np.ones(len(source), np.float32)

    spacing = np.array([1.2, 1.2], np.float32)

    def hops(self) -> tuple[FloatArray, csr_array]:
        points = np.array([[0.0, 0.0], [1.0, 0.6], [2.0, 0.0]], np.float32)
        steps = np.array([[0, 11, 0], [11, 0, 11], [0, 11, 0]], np.float32)
        return points, csr_array(steps)

    def frontier(
        self, point: FloatArray, max_hop: float, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        points = np.array([[1.0, 0.0], [2.5, 0.0]], np.float32)
        return points, np.full(2, 10.0, np.float32)


def half_known(**settings: Any) -> SequenceSubgoalPlanner:
    planner = make_planner(**settings)
    planner.context.transition_map = Known()  # type: ignore[assignment]
    return planner


def test_where_experience_does_not_lead_learning_explores_the_frontier() -> None:
    planner = half_known(explore_share=1.0)
    plan = begin(planner, learning=True)
    halfway, frontier = np.array([1.0, 0.0], np.float32), np.array([2.5, 0.0], np.float32)
    assert plan.exploring and np.array_equal(plan.subgoal, halfway)
    plan = planner.step(plan, halfway, halfway)
    assert plan.exploring and not plan.random_walk and np.array_equal(plan.subgoal, frontier)
    plan = planner.step(plan, frontier, frontier)
    for _ in range(RANDOM_WALK_STEPS):
        assert plan.random_walk
        plan = planner.step(plan, frontier, frontier)
    assert not plan.random_walk and not begin(planner).exploring


def test_a_planned_state_without_experience_is_explored_from_the_last_one_with() -> None:
    planner = half_known(explore_share=0.0)
    plan = begin(planner, learning=True)
    edge = int(plan.verified.argmin())
    assert 0 < edge < len(plan.verified) and not plan.verified[edge:].any()
    assert plan.exploring and not plan.path
    chased = [plan.subgoal]
    while not plan.random_walk:
        plan = planner.step(plan, plan.subgoal, plan.subgoal)
        if not plan.random_walk:
            chased.append(plan.subgoal)
    np.testing.assert_array_equal(chased[-1], plan.states[edge])
    assert all(point[0] < 3 for point in chased)


def test_predicting_follows_a_plan_whatever_is_verified() -> None:
    plan = begin(half_known(explore_share=1.0))
    assert plan.path and not plan.exploring and not plan.is_verified


def test_where_experience_leads_the_plan_is_verified_even_if_relaxing_broke_it() -> None:
    planner, goal = half_known(), np.array([2.0, 0.0], np.float32)
    rng = np.random.default_rng(0)
    plan = planner.begin(START, START, goal, rng, learning=True)
    assert plan.is_verified and not plan.exploring
    # Every short transition is taken for none: what is left is the way of experience itself.
    known = planner.context.transition_map
    known.verify = lambda a, b, n: (n, n > 10.5)  # type: ignore
    plan = planner.begin(START, START, goal, rng, learning=True)
    np.testing.assert_allclose(plan.states, [[0, 0], [1, 0.6], [2, 0]], atol=1e-6)
    assert plan.is_verified and np.isfinite(plan.energies).all()


def test_ways_keep_clear_of_what_failed_and_then_of_what_failed_less() -> None:
    planner, goal = half_known(), np.array([2.0, 0.0], np.float32)
    over, rng = np.array([1.0, 0.6], np.float32), np.random.default_rng(0)
    assert planner._known_ways.find(START, goal, [], rng)[0].is_verified  # type: ignore[index]
    # The only way that experience leads along is given up after many tries.
    failed = [(START, over)] * 200
    assert not planner._known_ways.find(START, goal, failed, rng)[0].is_verified  # type: ignore[index]


def test_what_failed_from_here_is_not_chased_again() -> None:
    planner = half_known()
    plan = planner.begin(START, START, GOAL, np.random.default_rng(0))
    tried: list[FloatArray] = []
    for _ in range(3):
        assert not any(np.abs(plan.subgoal - point).max() < 0.2 for point in tried)
        tried.append(plan.subgoal)
        planner._block(plan, START, plan.subgoal)
        plan = planner.replan(plan, START, START)


class KnownBehind(Known):
    """The same, and a landmark behind the start."""

    behind = np.array([-0.3, -0.5], np.float32)

    def hops(self) -> tuple[FloatArray, csr_array]:
        points, steps = super().hops()
        return np.concatenate([points, self.behind[None]]), csr_array(
            (steps.data, steps.indices, [*steps.indptr, steps.nnz]), shape=(4, 4)
        )


def test_it_steps_aside_where_every_edge_ahead_has_failed() -> None:
    planner = half_known()
    planner.context.transition_map = KnownBehind()  # type: ignore[assignment]
    plan = planner.begin(START, START, GOAL, np.random.default_rng(0))
    for x in np.arange(0.2, 6.4, 0.2, np.float32):
        planner._block(plan, START, np.array([x, 0.0], np.float32))
    plan = planner.replan(plan, START, START)
    np.testing.assert_array_equal(plan.subgoal, KnownBehind.behind)
    # From there it is on its way again, and where that fails, too, it is not chased again.
    reached = planner.step(deepcopy(plan), KnownBehind.behind, KnownBehind.behind)
    assert reached.path and not np.array_equal(reached.subgoal, KnownBehind.behind)
    plan.elapsed = plan.budget + 1
    missed = planner.step(plan, START, START)
    assert missed.path and not np.array_equal(missed.subgoal, KnownBehind.behind)
    # What lies beyond is to be explored while learning.
    learning = planner.begin(START, START, GOAL, np.random.default_rng(0), learning=True)
    learning.failed.extend(plan.failed)
    learning = planner.replan(learning, START, START)
    assert not np.array_equal(learning.subgoal, KnownBehind.behind)


def walked() -> EpisodeReplay:
    """Ten episodes of a random walk."""
    replay, rng = EpisodeReplay(500, 2, 2, 1), np.random.default_rng(1)
    state, no_action = np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32)
    false = np.zeros(1, np.bool_)
    for t in range(200):
        following = state + rng.normal(0, 0.2, (1, 2)).astype(np.float32)
        ended = np.array([t % 20 == 19])
        replay.add(state, state, GOAL[None], no_action, following, following, false, ended)
        state = following
    return replay


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_sequences_stay_on_the_cpu_whatever_the_device_of_the_low_level(device: str) -> None:
    planner, copy, replay = make_planner(device=device), make_planner(device=device), walked()
    with StaysOn("cpu") as rules:
        planner.learn(replay, np.random.default_rng(2), lambda _: None)
        plan = begin(planner, learning=True)
        planner._block(plan, START, plan.subgoal)
        planner.learn(replay, np.random.default_rng(3), lambda _: None)
        planner.replan(plan, START, START)
        planner.show(START, START, GOAL, np.random.default_rng(0))
        copy.load_state_dict(planner.state_dict())
    assert rules.n_calls > 500


def test_it_learns_from_the_replay_and_is_restored_bit_for_bit() -> None:
    logged: list[dict[str, float]] = []
    planner, replay = make_planner(), walked()
    planner.learn(replay, np.random.default_rng(2), logged.append)
    assert len(logged) == 3 and all(np.isfinite(row["energy/loss"]) for row in logged)
    copy = make_planner(seed=9)
    copy.load_state_dict(planner.state_dict())
    ours, theirs = begin(planner), begin(copy)
    np.testing.assert_array_equal(ours.states, theirs.states)
    np.testing.assert_array_equal(ours.energies, theirs.energies)


def test_a_plan_can_be_shown_once_there_is_experience() -> None:
    planner = make_planner()
    rng = np.random.default_rng(0)
    plan = planner.show(START, START, GOAL, rng)
    n = len(plan.nodes)
    np.testing.assert_array_equal(plan.nodes[[0, -1]], np.stack([START, GOAL]))
    assert plan.edges.tolist() == [[i, i + 1] for i in range(n - 1)]
    lengths = np.linalg.norm(np.diff(plan.nodes, axis=0), axis=1)
    np.testing.assert_allclose(plan.distances, 10 * lengths, rtol=1e-4)
    assert np.isnan(plan.energies[0]) and np.isfinite(plan.energies[1:]).all()
    planner.context.pool = None
    with pytest.raises(RuntimeError, match="no experience"):
        planner.show(START, START, GOAL, rng)


def test_a_plan_goes_into_a_file_and_back() -> None:
    planner = half_known(explore_share=1.0)
    for plan in (begin(planner), begin(planner, learning=True)):
        planner._block(plan, START, plan.subgoal)
        again = planner.restored_plan(planner.plan_state(plan), np.random.default_rng(1))
        assert again.state_dict().keys() == plan.state_dict().keys()
        for key, value in plan.state_dict().items():
            np.testing.assert_equal(again.state_dict()[key], value, err_msg=key)


@pytest.mark.parametrize("learning", [False, True])
def test_an_agent_that_stands_on_the_goal_stays_there(learning: bool) -> None:
    planner = make_planner()
    stats = planner.stats if learning else planner.stats_of_predict
    first = begin(planner, learning=learning)
    plan = first = planner.step(first, GOAL, GOAL)
    for _ in range(200):
        plan = planner.step(plan, GOAL, GOAL)
        assert plan is first and np.array_equal(plan.subgoal, GOAL)
        assert plan.elapsed < plan.budget
    assert "subgoal/reached_rate" not in stats.sums, "the subgoal was another one"
    assert planner.sequences.model.missed.size == 0


def test_an_agent_that_drifts_off_the_goal_chases_it_again_and_then_plans_again() -> None:
    planner = make_planner()
    off = GOAL + np.array([0.0, 5.0], np.float32)
    first = begin(planner, learning=True)
    plan = planner.step(first, GOAL, GOAL)
    assert planner.step(plan, off, off) is first and np.array_equal(plan.subgoal, GOAL)
    assert planner.step(plan, GOAL, GOAL) is first
    steps = 0
    while plan is first:
        plan, steps = planner.step(plan, off, off), steps + 1
    assert 2 <= steps <= 10
    np.testing.assert_array_equal(plan.states[0], off)
    assert planner.sequences.model.missed.size == 0, "the goal was reached"


def test_a_plan_from_the_goal_chases_the_goal() -> None:
    near = GOAL + np.array([0.0, 0.2], np.float32)
    plan = make_planner().begin(near, near, GOAL, np.random.default_rng(0))
    np.testing.assert_array_equal(plan.subgoal, GOAL)
