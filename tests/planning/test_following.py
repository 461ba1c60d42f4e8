"""Plans of several environments side by side: begun, followed and dropped where they have to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hierebm.planning.following import PlanFollower
from hierebm.planning.graph.novelty_walk import Walk
from hierebm.planning.planner import Planner, PlanState
from hierebm.types import FloatArray, GoalObservation


class Counting(Planner):
    """The subgoal is the goal; tells how often plans were begun and followed."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.followed = 0, 0

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
    ) -> PlanState:
        self.begun += 1
        plan = PlanState(goal, rng, learning)
        plan.chase(goal, 1.0)
        return plan

    def step(self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray) -> Any:
        self.followed += 1
        return plan


def seen(*goals: float) -> GoalObservation:
    rows = np.array(goals, np.float32)[:, None]
    return GoalObservation(np.zeros_like(rows), np.zeros_like(rows), rows)


def make(n: int, **options: Any) -> PlanFollower:
    rng = np.random.default_rng(0)
    return PlanFollower(Counting(), None, n, lambda: rng, **{"learning": True, **options})


NEVER, ALWAYS = np.zeros(2, bool), np.ones(2, bool)


def test_plans_are_begun_once_followed_and_begun_again_after_an_end() -> None:
    follower = make(2)
    assert (follower.subgoals(seen(1, 2)) == [[1], [2]]).all()
    follower.advance(seen(1, 2), NEVER)
    follower.subgoals(seen(1, 2))
    assert (follower.planner.begun, follower.planner.followed) == (2, 2)
    follower.advance(seen(3, 2), np.array([True, False]))
    assert (follower.subgoals(seen(3, 2)) == [[3], [2]]).all()
    assert (follower.planner.begun, follower.planner.followed) == (3, 3)


def test_a_goal_that_changes_within_an_episode_is_planned_for() -> None:
    follower = make(2)
    follower.subgoals(seen(1, 2))
    follower.advance(seen(1, 5), NEVER)
    assert (follower.subgoals(seen(1, 5)) == [[1], [5]]).all()
    assert (follower.planner.begun, follower.planner.followed) == (3, 1)


def test_a_reset_row_is_planned_for_as_the_new_episode_that_it_begins() -> None:
    # As with NEXT_STEP: the end is seen first, the reset comes with the step after it.
    follower = make(2)
    follower.subgoals(seen(1, 2))
    follower.advance(seen(1, 2), np.array([True, False]))
    follower.subgoals(seen(1, 2))
    follower.advance(seen(7, 2), NEVER, valid=np.array([False, True]))
    assert (follower.subgoals(seen(7, 2)) == [[7], [2]]).all()


def test_direct_episodes_go_without_a_plan_only_while_learning() -> None:
    follower = make(2, direct_share=1.0)
    assert (follower.subgoals(seen(1, 2)) == [[1], [2]]).all()
    assert follower.planner.begun == 0 and not any(follower.random_walk)
    follower = make(2, direct_share=1.0, learning=False)
    follower.subgoals(seen(1, 2))
    assert follower.planner.begun == 2


def test_the_state_of_other_environments_is_refused() -> None:
    follower = make(2)
    follower.subgoals(seen(1, 2))
    with pytest.raises(ValueError, match=r"state is that of 2 environment\(s\).* of 3"):
        PlanFollower(Counting(), follower.plans, 3, np.random.default_rng, learning=False)


@dataclass
class OwnPlan:
    """A plan that is no PlanState; ``walk`` is what its planner means by it."""

    goal: FloatArray
    subgoal: FloatArray
    random_walk: bool
    walk: bool


def test_plans_that_walk_take_random_actions_but_where_the_walk_chose_one() -> None:
    follower, chosen = make(3), np.full(2, 0.5, np.float32)
    follower.subgoals(seen(1, 2, 3))
    follower.plans[0].walk_at_random(5)
    follower.plans[1].walk_at_random(5)
    follower.plans[1].walk = Walk(chosen, 0.0, 4.0)
    goal = follower.plans[2].goal
    follower.plans[2] = OwnPlan(goal, goal, random_walk=True, walk=True)
    assert list(follower.random_walk) == [True, True, True]
    random = np.random.default_rng(0).uniform(-1, 1, (3, 2)).astype(np.float32)
    before = random.copy()
    action = follower.walk(random)
    np.testing.assert_array_equal(random, before)
    np.testing.assert_array_equal(action, [before[0], chosen, before[2]])
