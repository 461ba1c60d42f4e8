"""Importance resampling: counts, draws without replacement, excluded candidates, bad energies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.protocol import SamplingError
from hierebm.energy.resampling import gather, importance_resample
from tests.energy.targets import seeded


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 10.0), min_size=3, max_size=12),
    n=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_systematic_resampling_counts_are_within_one_of_expectation(weights, n, seed):
    w = torch.tensor([weights], dtype=torch.float64)
    idx, ess = importance_resample(-w.log(), n, seeded(seed))
    counts = torch.bincount(idx[0], minlength=len(weights)).double()
    expected = n * w[0] / w.sum()
    assert bool(((counts - expected).abs() <= 1.0 + 1e-6).all())
    assert float(ess) == pytest.approx(float(w.sum() ** 2 / w.square().sum()), rel=1e-5)


def test_resampling_temperature_and_masking():
    energy = torch.tensor([[0.0, math.log(4.0), math.inf]])
    idx, _ = importance_resample(energy, 1000, seeded(), temperature=2.0)
    counts = torch.bincount(idx[0], minlength=3)
    assert counts[2] == 0 and abs(int(counts[1]) - 333) <= 1


def test_resampling_without_replacement_is_distinct_and_follows_the_weights():
    energy = torch.tensor([[0.0, 0.0, 3.0, math.inf]]).expand(4000, 4)
    idx, _ = importance_resample(energy, 2, seeded(), replace=False)
    assert bool((idx[:, 0] != idx[:, 1]).all()) and not bool((idx == 3).any())
    w = torch.tensor([1.0, 1.0, math.exp(-3.0)])
    first = torch.bincount(idx[:, 0], minlength=3)[:3] / 4000
    torch.testing.assert_close(first, w / w.sum(), atol=0.03, rtol=0)


def test_draws_without_replacement_follow_successive_sampling():
    """P(first i, then j) = p_i p_j / (1 - p_i), for every pair."""
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    rows = 40_000
    idx, _ = importance_resample(-p.log().expand(rows, 4), 2, seeded(), replace=False)
    seen = torch.bincount(4 * idx[:, 0] + idx[:, 1], minlength=16).view(4, 4) / rows
    expected = p[:, None] * p[None] / (1 - p[:, None])
    expected.fill_diagonal_(0.0)
    torch.testing.assert_close(seen.double(), expected, atol=0.01, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 10_000))
def test_excluded_candidates_are_never_drawn(allowed, n, seed):
    energy = torch.full((3, 9), math.inf)
    keep = torch.rand((3, 9), generator=seeded(seed)).argsort(1)[:, :allowed]
    energy.scatter_(1, keep, torch.randn((3, allowed), generator=seeded(seed)))
    for replace in (True, False):
        if not replace and n > allowed:
            with pytest.raises(ValueError, match=f"n={n} of {allowed} candidates"):
                importance_resample(energy, n, seeded(seed), replace=False)
            continue
        idx, _ = importance_resample(energy, n, seeded(seed), replace=replace)
        assert bool(torch.isfinite(energy.gather(1, idx)).all())


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_resampling_refuses_nan(bad):
    with pytest.raises(SamplingError):
        importance_resample(torch.tensor([[0.0, bad]]), 2)
    with pytest.raises(SamplingError):
        importance_resample(torch.full((1, 3), math.inf), 2)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda y: importance_resample(y[0], 2, temperature=0.0), "temperature"),
        (lambda y: importance_resample(y, 2), "energy must be"),
        (lambda y: importance_resample(y[0, :, :0], 2), "M >= 1"),
    ],
)
def test_bad_resampling_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(torch.zeros(1, 3, 2))


def test_gather_serves_shared_and_separate_candidates():
    y = torch.arange(12.0).view(2, 3, 2)
    idx = torch.tensor([[2, 0], [1, 1]])
    assert gather(y, idx)[1, 0].tolist() == y[1, 1].tolist()
    assert gather(y[:1], idx)[1, 0].tolist() == y[0, 1].tolist()
