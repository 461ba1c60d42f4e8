"""Stitched triplets lie on shortest paths."""

from __future__ import annotations

import numpy as np

from hierebm.planning.graph.stitching import along_polylines, stitched_between
from tests.planning.world import (
    RULES,
    WallWorld,
    make_pool,
)


def test_stitched_points_lie_on_the_way_around() -> None:
    triplets = stitched_between(make_pool(), RULES, np.random.default_rng(0), n_nodes=300)
    zeros = np.zeros((len(triplets.start), 4), np.float32)
    d = WallWorld().distance
    through = d(zeros, triplets.start, triplets.between) + d(zeros, triplets.between, triplets.goal)
    direct = d(zeros, triplets.start, triplets.goal)
    far = (direct > 8) & (direct < 29)
    assert far.sum() > 1000
    assert np.median((through / direct)[far]) < 1.1


def test_along_polylines_is_uniform_in_arc_length() -> None:
    lines = np.array([[[0, 0], [1, 0], [1, 3]], [[2, 2], [2, 2], [2, 4]]], np.float32)
    fractions = np.array([[0.0, 0.25, 0.5, 1.0], [0.0, 0.5, 0.75, 1.0]])
    points = along_polylines(lines, fractions)
    assert np.allclose(points[0], [[0, 0], [1, 0], [1, 1], [1, 3]])
    assert np.allclose(points[1], [[2, 2], [2, 3], [2, 3.5], [2, 4]])


def test_along_polylines_is_numpys_interpolation() -> None:
    rng = np.random.default_rng(0)
    lines = rng.standard_normal((20, 7, 3)).astype(np.float32)
    lines[::3, :4] = lines[::3, :1]  # shorter than the others, and one that stays where it is
    lines[0] = 1.0
    fractions = np.concatenate([rng.random((20, 30)), [[0.0, 1.0]] * 20], axis=1)
    for line, at, points in zip(lines, fractions, along_polylines(lines, fractions), strict=True):
        steps = np.linalg.norm(np.diff(line, axis=0), axis=-1)
        arc = np.concatenate([[0.0], np.cumsum(steps)])
        expected = [np.interp(at * arc[-1], arc, column) for column in line.T]
        np.testing.assert_array_equal(points, np.stack(expected, -1).astype(np.float32))
