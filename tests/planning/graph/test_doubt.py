"""Doubt: tries that are missed again and again close a way, and a trajectory opens it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hierebm.planning.graph.doubt import CLOSED, leads_past
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.replay import EpisodeReplay

STEP = np.array([0.2, 0.2], np.float32)
WEST, EAST = np.array([1.2, 2.0], np.float32), np.array([2.8, 2.0], np.float32)
MIDDLE = np.array([2.0, 2.0], np.float32)


def _there_and_back(replay: EpisodeReplay, *heights: float) -> None:
    """Trajectories between x = 0 and x = 4 at these heights, one step at a time."""
    x = 2.0 - 2.0 * np.cos(np.linspace(0.0, 2.0 * np.pi, 81)).astype(np.float32)
    for height in heights:
        points = np.stack([x, np.full_like(x, height)], 1)
        for t, (at, to) in enumerate(pairwise(points)):
            ended = np.array([t + 2 == len(points)])
            at, to, action = at[None], to[None], np.zeros((1, 1), np.float32)
            replay.add(at, at, to, action, to, to, np.zeros(1, np.bool_), ended)


def _known(*heights: float) -> tuple[TransitionMap, EpisodeReplay]:
    replay, world = EpisodeReplay(2000, 2, 2, 1, 1), TransitionMap(STEP)
    _there_and_back(replay, *heights)
    world.add(replay, replay.newest_rows(replay.capacity))
    world.search()
    return world, replay


def test_what_leads_past_a_point() -> None:
    here, there = np.zeros(2, np.float32), np.array([5.0, 0.0], np.float32)
    source = np.array([[0, 0], [-2, 0.5], [0, 0], [2, 0], [0, 2], [2, 0]], np.float32)
    end = np.array([[2, 0], [2, 0.5], [0.9, 0], [3, 0], [2, 2], [0, 0]], np.float32)
    expected = [True, True, False, False, False, False]
    np.testing.assert_array_equal(leads_past(here, there, source, end), expected)


def test_missed_tries_close_the_way_in_their_direction_alone() -> None:
    world, _ = _known(2.0)
    assert world.may_lead(WEST, EAST) and world.may_lead(EAST, WEST)
    world.doubt(MIDDLE, EAST, CLOSED - 0.1)
    world.search()
    assert world.may_lead(WEST, EAST), "not surprising enough yet"
    world.doubt(MIDDLE, EAST, 0.2)
    assert world.may_lead(WEST, EAST), "until the next search"
    world.search()
    assert not world.may_lead(WEST, EAST) and world.may_lead(EAST, WEST)
    known = world.verify(WEST[None], EAST[None], np.full(1, 9.0, np.float32))[1]
    assert not known[0] and world.may_lead(WEST, MIDDLE)
    found = world.frontier(WEST, 8.0, np.random.default_rng(0))
    assert found is not None and found[0][:, 0].max() < 2.5


def test_a_way_beside_it_stays_open() -> None:
    world, _ = _known(2.0, 2.3, 2.6, 2.9, 3.2)
    for _ in range(3):
        world.doubt(MIDDLE, EAST, CLOSED)
    world.search()
    assert world.may_lead(WEST, EAST), "a little higher"


def test_a_trajectory_opens_it_again_and_doubt_is_saved() -> None:
    world, replay = _known(2.0)
    world.doubt(MIDDLE, EAST, CLOSED - 0.1)
    other = TransitionMap(STEP)
    other.load_state_dict(world.state_dict())
    for each in (world, other):
        each.doubt(MIDDLE, EAST, 0.2)
        each.search()
        assert not each.may_lead(WEST, EAST)
    old = {k: v for k, v in world.state_dict().items() if "doubt" not in k}
    older = TransitionMap(STEP)
    older.load_state_dict(old)
    assert older.may_lead(WEST, EAST), "older files tell of no doubt"
    _there_and_back(replay, 2.0)
    other.add(replay, replay.newest_rows(80), 80)
    other.search()
    assert other.may_lead(WEST, EAST)


def test_a_miss_is_as_surprising_as_misses_are_rare() -> None:
    cutoff = EdgeCutoff(8.0)
    assert cutoff.surprise == 0.0, "nothing is known of the low level yet"
    surprises = []
    for reached in (True, True, False):
        for _ in range(100):
            cutoff.add(4.0, reached)
        surprises.append(cutoff.surprise)
    assert surprises[2] < surprises[0] < surprises[1]
    np.testing.assert_allclose(surprises[2], np.log(308 / 108), rtol=1e-6)
