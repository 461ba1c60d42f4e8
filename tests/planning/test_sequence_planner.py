"""The closed loop around the sequence optimiser: subgoals are handed out, missed, planned again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.sequence import SequenceConfig
from hierebm.planning.sequence_planner import SequencePlanState, SequenceSubgoalPlanner
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray

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


def make_planner(seed: int = 0) -> SequenceSubgoalPlanner:
    config = SimpleNamespace(
        sequence=SequenceConfig(chains=4, langevin_steps=3),
        energy_gradient_steps=3,
        energy_batch_size=16,
    )
    context = PlanningContext(
        config=config,
        goal_dim=2,
        model=OpenPlane(),
        reached=reached,
        generator=torch.Generator().manual_seed(seed),
        device=torch.device("cpu"),
    )
    return SequenceSubgoalPlanner.build(context, lambda: pytest.fail("needs no subgoal sampler"))


def begin(planner: SequenceSubgoalPlanner, *, learning: bool = False) -> SequencePlanState:
    return planner.begin(START, START, GOAL, np.random.default_rng(0), learning=learning)


def test_a_plan_leads_from_the_start_over_subgoals_to_the_goal() -> None:
    plan = begin(make_planner())
    np.testing.assert_array_equal(plan.states[0], START)
    np.testing.assert_array_equal(plan.states[-1], GOAL)
    assert len(plan.states) > 3 and plan.energies.shape == (len(plan.states) - 1,)
    np.testing.assert_array_equal(plan.subgoal, plan.states[1])
    assert plan.predicted == pytest.approx(10 * float(np.linalg.norm(plan.subgoal - START)))


def test_reached_subgoals_are_passed_and_the_goal_is_kept() -> None:
    planner = make_planner()
    plan = begin(planner)
    at = plan.states[2]
    plan = planner.step(plan, at, at)
    # The first one was saved, since a later one was reached.
    assert plan.next >= 3
    np.testing.assert_array_equal(plan.subgoal, plan.states[plan.next])
    assert planner.stats_of_predict.pop()["subgoal/reached_rate"] == 1.0
    plan = planner.step(plan, GOAL, GOAL)
    np.testing.assert_array_equal(plan.subgoal, GOAL)
    again = planner.step(plan, GOAL, GOAL)
    assert again is plan and plan.next == len(plan.states) - 1


@pytest.mark.parametrize("learning", [False, True])
def test_a_missed_subgoal_is_a_negative_only_while_learning(learning: bool) -> None:
    planner = make_planner()
    plan = first = begin(planner, learning=learning)
    missed = plan.subgoal
    while plan is first:
        assert planner.sequences.model.missed.size == 0 and first.elapsed < first.budget
        plan = planner.step(plan, START, START)
    assert first.elapsed == first.budget
    np.testing.assert_array_equal(plan.states[0], START)
    np.testing.assert_array_equal(plan.states[-1], GOAL)
    assert plan.learning is learning and plan.elapsed == 0
    remembered = planner.sequences.model.missed.contents
    assert len(remembered) == int(learning)
    if learning:
        np.testing.assert_array_equal(remembered[0].numpy(), np.stack([START, missed]))


def test_leaving_the_path_makes_a_new_plan_from_the_current_state() -> None:
    planner = make_planner()
    plan = begin(planner)
    near = START + np.array([0.0, 0.5], np.float32)
    assert planner.step(plan, near, near) is plan
    far = START + np.array([0.0, 5.0], np.float32)
    again = planner.step(plan, far, far)
    assert again is not plan
    np.testing.assert_array_equal(again.states[0], far)
    np.testing.assert_array_equal(again.goal, GOAL)


def test_it_learns_from_the_replay_and_is_restored_bit_for_bit() -> None:
    replay, rng = EpisodeReplay(500, 2, 2, 1), np.random.default_rng(1)
    state, no_action = np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32)
    false = np.zeros(1, np.bool_)
    for t in range(200):
        following = state + rng.normal(0, 0.2, (1, 2)).astype(np.float32)
        ended = np.array([t % 20 == 19])
        replay.add(state, state, GOAL[None], no_action, following, following, false, ended)
        state = following
    logged: list[dict[str, float]] = []
    planner = make_planner()
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
    with pytest.raises(RuntimeError, match="no experience"):
        planner.show(START, START, GOAL, rng)
    stored = np.random.default_rng(3).uniform(0, 6, (50, 2)).astype(np.float32)
    planner.context.pool = NodePool(stored, stored)
    plan = planner.show(START, START, GOAL, rng)
    n = len(plan.nodes)
    np.testing.assert_array_equal(plan.nodes[[0, -1]], np.stack([START, GOAL]))
    assert plan.edges.tolist() == [[i, i + 1] for i in range(n - 1)]
    lengths = np.linalg.norm(np.diff(plan.nodes, axis=0), axis=1)
    np.testing.assert_allclose(plan.distances, 10 * lengths, rtol=1e-4)
    assert np.isnan(plan.energies[0]) and np.isfinite(plan.energies[1:]).all()


@pytest.mark.parametrize("learning", [False, True])
def test_an_agent_that_stands_on_the_goal_stays_there(learning: bool) -> None:
    planner = make_planner()
    stats = planner.stats if learning else planner.stats_of_predict
    first = begin(planner, learning=learning)
    plan = planner.step(first, GOAL, GOAL)
    for _ in range(200):
        plan = planner.step(plan, GOAL, GOAL)
        assert plan is first and np.array_equal(plan.subgoal, GOAL)
        assert plan.elapsed < plan.budget
    assert stats.sums["subgoal/reached_rate"] == (1.0, 1), "once, not at every step"
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
    assert planner.stats.sums["subgoal/reached_rate"] == (1.0, 1)


def test_a_plan_from_the_goal_chases_the_goal() -> None:
    near = GOAL + np.array([0.0, 0.2], np.float32)
    plan = make_planner().begin(near, near, GOAL, np.random.default_rng(0))
    np.testing.assert_array_equal(plan.subgoal, GOAL)
