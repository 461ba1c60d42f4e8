"""Jumps: no edge of the transition map, and planned over by what they do on average."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.planning.graph.gates import TRY, Gates, jumps_within
from hierebm.planning.graph.transition_map import SPACING, TransitionMap
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray

STEP = np.array([0.2, 0.2], np.float32)
NEAR = 2.0 * STEP
NOWHERE = np.zeros((0, 2), np.float32)
# On a line of 60 steps, who steps beyond the left end is thrown to one of these places.
EXITS = np.array([[2.0, 0.0], [4.0, 0.0], [12.0, 0.0]], np.float32)
START, GOAL = np.array([0.6, 0.0], np.float32), np.array([11.8, 0.0], np.float32)


def line(
    seed: int, chance: FloatArray, jumps: int = 40, replay: EpisodeReplay | None = None
) -> EpisodeReplay:
    """Walks to and fro on [0, 12], and walks from 1 to the left into the teleporter."""
    rng = np.random.default_rng(seed)
    replay = replay or EpisodeReplay(20_000, 2, 2, 1, 1)

    def put(points: FloatArray) -> None:
        for index in range(len(points) - 1):
            a, b = points[index : index + 1], points[index + 1 : index + 2]
            ended = np.array([index == len(points) - 2])
            replay.add(a, a, b, np.zeros((1, 1), np.float32), b, b, np.zeros(1, bool), ended)

    there = np.stack([np.arange(0.0, 12.01, 0.2), np.zeros(61)], 1).astype(np.float32)
    put(there)
    put(there[::-1])
    for _ in range(jumps):
        exit_ = EXITS[rng.choice(3, p=chance)]
        put(np.concatenate([there[5::-1], exit_[None], exit_[None] + STEP]).astype(np.float32))
    return replay


def mapped(replay: EpisodeReplay) -> TransitionMap:
    known = TransitionMap(STEP)
    known.add(replay, replay.newest_rows(replay.capacity))
    known.search()
    return known


def test_a_jump_is_no_edge_and_everything_else_is_as_without_it() -> None:
    known = mapped(line(0, np.array([0.0, 0.0, 1.0])))
    end = np.array([[0.1, 0.0]], np.float32)
    assert np.isinf(known.steps(end, EXITS[2:])).all(), "60 steps on foot, more than are counted"
    assert known.steps(end, np.array([[2.0, 0.0]], np.float32))[0] == pytest.approx(10, abs=2.1)
    without = mapped(line(0, np.array([0.0, 0.0, 1.0]), jumps=0))
    a, b = np.random.default_rng(0).uniform(0, 12, (2, 200)).astype(np.float32)
    points = [np.stack([x, np.zeros_like(x)], 1) for x in (a, b)]
    np.testing.assert_allclose(known.steps(*points), without.steps(*points), atol=4.5)
    assert len(without.gates) == 0
    assert without.gates.route(START, GOAL, NOWHERE, NEAR) is None


@pytest.mark.parametrize(
    ("chance", "jumps"),
    [((0.05, 0.05, 0.9), True), ((0.1, 0.1, 0.8), True), ((1.0, 0.0, 0.0), False)],
)
def test_the_way_leads_over_a_gate_where_that_is_expected_to_be_shorter(
    chance: tuple[float, ...], jumps: bool
) -> None:
    gates = mapped(line(1, np.array(chance))).gates
    gate = gates.route(START, GOAL, NOWHERE, NEAR)
    assert (gate is not None) == jumps
    if gate is not None:
        assert gate.point[0] <= 0.2
        assert (gate.exit == EXITS[2]).all(), "the exit that is farthest on foot"
    # Nearer goals are walked to: 10 steps there, whatever luck may bring.
    assert gates.route(START, np.array([2.6, 0.0], np.float32), NOWHERE, NEAR) is None


@pytest.mark.parametrize("lucky", [1, 5])
def test_one_lucky_jump_among_many_is_not_worth_the_way(lucky: int) -> None:
    """From 4.4, 38 steps on foot: 22 back, and a jump that mostly leads to 2.0."""
    start = np.array([4.4, 0.0], np.float32)
    replay = line(2, np.array([1.0, 0.0, 0.0]), jumps=20)
    line(3, np.array([0.0, 0.0, 1.0]), jumps=lucky, replay=replay)
    gates = mapped(replay).gates
    assert gates.route(start, GOAL, NOWHERE, NEAR) is None
    always = mapped(line(2, np.array([0.0, 0.0, 1.0]), jumps=20)).gates
    assert always.route(start, GOAL, NOWHERE, NEAR) is not None


@pytest.mark.parametrize("chance", [0.2, 0.5, 0.8])
def test_expected_steps_are_those_of_trying_again(chance: float) -> None:
    known = mapped(line(4, np.array([1.0 - chance, 0.0, chance]), jumps=1500))
    gates, exits = known.gates, known.gates._settled[:, 2]
    seen = (exits == EXITS[2]).all(1).mean()
    on_foot = np.full(len(known.landmarks), 1e6)
    far = np.abs(known.landmarks[:, 0] * SPACING * STEP[0] - 12.0).argmin()
    on_foot[far] = 0.0
    expected = gates._expected_steps(on_foot, np.ones(len(gates), np.bool_))[0]
    # Back from the other exit, 10 steps each time, and what a try costs.
    tries = (gates._expected_tries[0] - 1.0) * TRY + 1.0
    back = known.steps(EXITS[:1], np.array([[0.0, 0.0]], np.float32))[0]
    assert expected == pytest.approx(tries + (1 - seen) / seen * (back + tries), rel=0.25)


def test_a_gate_that_fails_when_tried_is_left_alone() -> None:
    known = mapped(line(5, np.array([0.1, 0.1, 0.8])))
    assert known.gates.route(START, GOAL, NOWHERE, NEAR) is not None
    for _ in range(200):
        known.gates.add_try(np.array([0.1, 0.0], np.float32), jumped=False)
    known.search()
    assert known.gates.route(START, GOAL, NOWHERE, NEAR) is None
    for _ in range(200):
        known.gates.add_try(np.array([0.1, 0.0], np.float32), jumped=True)
    known.search()
    gate = known.gates.route(START, GOAL, NOWHERE, NEAR)
    assert gate is not None
    assert known.gates.route(START, GOAL, gate.point[None], NEAR) is None, "it failed just now"


def test_an_agent_that_has_become_fast_does_not_jump() -> None:
    replay = EpisodeReplay(1000, 2, 2, 1, 1)
    points = np.stack([np.arange(0.0, 60.0, 1.2), np.zeros(50)], 1).astype(np.float32)
    for a, b in zip(points[:-1, None], points[1:, None], strict=True):
        zero = np.zeros(1, bool)
        replay.add(a, a, b, np.zeros((1, 1), np.float32), b, b, zero, zero)
    rows = replay.newest_rows(1000)
    assert not jumps_within(replay, rows, 8, STEP).any()
    gates = Gates(STEP)
    gates.add(replay, rows)
    assert not len(gates.state_dict()["jumps"])


def test_gates_are_restored_with_the_map() -> None:
    known = mapped(line(6, np.array([0.1, 0.1, 0.8])))
    known.gates.add_try(np.array([0.1, 0.0], np.float32), jumped=False)
    known.search()
    again = TransitionMap(STEP)
    again.gates.load_state_dict(known.gates.state_dict())
    again.load_state_dict(known.state_dict())
    first, second = (x.gates.route(START, GOAL, NOWHERE, NEAR) for x in (known, again))
    assert first is not None and second is not None
    assert (first.point == second.point).all() and (first.exit == second.exit).all()


def test_what_came_after_the_last_search_counts_after_the_next_in_a_file_too() -> None:
    known = mapped(line(6, np.array([0.1, 0.1, 0.8])))
    for _ in range(20):
        known.gates.add_try(known.gates.state_dict()["jumps"][0, 0], jumped=False)
    again = TransitionMap(STEP)
    again.gates.load_state_dict(known.gates.state_dict())
    again.load_state_dict(known.state_dict())
    for expected in (True, False):
        for each in (known, again):
            assert (each.gates.route(START, GOAL, NOWHERE, NEAR) is not None) == expected
            each.search()
