"""The box that samples stay in: reflection at its walls."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.bounds import inside, reflect


@settings(max_examples=50, deadline=None)
@given(st.floats(-50, 50))
def test_reflection_is_a_mirror(value):
    low, high = torch.tensor([-1.0]), torch.tensor([2.0])
    y = float(reflect(torch.tensor([value]), (low, high)))
    assert -1.0 <= y <= 2.0
    if 2.0 < value < 5.0:
        assert y == pytest.approx(4.0 - value, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    y=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2),
    low=st.floats(-2.0, 0.0, width=32),
    width=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_reflection_ends_inside_even_where_the_box_has_no_width(y, low, width):
    bounds = torch.tensor([low, -1.0]), torch.tensor([low + width, 1.0])
    folded = reflect(torch.tensor(y), bounds)
    assert bool(inside(folded, (bounds[0] - 1e-4, bounds[1] + 1e-4)))
    within = torch.tensor([low, 0.25])
    torch.testing.assert_close(reflect(within, bounds), within)
