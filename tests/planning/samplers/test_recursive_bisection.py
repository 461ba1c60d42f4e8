"""Recursive bisection: in even steps around a wall, the first segment first."""

from __future__ import annotations

import numpy as np

from hierebm.planning.samplers.recursive_bisection import TooLong, recursive_bisection
from hierebm.types import FloatArray
from tests.planning.world import (
    GOAL,
    START,
    WallWorld,
    make_pool,
    steps_between,
)


def _detour_energy(points: FloatArray, start: FloatArray, goal: FloatArray) -> FloatArray:
    """(k, m, 2), (k, 2), (k, 2) -> (k, m) steps over a point: the energy that there should be."""
    k, m, _ = points.shape
    a, b, w = np.repeat(start, m, 0), np.repeat(goal, m, 0), points.reshape(k * m, 2)
    d = WallWorld().distance
    return (d(a, a, w) + d(w, w, b)).reshape(k, m)


def _above(limit: float) -> TooLong:
    return lambda a, b: steps_between(a, b) > limit


def _nothing(source: FloatArray, target: FloatArray) -> FloatArray:
    """What experience knows that has seen no trajectory."""
    return np.full((len(source), len(target)), np.inf, np.float32)


def _near_steps(source: FloatArray, target: FloatArray) -> FloatArray:
    """What experience knows: the true steps, where they are few."""
    n, m = len(source), len(target)
    steps = steps_between(np.repeat(source, m, 0), np.tile(target, (n, 1))).reshape(n, m)
    return np.where(steps <= 16.0, steps, np.inf)


def test_a_bisected_way_leads_around_the_wall_in_even_steps() -> None:
    points = make_pool().achieved_goal
    direct = steps_between(START[None], GOAL[None])[0]
    lengths = []
    for seed in range(10):
        chain = recursive_bisection(
            START,
            GOAL,
            20,
            points,
            _detour_energy,
            _above(6.0),
            _nothing,
            np.random.default_rng(seed),
        )
        way = np.stack([START, *chain, GOAL])
        hops = steps_between(way[:-1], way[1:])
        assert hops.max() <= 6.0
        # Bisection makes a power of two; no more than twice as many as it takes.
        assert direct / 6.0 < len(hops) <= 2.0 * direct / 6.0 + 1.0
        assert {tuple(x) for x in chain} <= {tuple(x) for x in points}
        lengths.append(hops.sum())
    assert np.median(lengths) < 1.2 * direct


def test_experience_chooses_among_the_points_that_the_energy_proposes() -> None:
    points = make_pool().achieved_goal

    def blind(points: FloatArray, start: FloatArray, goal: FloatArray) -> FloatArray:
        """An energy that sees no wall."""
        gaps = [np.linalg.norm(points - end[:, None], axis=-1) for end in (start, goal)]
        return (gaps[0] + gaps[1]).astype(np.float32)

    lengths = {}
    for known in (_nothing, _near_steps):
        ways = [
            np.stack([
                START,
                *recursive_bisection(
                    START, GOAL, 20, points, blind, _above(4.0), known, np.random.default_rng(seed)
                ),
                GOAL,
            ])
            for seed in range(10)
        ]  # fmt: skip
        lengths[known] = np.median([steps_between(w[:-1], w[1:]).sum() for w in ways])
    direct = steps_between(START[None], GOAL[None])[0]
    assert lengths[_near_steps] < 1.2 * direct < 1.5 * direct < lengths[_nothing]


def test_segments_are_bisected_side_by_side_where_points_are_plenty() -> None:
    asked: list[int] = []

    def energy(points: FloatArray, start: FloatArray, goal: FloatArray) -> FloatArray:
        asked.append(len(start))
        return _detour_energy(points, start, goal)

    chain = recursive_bisection(
        START,
        GOAL,
        40,
        make_pool().achieved_goal,
        energy,
        _above(4.0),
        _nothing,
        np.random.default_rng(0),
    )
    assert sum(asked) == len(chain) >= 7
    assert len(asked) <= 5 and max(asked) >= 3


def test_few_points_are_enough_to_set_out() -> None:
    points = make_pool().achieved_goal
    direct = steps_between(START[None], GOAL[None])[0]
    for n in (3, 4, 6):
        lengths = []
        for seed in range(10):
            chain = recursive_bisection(
                START, GOAL, n, points, _detour_energy, _above(4.0), _nothing,
                np.random.default_rng(seed),
            )  # fmt: skip
            way = np.stack([START, *chain, GOAL])
            hops = steps_between(way[:-1], way[1:])
            assert hops[0] <= 4.0 < hops.max(), "hops first, then unexpanded segments"
            lengths.append(hops.sum())
        assert np.median(lengths) < 1.1 * direct


def test_bisection_keeps_to_its_number_and_ends_where_there_is_no_middle() -> None:
    points = make_pool().achieved_goal
    for n in (0, 1, 3):
        chain = recursive_bisection(
            START, GOAL, n, points, _detour_energy, _above(2.0), _nothing, np.random.default_rng(0)
        )
        assert chain.shape == (n, 2)
    near_the_ends = np.stack([START + 0.01, START + 0.05, GOAL - 0.05])
    chain = recursive_bisection(
        START,
        GOAL,
        9,
        near_the_ends,
        _detour_energy,
        _above(2.0),
        _nothing,
        np.random.default_rng(0),
    )
    assert chain.shape == (0, 2)
    only = np.array([[1.0, 2.0]], np.float32)
    assert (
        recursive_bisection(
            START, GOAL, 9, only, _detour_energy, _above(2.0), _nothing, np.random.default_rng(0)
        )
        == only
    ).all()
