"""Contrastive losses against their formulas and against the densities that they have to find."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.losses import (
    binary_nce,
    contrastive_divergence,
    info_nce,
    info_nce_rows,
    margin_ranking,
)
from hierebm.energy.objectives import get_objective
from tests.energy.targets import seeded


def test_info_nce_equals_cross_entropy():
    pos, neg = torch.randn(6, generator=seeded()), torch.randn(6, 4, generator=seeded(1))
    log_q_pos, log_q_neg = torch.randn(6, generator=seeded(2)), torch.randn(6, 4)
    logits = torch.cat([(-pos - log_q_pos)[:, None], -neg - log_q_neg], dim=1)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.int64))
    loss, metrics = info_nce(pos, neg, log_q_neg, log_q_pos)
    torch.testing.assert_close(loss, expected)
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)


def _fit_table(objective, proposal: torch.Tensor, correct: bool, steps: int = 1500):
    """Energies of a 5-state table fitted to p with negatives from the proposal."""
    p = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    energy = torch.zeros(5, requires_grad=True)
    optimiser = torch.optim.Adam([energy], lr=0.05)
    gen = seeded(4)
    tail = torch.zeros(5)
    for i in range(steps):
        pos = torch.multinomial(p, 256, replacement=True, generator=gen)
        neg = torch.multinomial(proposal, 256 * 4, replacement=True, generator=gen).view(256, 4)
        log_q = proposal.log()
        args = (log_q[neg], log_q[pos]) if correct else (None, None)
        loss, _ = objective(energy[pos], energy[neg], *args)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if i >= steps // 2:
            tail += energy.detach() / (steps - steps // 2)
    return p, tail


@pytest.mark.parametrize("objective", [info_nce, binary_nce])
@pytest.mark.parametrize("correct", [True, False])
def test_nce_recovers_the_density_or_the_ratio(objective, correct):
    proposal = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.3])
    p, energy = _fit_table(objective, proposal, correct, steps=600)
    target = p.log() if correct else (p / proposal).log()
    got = -energy - (-energy).mean()
    torch.testing.assert_close(got, target - target.mean(), atol=0.12, rtol=0)


def test_margin_ranking_and_contrastive_divergence_formulas():
    pos, neg = torch.tensor([0.0, 1.0]), torch.tensor([[2.0, 0.5], [1.5, 0.0]])
    loss, metrics = margin_ranking(pos, neg, margin=1.0)
    assert float(loss) == pytest.approx((0.0 + 0.5 + 0.5 + 2.0) / 4)
    assert metrics["accuracy"] == pytest.approx(0.5)
    loss, _ = contrastive_divergence(pos, neg, energy_penalty=0.5)
    assert float(loss) == pytest.approx(0.5 - 1.0 + 0.5 * (0.5 + (4 + 0.25 + 2.25) / 4))


@settings(max_examples=30, deadline=None)
@given(b=st.integers(1, 5), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_losses_equal_their_formulas_row_by_row(b, k, seed):
    """Written out with loops, every negative with its own proposal density."""
    gen = seeded(seed)
    pos, neg = (torch.randn(s, generator=gen, dtype=torch.float64) for s in ((b,), (b, k)))
    q_pos, q_neg = (torch.randn(s, generator=gen, dtype=torch.float64) for s in ((b,), (b, k)))
    nce = ranked = hinge = 0.0
    for i in range(b):
        up = math.exp(-float(pos[i]) - float(q_pos[i]))
        down = [math.exp(-float(neg[i, j]) - float(q_neg[i, j])) for j in range(k)]
        ranked -= math.log(up / (up + sum(down))) / b
        nce -= math.log(up / (up + k)) / b
        nce -= sum(math.log(k / (v + k)) for v in down) / b
        hinge += sum(max(0.0, float(pos[i] - neg[i, j]) + 0.7) for j in range(k)) / (b * k)
    assert float(info_nce(pos, neg, q_neg, q_pos)[0]) == pytest.approx(ranked)
    assert float(binary_nce(pos, neg, q_neg, q_pos)[0]) == pytest.approx(nce)
    assert float(margin_ranking(pos, neg, margin=0.7)[0]) == pytest.approx(hinge)


@pytest.mark.parametrize("name", ["info_nce", "binary_nce", "margin", "contrastive_divergence"])
def test_a_nan_among_the_negatives_is_not_taken_for_a_mask(name):
    energy = torch.tensor([[math.nan, 5.0], [2.0, 3.0]])
    loss, metrics = get_objective(name).loss(torch.zeros(2), energy)
    assert math.isnan(float(loss)) and math.isnan(metrics["energy_neg"])


def test_info_nce_without_positive_mass_outside_the_mask_is_finite():
    loss, _ = info_nce(torch.zeros(2), torch.full((2, 3), math.inf))
    assert float(loss) == 0.0


def test_energies_and_densities_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="both log_q"):
        info_nce(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="energy_neg"):
        info_nce(torch.zeros(2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"log_q_pos must be \(2,\)"):
        info_nce(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))


@pytest.mark.parametrize("shared", [False, True])
def test_rows_of_info_nce_are_those_of_the_softmax_in_any_shape(shared):
    gen = seeded(3)
    pos, q_pos = (torch.randn(5, 4, generator=gen, dtype=torch.float64) for _ in range(2))
    lead = (1, 1) if shared else (5, 4)
    neg, q_neg = (torch.randn(*lead, 7, generator=gen, dtype=torch.float64) for _ in range(2))
    neg[..., 2] = math.inf
    rows = info_nce_rows(pos, neg, q_neg, q_pos)
    logits = torch.cat([(-pos - q_pos)[..., None], (-neg - q_neg).expand(5, 4, 7)], dim=-1)
    torch.testing.assert_close(rows, -torch.log_softmax(logits, dim=-1)[..., 0])
    assert float(info_nce(pos[0], neg[0], q_neg[0], q_pos[0])[0]) == pytest.approx(
        float(rows[0].mean())
    )
    # A loss far below the rounding of one is not rounded to zero.
    tiny = info_nce_rows(torch.tensor([-40.0]), torch.zeros(1, 1))
    assert float(tiny) == pytest.approx(math.exp(-40.0), rel=1e-4)
