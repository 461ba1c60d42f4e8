"""Farthest points and k-means++: distinct, greedy, in proportion to the squared distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.point_selection import farthest_points, kmeans_plus_plus


@settings(max_examples=60, deadline=None)
@given(m=st.integers(2, 25), seed=st.integers(0, 100), data=st.data())
def test_spread_indices_are_distinct_even_among_duplicates(m, seed, data):
    n = data.draw(st.integers(1, m))
    rng = np.random.default_rng(seed)
    points, first = rng.integers(0, 3, (m, 2)).astype(np.float32), int(rng.integers(m))
    for idx in (farthest_points(points, n, first), kmeans_plus_plus(points, n, first, rng)):
        assert len(set(idx.tolist())) == n and idx[0] == first


def test_farthest_points_are_greedy_and_begin_with_those_given():
    points = np.array([[0.0], [1.0], [4.0], [10.0]], np.float32)
    assert farthest_points(points, 4, first=0).tolist() == [0, 3, 2, 1]
    assert farthest_points(points, 3, first=[1, 3]).tolist() == [1, 3, 2]
    assert farthest_points(points, 1, first=range(3)).tolist() == [0]
    assert sorted(farthest_points(points, 5, first=2).tolist()) == [0, 1, 2, 3]
    unscaled = np.array([[0.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    assert farthest_points(unscaled, 2, first=0).tolist() == [0, 1]
    assert farthest_points(unscaled / [0.1, 10.0], 2, first=0).tolist() == [0, 2]
    with pytest.raises(ValueError, match="n=0 of 4"):
        farthest_points(points, 0, first=0)


def test_kmeans_plus_plus_draws_in_proportion_to_the_squared_distance():
    points, rng = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32), np.random.default_rng(0)
    chosen = [kmeans_plus_plus(points, 2, 0, rng)[1] for _ in range(8000)]
    seen = np.bincount(chosen, minlength=4) / 8000
    np.testing.assert_allclose(seen, np.array([0.0, 1.0, 4.0, 9.0]) / 14, atol=0.02)
