"""The graph planner where jumps lead: to the gate, through it, and on from wherever that led."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from hierebm.checkpoint.state import to_arrays, to_tensors
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.gates import TRY
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph_plan import GraphPlan, PlannerConfig
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.samplers import ReplaySampler
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray
from tests.planning.graph.test_gates import EXITS, GOAL, START, STEP, line, mapped
from tests.planning.world import reached

ZEROS = np.zeros(2, np.float32)


class OnTheLine:
    """Steps of 0.2; far goals are as far as the largest distance."""

    def distance(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        steps = np.linalg.norm(goal - achieved_goal, axis=-1) / 0.2
        return np.clip(steps, 1.0, 20.0).astype(np.float32)


def make(chance: tuple[float, ...] = (0.05, 0.05, 0.9)) -> GraphPlanner:
    x = np.random.default_rng(0).uniform(0.0, 12.0, 2000)
    points = np.stack([x, np.zeros_like(x)], 1).astype(np.float32)
    ones = np.ones(2, np.float32)
    context = PlanningContext(
        PlannerConfig(n_subgoals=120),
        2,
        OnTheLine(),
        reached,
        torch.Generator(),
        torch.device("cpu"),
        InputScales(ZEROS, ones, ZEROS, ones, STEP),
        NodePool(points, points),
        mapped(line(0, np.array(chance))),
        edge_cutoff=EdgeCutoff(8.0),
    )
    return GraphPlanner(context, ReplaySampler())


def follow(
    planner: GraphPlanner, exits: list[FloatArray], *, learning: bool = False, limit: int = 200
) -> tuple[int, list[GraphPlan]]:
    """Walk to subgoals, and to the left at the gate; each jump leads to the next of the exits.

    Returns the steps to the goal, and the plans that were followed.
    """
    at, exits = START, list(exits)
    plan = planner.begin(at, at, GOAL, np.random.default_rng(0), learning=learning)
    plans = [plan]
    for step in range(limit):
        if reached(at[None], GOAL[None])[0]:
            return step, plans
        offset = np.clip(plan.subgoal - at, -0.2, 0.2) if not plan.jumping else -STEP
        at = (at + offset * np.array([1, 0])).astype(np.float32)
        if at[0] < 0.0:
            at = exits.pop(0) if exits else np.zeros(2, np.float32)
        plan = planner.step(plan, at, at)
        if plan is not plans[-1]:
            plans.append(plan)
    return limit, plans


def test_a_jump_is_tried_again_until_it_leads_on() -> None:
    steps, plans = follow(make(), [EXITS[0], EXITS[2]])
    # Three steps to the end of the line and one through it, ten back, and the same again.
    assert steps <= 4 + 10 + 4 + 8
    assert plans[0].gate is not None
    assert plans[-1].gate is None, "from the last exit on it is a walk"


def test_without_luck_it_is_walked() -> None:
    planner = make((1.0, 0.0, 0.0))
    steps, plans = follow(planner, [])
    assert steps <= 62
    assert all(plan.gate is None for plan in plans)


def test_a_gate_that_does_nothing_costs_one_try_and_then_it_is_walked() -> None:
    steps, plans = follow(make(), [])
    tries = [plan for plan in plans if plan.jumping]
    assert len(tries) == 1
    assert steps <= 62 + TRY + 6


def test_tries_are_remembered_while_learning_and_only_then() -> None:
    planner = make()
    known = planner.context.transition_map
    assert known is not None
    follow(planner, [EXITS[0]])
    assert not len(known.gates.state_dict()["tries"])
    follow(planner, [EXITS[0]], learning=True)
    jumped = known.gates.state_dict()["tries"][:, -1]
    assert jumped[0] == 1.0 and 0.0 in jumped, "the first led on, the next did nothing"


def test_an_edge_that_is_tried_tells_what_it_took() -> None:
    planner = make((1.0, 0.0, 0.0))
    follow(planner, [], learning=True)
    cutoff = planner.context.edge_cutoff
    assert cutoff is not None
    predicted, was_reached, fewest, expected, spent = cutoff._outcomes.T
    assert was_reached.all() and len(spent) > 3
    assert (fewest <= expected).all()
    np.testing.assert_allclose(spent, expected, atol=3.0)
    assert predicted.max() <= 20.0


@pytest.mark.parametrize("at_gate", [False, True])
def test_a_plan_goes_on_from_a_file_as_it_would_have(at_gate: bool) -> None:
    planner = make()
    plan = planner.begin(START, START, GOAL, np.random.default_rng(0), learning=True)
    assert plan.gate is not None and not plan.jumping
    at = plan.gate.point if at_gate else START
    if at_gate:
        plan = planner.begin(at, at, GOAL, np.random.default_rng(0), learning=True)
        assert plan.jumping
    state = to_arrays(to_tensors(planner.plan_state(plan)))
    restored = planner.restored_plan(state, deepcopy(plan.rng))
    for x in (0.1, 0.2, 3.0):
        np.testing.assert_equal(planner.plan_state(restored), planner.plan_state(plan))
        here = at + np.array([x, 0.0], np.float32)
        plan, restored = (planner.step(p, here, here) for p in (plan, restored))
