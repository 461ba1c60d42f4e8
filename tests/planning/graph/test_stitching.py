"""Stitched triplets lie on shortest paths."""

from __future__ import annotations

import numpy as np

from hierebm.planning.graph.stitching import along_polyline, stitched_between
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


def test_along_polyline_is_uniform_in_arc_length() -> None:
    line = np.array([[0, 0], [1, 0], [1, 3]], np.float32)
    points = along_polyline(line, np.array([0.0, 0.25, 0.5, 1.0]))
    assert np.allclose(points, [[0, 0], [1, 0], [1, 1], [1, 3]])
