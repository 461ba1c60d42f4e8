"""Visited ground, and plans that keep to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hierebm.planning.sequence.ground import Ground
from hierebm.types import FloatArray

UNIT = np.full(2, 0.5, np.float32)


def in_block(points: FloatArray, deep: float = 0.0) -> np.ndarray:
    """The lower left quarter of the world [-2, 2]^2 is a wall, with its corner at the origin."""
    return np.asarray((points < -deep).all(-1))


@pytest.fixture(scope="module")
def corner() -> Ground:
    points = np.random.default_rng(0).uniform(-2, 2, (16_000, 2)).astype(np.float32)
    return Ground(points[~in_block(points)], UNIT)


def crosses(states: FloatArray) -> np.ndarray:
    """(T - 1,) which pieces cross the wall, its very tip aside: no state shows where that is."""
    share = np.linspace(0, 1, 200)[:, None]
    return np.array([in_block(a + share * (b - a), deep=0.06).any() for a, b in pairwise(states)])


def test_inner_states_keep_clear_of_what_was_never_visited(corner: Ground) -> None:
    inner = corner.inner
    assert len(inner) > 2000
    around = 2 * np.pi * np.arange(32) / 32
    circle = 0.12 * UNIT * np.stack([np.cos(around), np.sin(around)], axis=1)
    assert not in_block(inner[:, None] + circle.astype(np.float32)).any()
    assert np.abs(inner).max() < 2.0 - 0.35 * UNIT[0]


def test_plans_that_clip_a_corner_are_led_round_it(corner: Ground) -> None:
    rng, clipped = np.random.default_rng(1), 0
    for _ in range(30):
        a = np.array([rng.uniform(-1.6, -0.4), rng.uniform(0.35, 1.0)], np.float32)
        b = np.array([rng.uniform(0.35, 1.0), rng.uniform(-1.6, -0.4)], np.float32)
        plan = np.stack([a, b])
        led = corner.led_over(plan, insert=True)
        np.testing.assert_array_equal(led[[0, -1]], plan)
        clipped += crosses(led).any()
        assert corner.is_seen(led[:-1], led[1:]).all()
    assert clipped <= 3


def test_a_plan_through_a_door_clips_none_of_its_corners() -> None:
    points = np.random.default_rng(0).uniform(-2, 2, (16_000, 2)).astype(np.float32)
    walls = (np.abs(points[:, 0]) < 0.25) & (np.abs(points[:, 1]) > 0.25)
    ground, rng = Ground(points[~walls], 0.76 * UNIT), np.random.default_rng(1)
    for _ in range(30):
        a, b = rng.uniform((-1.6, -1.6), (-0.5, 1.6)), rng.uniform((0.5, -1.6), (1.6, 1.6))
        plan = ground.led_over(np.stack([a, [0, 0], b]).astype(np.float32), insert=True)
        share = np.linspace(0, 1, 200)[:, None]
        ways = np.concatenate([p + share * (q - p) for p, q in pairwise(plan)])
        assert not ((np.abs(ways[:, 0]) < 0.25) & (np.abs(ways[:, 1]) > 0.25)).any()
        length = np.linalg.norm(np.diff(plan, axis=0), axis=1).sum()
        straight = np.linalg.norm(a) + np.linalg.norm(b)
        assert length < 1.25 * straight


def test_only_states_off_all_ground_are_moved(corner: Ground) -> None:
    inside = np.array([[-0.4, -0.5], [-0.5, -0.4]], np.float32)
    moved = corner.moved(inside)
    assert not in_block(moved).any() and (np.abs(moved - inside) < 1.0).all()
    ground = np.array([[1.0, 1.0], [-1.0, 1.2], [2.05, 1.0]], np.float32)
    np.testing.assert_array_equal(corner.moved(ground), ground)
    far = np.array([[9.0, 9.0]], np.float32)
    np.testing.assert_array_equal(corner.moved(far), far)


def test_a_zigzag_over_open_ground_becomes_straight(corner: Ground) -> None:
    zigzag = np.array([[-1.5, 0.6], [-1, 1.4], [0, 0.6], [0.6, 1.5], [1.5, 0.6]], np.float32)
    led = corner.led_over(zigzag, insert=True)
    np.testing.assert_array_equal(led[[0, -1]], zigzag[[0, -1]])
    assert np.linalg.norm(np.diff(led, axis=0), axis=1).sum() < 1.01 * 3.0


def test_ground_that_nobody_saw_costs_more_than_a_way_round(corner: Ground) -> None:
    a, b = np.array([[-1.0, 0.5]], np.float32), np.array([[0.5, -1.0]], np.float32)
    middle = np.array([[0.5, 0.5]], np.float32)
    assert not corner.is_seen(a, b)[0]
    assert corner.is_seen(np.concatenate([a, middle]), np.concatenate([middle, b])).all()
    assert corner.costs(a, middle)[0] + corner.costs(middle, b)[0] < corner.costs(a, b)[0]


def test_where_little_was_visited_plans_stay_as_they_are() -> None:
    points = np.random.default_rng(0).uniform(-2, 2, (40, 3)).astype(np.float32)
    ground = Ground(points, np.full(3, 0.5, np.float32))
    plan = np.array([[-1, -1, 0], [1, 1, 0]], np.float32)
    assert len(ground.inner) == 0
    np.testing.assert_array_equal(ground.led_over(plan, insert=True), plan)
