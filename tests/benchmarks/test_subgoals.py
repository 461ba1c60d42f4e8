"""The arithmetic behind the subgoal benchmark's figures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.subgoals.fewest_nodes import fewest_nodes
from benchmarks.subgoals.growth import (
    draw_growth,
    draw_success,
    fitted_exponent,
    growth,
    interpolated,
    nodes_needed,
    pooled,
)
from benchmarks.subgoals.measure import (
    MeasuredPlanner,
    World,
    attempt,
    equip,
    far,
    fitted,
    trained,
)
from benchmarks.subgoals.plan_time import LargerCritics, plan_time
from benchmarks.subgoals.remedies import (
    AT_EVALUATION,
    WHILE_LEARNING,
    WithoutBlockedEdges,
    WithoutCommitment,
)
from benchmarks.subgoals.soundness import soundness
from hierebm import HierarchicalEBMAgent
from hierebm.evaluation import wilson_interval
from tests.toys import SMALL


def test_wilson_interval_is_the_textbook_one() -> None:
    low, high = wilson_interval(90, 100)
    assert (round(low, 3), round(high, 3)) == (0.826, 0.945)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == 1.0


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_holds_the_rate_and_solves_its_equation(successes: int, more: int) -> None:
    trials = successes + more
    rate, z = successes / trials, 1.959964
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= rate <= high <= 1
    for bound in (low, high):
        # A bound is where the observed rate lies z standard errors of *its own* away.
        expected = z * math.sqrt(bound * (1 - bound) / trials)
        assert abs(rate - bound) == pytest.approx(expected, abs=1e-6)


def test_nodes_needed_interpolates_in_their_logarithm() -> None:
    assert nodes_needed([8, 32, 128], [0.2, 0.8, 1.0]) == pytest.approx(32 * 4**0.5)
    assert nodes_needed([8, 32], [0.95, 1.0]) == 8
    assert nodes_needed([8, 32], [0.1, 0.89]) == math.inf
    assert nodes_needed([8, 16, 32], [0.5, 0.9, 0.7]) == pytest.approx(16), "the first crossing"


def test_interpolated_is_linear_in_logarithms_and_nan_outside() -> None:
    assert interpolated(16, [8, 32], [10, 40]) == pytest.approx(20)
    assert math.isnan(interpolated(64, [8, 32], [10, 40]))
    assert math.isnan(interpolated(math.inf, [8, 32], [10, 40]))


@settings(deadline=None)
@given(st.floats(0.1, 3.0), st.floats(0.5, 20.0))
def test_the_exponent_of_a_power_law_is_found(exponent: float, factor: float) -> None:
    sides = [32.0, 65.0, 130.0]
    nodes = [factor * side**exponent for side in sides]
    assert fitted_exponent(sides, nodes) == pytest.approx(exponent, rel=1e-6)
    assert fitted_exponent([*sides, 260.0], [*nodes, math.inf]) == pytest.approx(exponent, rel=1e-6)
    assert math.isnan(fitted_exponent(sides, [nodes[0], math.inf, math.inf]))


def _cells() -> list[dict]:
    """Needs 2 side nodes ("line") or side^2 / 10 ("area"); two seeds, one of which ends early."""
    cells = []
    for scale, side in ((1, 32), (2, 64), (4, 128)):
        for sampler, need in (("line", 2 * side), ("area", side * side / 10)):
            for seed in (0, 1):
                for n in (8, 32, 128, 512, 2048):
                    rate = float(np.clip(0.9 + 0.2 * math.log2(n / need), 0.0, 1.0))
                    cells.append(
                        {"layout": "rooms", "scale": scale, "side": side, "sampler": sampler}
                        | {"seed": seed, "nodes": n, "success": rate, "plan_ms": 2.0 * n}
                        | {"ci95": [max(0.0, rate - 0.05), min(1.0, rate + 0.05)]}
                    )
                    if seed and rate == 1.0:
                        break
    return cells


def test_growth_tells_a_length_from_an_area(tmp_path: Path) -> None:
    needed = pooled(_cells())
    assert len(needed) == 6
    # Rates clipped to [0, 1] bend the interpolation a little.
    for row in needed:
        expected = 2 * row["side"] if row["sampler"] == "line" else row["side"] ** 2 / 10
        assert row["nodes"] == pytest.approx(expected, rel=0.6)
    exponents = {row["sampler"]: row["exponent"] for row in growth(needed, "rooms")}
    assert exponents["line"] == pytest.approx(1.0, abs=0.3)
    assert exponents["area"] == pytest.approx(2.0, abs=0.3)
    draw_success(_cells(), tmp_path / "success.png")
    draw_growth(needed, "rooms", tmp_path / "growth.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("success.png", "growth.png"))


def test_an_agent_is_trained_once_and_attempts_tasks_with_every_part_exchanged(
    tmp_path: Path,
) -> None:
    world = World("four_rooms", 1, 600)
    agent = trained(world, 0, tmp_path, SMALL)
    saved = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    agent = trained(world, 0, tmp_path, SMALL)
    assert saved == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert agent.num_timesteps == 600 and len(agent.replay_buffer.newest_rows(600)) >= 590

    kmeans, contrastive = (fitted(agent, name, 0) for name in ("kmeans", "contrastive"))
    equip(agent, kmeans, n_subgoals=4)
    first = attempt(agent, world, 6, seed=3)
    assert 0 <= first["success"] <= 1 and 0 <= first["no_path"] <= 1
    assert first["plan_ms"] > 0 and first["plans"] >= 1
    equip(agent, kmeans, n_subgoals=4)
    again = attempt(agent, world, 6, seed=3)
    same = ("success", "path_ratio", "no_path", "reached_rate")
    assert [first[k] for k in same] == pytest.approx([again[k] for k in same], nan_ok=True)
    costs = plan_time(agent, kmeans, world, 3, repeats=1, units=(16,), n_subgoals=4)
    assert 0 < costs["asked"] < 7 * 25 and set(costs) == {"asked", "plan_ms", "plan_ms_16"}
    context = agent.high_level.context
    nodes = context.experienced.random_nodes(5, np.random.default_rng(0))
    asked = nodes.observation, nodes.achieved_goal, nodes.achieved_goal[::-1]
    larger = LargerCritics(agent.low_level, agent.low_level, 16)
    np.testing.assert_array_equal(larger.distance(*asked), agent.low_level.distance(*asked))
    assert larger.asked == 5
    for planner in (WithoutCommitment, WithoutBlockedEdges):
        equip(agent, contrastive, planner, n_subgoals=6, unverified_cost=1.0)
        attempt(agent, world, 3, seed=3)

    rows = soundness(agent, world, draws=1, n_nodes=60)
    assert rows[0]["edges"] == "0 to 8" and rows[1]["n"] >= max(101, rows[0]["n"])
    assert all(0 <= row["underestimated"] <= 1 for row in rows if row["n"])

    few = fewest_nodes(context, world, 6, seed=3, share=0.5)
    shorter = replace(context, config=replace(context.config, max_edge=10.0))
    more = fewest_nodes(shorter, world, 6, seed=3, share=0.5)
    assert few["joined"] >= more["joined"] and 0 <= few["median"] <= more["median"]
    assert few["nodes"] >= few["median"]


def test_every_remedy_can_be_switched_off() -> None:
    config = HierarchicalEBMAgent().config
    for remedy, chosen in (AT_EVALUATION | WHILE_LEARNING).items():
        changed = [k for k, v in chosen.items() if k == "planner" or getattr(config, k) != v]
        assert changed or remedy == "nothing"
    planners = [s["planner"] for s in AT_EVALUATION.values() if "planner" in s]
    assert planners == [WithoutCommitment, WithoutBlockedEdges]


@pytest.fixture(scope="module")
def small_agent(tmp_path_factory: pytest.TempPathFactory) -> HierarchicalEBMAgent:
    return trained(World("four_rooms", 1, 600), 0, tmp_path_factory.mktemp("agents"), SMALL)


def _begin(agent: HierarchicalEBMAgent) -> tuple[Any, Any, Any]:
    """The planner that the agent is equipped with, its plan for a far task, and the state there."""
    world = World("four_rooms", 1, 600)
    env = gym.make("PointMassGoal-v0", distance=far(world), **world.kwargs)
    task, _ = env.reset(seed=0)
    planner: Any = agent.high_level.planner
    state = task["observation"], task["achieved_goal"]
    return planner, planner.begin(*state, task["desired_goal"], np.random.default_rng(0)), state


@pytest.mark.parametrize("planner", [MeasuredPlanner, WithoutBlockedEdges])
def test_what_was_missed_is_blocked_but_for_the_planner_without(
    planner: type[MeasuredPlanner], small_agent: HierarchicalEBMAgent
) -> None:
    # Paths over unverified edges do: whatever the low level has learned, there is one to miss.
    equip(small_agent, fitted(small_agent, "kmeans", 0), planner, n_subgoals=30, redraws=0)
    following, plan, state = _begin(small_agent)
    assert plan.path
    first = plan
    while plan is first:
        plan = following.step(plan, *state)
    missed = [tuple(end) for _, end in plan.graph.failed]
    assert missed == ([] if planner is WithoutBlockedEdges else [tuple(first.subgoal)] * 2)
    assert plan.graph.blocked.any() == (planner is MeasuredPlanner)
    assert plan.path


def test_without_commitment_the_path_begins_where_the_agent_is(
    small_agent: HierarchicalEBMAgent,
) -> None:
    equip(small_agent, fitted(small_agent, "kmeans", 0), WithoutCommitment, n_subgoals=30)
    planner, plan, _ = _begin(small_agent)
    node = plan.graph.nodes[np.array([plan.path[0] - 1])]
    state = node.observation[0], node.achieved_goal[0]
    np.testing.assert_array_equal(plan.subgoal, state[1])
    after = planner.step(plan, state[0], state[1])
    np.testing.assert_array_equal(after.graph.start, state[1])
    assert not np.array_equal(after.subgoal, state[1]) and after.elapsed == 0
    np.testing.assert_array_equal(after.subgoal, after.graph.point(after.path[0]))


def test_every_task_has_nodes_of_its_own_and_a_seed_gives_them_again(
    small_agent: HierarchicalEBMAgent,
) -> None:
    drawn = []
    for seed in (0, 1, 0):
        equip(small_agent, fitted(small_agent, "replay", 0), seed=seed, n_subgoals=5)
        drawn += [_begin(small_agent)[1].graph.nodes.achieved_goal]
        drawn += [_begin(small_agent)[1].graph.nodes.achieved_goal]
    assert all(not np.array_equal(drawn[0], other) for other in drawn[1:4])
    np.testing.assert_array_equal(drawn[:2], drawn[4:])


def test_an_agent_keeps_its_own_settings_under_those_it_is_equipped_with(
    small_agent: HierarchicalEBMAgent,
) -> None:
    context = small_agent.high_level.context
    equip(small_agent, safe_edge=3.0, unverified_cost=1.0)
    other = small_agent.high_level.planner.context
    assert (other.safe_edge, other.edges.config.safe_edge, other.edges.verifier) == (3.0, 3.0, None)
    assert context is small_agent.high_level.context and context.transition_map is not None
    equip(small_agent)
    again = small_agent.high_level.planner.context
    assert again.safe_edge == context.safe_edge and again.transition_map is context.transition_map
