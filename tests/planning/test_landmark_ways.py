"""Ways over landmarks: of least cost, verified where trajectories led, clear of what failed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from hierebm.planning.landmark_ways import LandmarkWays
from hierebm.types import BoolArray, FloatArray

ONES = np.ones(2, np.float32)
# A ring of eight landmarks that was gone round, and one landmark apart from it.
ANGLES = np.arange(8) * np.pi / 4
RING = np.stack([4 * np.cos(ANGLES), 4 * np.sin(ANGLES)], 1).astype(np.float32)
APART = np.array([[9.0, 0.0]], np.float32)


STEP = ONES / 4.0


def dear(source: FloatArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
    return 50.0 * np.abs(target - source).max(-1), np.zeros(len(source), np.bool_)


@pytest.fixture
def ways() -> LandmarkWays:
    steps = np.zeros((9, 9), np.float32)
    for i in range(8):
        steps[i, (i + 1) % 8] = steps[(i + 1) % 8, i] = 3.0
    return LandmarkWays(np.concatenate([RING, APART]), csr_array(steps), ONES, STEP, dear)


def test_a_way_is_the_shortest_over_what_was_gone(ways: LandmarkWays) -> None:
    way = ways.find(RING[0], RING[3], [], 1, np.random.default_rng(0))[0]
    assert way.is_verified
    np.testing.assert_array_equal(way.points, RING[:4])
    here = ways.find(RING[2], RING[2] + 0.5, [], 1, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(here.points, np.stack([RING[2], RING[2] + 0.5]))
    assert here.is_verified


def test_what_nobody_went_over_is_gone_over_once(ways: LandmarkWays) -> None:
    way = ways.find(RING[4], APART[0], [], 1, np.random.default_rng(0))[0]
    assert not way.is_verified
    lengths = np.linalg.norm(np.diff(way.points, axis=0), axis=1)
    assert len(way.points) == 6 and (lengths[:-1] < 3.5).all() and lengths[-1] == 5.0


def test_a_point_at_no_landmark_is_joined_at_a_price(ways: LandmarkWays) -> None:
    beyond = RING[2] * 1.5
    way = ways.find(beyond, RING[0], [], 1, np.random.default_rng(0))[0]
    assert not way.is_verified
    np.testing.assert_array_equal(way.points, np.stack([beyond, RING[2], RING[1], RING[0]]))


def test_a_try_that_failed_makes_the_other_way_the_shorter_one(ways: LandmarkWays) -> None:
    failed = [(RING[0], RING[1] + 0.2)]
    way = ways.find(RING[0], RING[3], failed, 1, np.random.default_rng(0))[0]
    assert way.is_verified and len(way.points) == 6


def test_what_was_missed_from_one_side_may_be_gone_over_from_another(ways: LandmarkWays) -> None:
    failed = [(RING[0], RING[1] + 0.2)]
    back = ways.find(RING[3], RING[0], failed, 1, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(back.points, RING[3::-1])
    failed = [(RING[0], RING[0])]
    gate = ways.find(RING[7], RING[2], failed, 1, np.random.default_rng(0))[0]
    assert gate.is_verified and len(gate.points) == 6, "there, whatever the direction"


def test_other_ways_are_nearly_as_short_and_drawn(ways: LandmarkWays) -> None:
    found = ways.find(RING[0], RING[4], [], 12, np.random.default_rng(0))
    sides = {float(way.points[1, 1]) > 0 for way in found}
    assert sides == {True, False} and all(way.is_verified for way in found)
    again = ways.find(RING[0], RING[4], [], 12, np.random.default_rng(0))
    assert all(np.array_equal(a.points, b.points) for a, b in zip(found, again, strict=True))


def test_hops_over_seen_ground_are_short_and_known_to_lead_there(ways: LandmarkWays) -> None:
    def seen(source: FloatArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
        length = np.linalg.norm(target - source, axis=1)
        leads = length < 6.0
        return np.where(leads, length, 50.0 * length), leads

    steps = csr_array(np.eye(9, k=1, dtype=np.float32) * 3.0)
    over = LandmarkWays(ways.points, steps, ONES, STEP, seen)
    for end, n in ((RING[2], 2), (RING[4], 3)):
        way = over.find(RING[0], end, [], 1, np.random.default_rng(0))[0]
        assert way.is_verified and len(way.points) == n


def test_from_where_a_try_failed_a_way_begins_in_another_direction(ways: LandmarkWays) -> None:
    # Beyond what was missed, against the same wall.
    failed = [(RING[0], RING[0] + 0.5 * (RING[1] - RING[0]))]
    way = ways.find(RING[0], RING[3], failed, 1, np.random.default_rng(0))[0]
    assert way.is_verified and len(way.points) == 6
