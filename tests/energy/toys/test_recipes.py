"""The default recipe, from data to samples."""

from __future__ import annotations

import pytest

from hierebm.energy.toys.densities import toy_density
from hierebm.energy.toys.metrics import log_density_fit, sample_metrics
from hierebm.energy.toys.recipes import draw_toy, fit_toy


@pytest.mark.slow
def test_default_recipe_reaches_the_spiral():

    density = toy_density("spiral")
    model = fit_toy(density, seed=0, steps=600).model
    metrics = sample_metrics(density, draw_toy(model, density, 2000, "auto"))
    corr, slope = log_density_fit(density, model)
    assert metrics["precision"] >= 0.98 and metrics["coverage"] == 1.0 and metrics["tv"] <= 0.11
    assert corr >= 0.95 and 0.85 <= slope <= 1.15
