"""What a unit of length counts as, remembered cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from hierebm.planning.sequence import rates
from hierebm.planning.sequence.rates import CELL, Rates


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_cell_counts_as_its_middle_does(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(dim)
    points, costs = rng.uniform(-2, 2, (30, dim)), rng.choice([1.0, 1.5, 4.0], 30)
    settings = {"seen": 0.4, "near": 0.6, "near_rate": 12.0, "far_rate": 50.0}
    remembered = Rates(cKDTree(points), costs, **settings)
    monkeypatch.setattr(rates, "MOST_CELLS", 10)
    asked_again = Rates(cKDTree(points), costs, **settings)
    # Far outside as well.
    where = rng.uniform(-5, 5, (500, dim))
    low = points.min(0) - 0.6 - 2 * CELL
    middle = low + (np.floor((where - low) / CELL) + 0.5) * CELL
    gap = np.linalg.norm(middle[:, None] - points, axis=2)
    expected = np.where(gap.min(1) <= 0.4, costs[gap.argmin(1)], 12.0)
    expected[gap.min(1) > 0.6] = 50.0
    np.testing.assert_array_equal(asked_again.at(middle), expected)
    np.testing.assert_array_equal(remembered.at(where), expected)
    np.testing.assert_array_equal(remembered.at(where[::-1]), expected[::-1])
