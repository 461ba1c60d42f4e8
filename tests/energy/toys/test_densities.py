"""Toy densities of the plane: they integrate to one and match their samples and cells."""

from __future__ import annotations

import pytest
import torch

from hierebm.energy.toys.densities import toy_density
from hierebm.energy.toys.metrics import sample_metrics
from tests.energy.targets import seeded

NAMES = ("spiral", "parabolas", "checkerboard", "pinwheel")


@pytest.mark.parametrize("name", NAMES)
def test_densities_integrate_to_one_and_match_their_samples(name):
    density = toy_density(name)
    axis = torch.linspace(-1.4, 1.4, 201)
    cell = (2.8 / 200) ** 2
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    p = density.log_prob(grid).exp()
    assert float(p.sum() * cell) == pytest.approx(1.0, abs=0.01)
    # The entropy by quadrature is the mean of -log p over samples.
    entropy = float(-(p * p.clamp(min=1e-30).log()).sum() * cell)
    y = density.sample(10_000, seeded())
    assert float(-density.log_prob(y).mean()) == pytest.approx(entropy, abs=0.03)
    assert bool(((y >= density.low) & (y <= density.high)).all())


@pytest.mark.parametrize("name", NAMES)
def test_bins_are_equally_likely_and_real_data_scores_well(name):
    density = toy_density(name)
    y = density.sample(4000, seeded(1))
    counts = torch.bincount(density.bins(y), minlength=density.n_bins)
    assert len(counts) == density.n_bins
    assert float(counts.min()) > 0.5 * 4000 / density.n_bins
    metrics = sample_metrics(density, y, reference=20_000)
    assert metrics["precision"] > 0.99 and metrics["tv"] < 0.07 and metrics["coverage"] == 1.0
