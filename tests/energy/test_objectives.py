"""Objectives by name: masks, shared negatives, conditions, score matching, latent variables."""

from __future__ import annotations

import math

import pytest
import torch

from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import (
    ContrastiveBatch,
    batch_energies,
    get_objective,
    latent_info_nce,
    sample_latents,
)
from tests.energy.targets import seeded


@pytest.mark.parametrize("name", ["info_nce", "binary_nce", "margin", "contrastive_divergence"])
def test_masked_negatives_have_no_influence_and_no_nan_gradient(name):
    model = EnergyMLP(2, width=8, generator=seeded())
    y_pos, y_neg = torch.randn(3, 2, generator=seeded(1)), torch.randn(3, 4, 2, generator=seeded(2))
    mask = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    objective = get_objective(name)
    loss, _ = objective(model, ContrastiveBatch(y_pos, y_neg, mask=mask))
    loss.backward()
    grads = [p.grad.clone() for p in model.parameters()]
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    y_neg[~mask] = 100.0
    again, _ = objective(model, ContrastiveBatch(y_pos, y_neg, mask=mask))
    torch.testing.assert_close(loss, again)


def test_shared_negatives_equal_repeated_ones():
    model = EnergyMLP(2, width=8, generator=seeded())
    y_pos, y_neg = torch.randn(5, 2), torch.randn(1, 7, 2)
    for name in ("info_nce", "binary_nce", "margin", "contrastive_divergence"):
        shared, _ = get_objective(name)(model, ContrastiveBatch(y_pos, y_neg))
        each, _ = get_objective(name)(model, ContrastiveBatch(y_pos, y_neg.expand(5, 7, 2)))
        torch.testing.assert_close(shared, each)


def test_batch_energies_conditional_rows_keep_their_condition():
    model = EnergyMLP(2, 3, width=8, generator=seeded())
    y_pos, y_neg, x = torch.randn(4, 2), torch.randn(4, 5, 2), torch.randn(4, 3)
    pos, neg = batch_energies(model, ContrastiveBatch(y_pos, y_neg, x))
    torch.testing.assert_close(pos, model(y_pos, x))
    torch.testing.assert_close(neg[2, 3], model(y_neg[2, 3], x[2]))


def test_score_matching_finds_the_blurred_gaussian():
    sigma = 0.6

    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(0.2))

        def forward(self, y, x=None, z=None):
            return 0.5 * self.k * y.square().sum(-1)

    model, gen = Quadratic(), seeded(5)
    objective = get_objective("score_matching", sigma=sigma, generator=gen)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        y = torch.randn(1024, 2, generator=gen)
        loss, _ = objective(model, ContrastiveBatch(y, y[None]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(model.k.detach()) == pytest.approx(1 / (1 + sigma**2), abs=0.03)


def test_latent_objective_is_the_free_energy_of_its_formula():
    model = EnergyMLP(1, 1, 1, width=8, fourier_features=0, generator=seeded())
    y, x = torch.randn(5, 1, generator=seeded(1)), torch.randn(5, 1, generator=seeded(2))
    neg = torch.randn(5, 3, 1, generator=seeded(3))
    loss, metrics = latent_info_nce(
        model, ContrastiveBatch(y, neg, x),
        latents=4, latent_temperature=0.5, balance=0.0, generator=seeded(4),
    )  # fmt: skip
    z = sample_latents(4, 1, seeded(4), stratified=True)
    per_latent = []
    for m in range(4):
        zm = z[m].expand(5, 1)
        pos, far = model(y, x, zm), model(neg, x[:, None], zm[:, None])
        per_latent.append(-(pos + torch.logsumexp(-torch.cat([pos[:, None], far], 1), 1)))
    ell = torch.stack(per_latent, dim=1)
    expected = -0.5 * (torch.logsumexp(ell / 0.5, 1) - math.log(4)).mean()
    torch.testing.assert_close(loss, expected)
    assert 0.25 <= metrics["latent_use"] <= 1.0
    with pytest.raises(ValueError, match="z_dim"):
        latent_info_nce(EnergyMLP(1, 1), ContrastiveBatch(y, neg, x))


def test_stratified_latents_cover_the_prior():
    z = sample_latents(8, 2, seeded(), stratified=True)
    assert torch.equal(((z[:, 0] + 1) * 4).floor(), torch.arange(8.0))
    assert bool((z.abs() <= 1).all())


def test_objective_errors_name_the_remedy():
    with pytest.raises(ValueError, match="info_nce"):
        get_objective("infonce")
    with pytest.raises(ValueError, match=r"no option \['margin'\]: it knows \['energy_penalty'\]"):
        get_objective("contrastive_divergence", margin=2.0)
    with pytest.raises(ValueError, match="sigma"):
        get_objective("score_matching", sigma=0.0)(
            EnergyMLP(2), ContrastiveBatch(torch.zeros(2, 2), torch.zeros(1, 2, 2))
        )
