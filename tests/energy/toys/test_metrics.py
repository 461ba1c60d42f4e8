"""Metrics of samples and energies tell good from bad."""

from __future__ import annotations

import pytest
import torch

from hierebm.energy.toys.densities import toy_density
from hierebm.energy.toys.metrics import log_density_fit, sample_metrics
from tests.energy.targets import seeded


def test_metrics_tell_bad_samples():
    density = toy_density("spiral")
    y = density.sample(2000, seeded())
    half = y[density.bins(y) < 20]
    assert sample_metrics(density, half, reference=5000)["tv"] == pytest.approx(0.5, abs=0.05)
    assert sample_metrics(density, half, reference=5000)["coverage"] == pytest.approx(0.5)
    off = y + 0.15 * torch.randn(y.shape, generator=seeded(1))
    assert sample_metrics(density, off, reference=5000)["precision"] < 0.6
    corr, slope = log_density_fit(density, lambda v: -0.5 * density.log_prob(v) + 3.0, n=500)
    assert corr == pytest.approx(1.0, abs=1e-4) and slope == pytest.approx(0.5, abs=1e-4)
