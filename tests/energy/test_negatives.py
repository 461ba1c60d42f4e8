"""Sources of negatives: where they draw from, and the energy that training against them finds."""

from __future__ import annotations

import pytest
import torch

from hierebm.energy.negatives import (
    HardNegatives,
    LangevinNegatives,
    MismatchedNegatives,
    PivotNegatives,
    ReplayNegatives,
    UniformNegatives,
)
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import ContrastiveBatch, get_objective
from tests.energy.targets import Gaussian, seeded


def test_uniform_replay_and_mismatched_negatives():
    y, x = torch.randn(8, 2, generator=seeded()), torch.randn(8, 3, generator=seeded(1))
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 5.0])
    model = EnergyMLP(2, 3, width=8, generator=seeded())
    batch = UniformNegatives(low, high, 500)(model, y, x, None, seeded(2))
    assert batch.y_neg.shape == (8, 500, 2)
    assert bool(((batch.y_neg >= low) & (batch.y_neg <= high)).all())
    assert UniformNegatives(low, high, 5)(model, y, None, None, seeded()).y_neg.shape == (1, 5, 2)
    states = torch.arange(10.0)[:, None].expand(10, 2)
    neg = ReplayNegatives(states, 300)(model, y, x, None, seeded(3)).y_neg
    assert set(neg.flatten().tolist()) == set(range(10))
    neg = MismatchedNegatives(200)(model, y, x, None, seeded(4)).y_neg
    for i in range(8):
        assert not bool((neg[i] == y[i]).all(-1).any())
        assert len({tuple(v) for v in neg[i].tolist()}) == 7
    with pytest.raises(ValueError, match="mismatched"):
        MismatchedNegatives(2)(model, y, None, None, seeded())
    with pytest.raises(ValueError, match="box is empty"):
        UniformNegatives(high, low, 3)
    with pytest.raises(ValueError, match="states is empty"):
        ReplayNegatives(states[:0], 3)
    with pytest.raises(ValueError, match="restart"):
        LangevinNegatives(5, low, high, restart=2.0)


def test_pivot_negatives_are_exchangeable_with_the_positive():
    # Under an improper flat density positive and negatives are i.i.d. given the pivot, so all
    # differences have variance 2 s^2: those to the positive and those among negatives.
    y = torch.zeros(20_000, 1)
    neg = PivotNegatives([0.5], 2)(EnergyMLP(1), y, None, None, seeded()).y_neg
    to_positive, among = (neg[:, 0] - y).var(), (neg[:, 0] - neg[:, 1]).var()
    assert float(to_positive) == pytest.approx(0.5, rel=0.05)
    assert float(among) == pytest.approx(0.5, rel=0.05)


def test_pivot_negatives_recover_a_log_density_where_plain_noise_does_not():
    """E = k y^2 / 2 on standard normal data: only the unbiased construction finds k = 1."""

    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, y, x=None, z=None):
            return 0.5 * self.k * y.square().sum(-1)

    def fit(make):
        model, gen = Quadratic(), seeded(3)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(250):
            y = torch.randn(1024, 1, generator=gen)
            loss, _ = get_objective("info_nce")(model, make(model, y, gen))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(model.k.detach())

    source = PivotNegatives([0.3, 1.0], 4)
    pivot = fit(lambda model, y, gen: source(model, y, None, None, gen))

    def centred(model, y, gen):
        noise = torch.randn(len(y), 4, 1, generator=gen)
        return ContrastiveBatch(y, y[:, None] + noise)

    assert pivot == pytest.approx(1.0, abs=0.1)
    assert abs(fit(centred) - 1.0) > 0.2


def test_hard_negatives_prefer_low_energy_and_mask_false_negatives():
    target = Gaussian(torch.zeros(1), torch.ones(1))
    base = UniformNegatives(torch.tensor([-3.0]), torch.tensor([3.0]), 400)
    y = torch.full((4, 1), 1.0)
    x = None
    hard = HardNegatives(base, 40, correct=False, semi_hard=True)(target, y, x, None, seeded())
    plain = base(target, y, x, None, seeded())
    assert float(target(hard.y_neg).mean()) < float(target(plain.y_neg).mean()) - 0.3
    assert hard.mask is not None
    assert torch.equal(hard.mask, target(hard.y_neg) > 0.5)
    corrected = HardNegatives(base, 40)(target, y, x, None, seeded())
    torch.testing.assert_close(corrected.log_q_neg, -target(corrected.y_neg))
    torch.testing.assert_close(corrected.log_q_pos, -target(y))
    with pytest.raises(ValueError, match="pool"):
        HardNegatives(base, 500)(target, y, x, None, seeded())
    with pytest.raises(ValueError, match="temperature"):
        HardNegatives(base, 5, temperature=0.0)


def test_corrected_hard_mining_keeps_the_optimum():
    """At the true density the gradient of InfoNCE with corrected hard negatives vanishes."""
    k = torch.tensor(1.0, requires_grad=True)

    class Quadratic:
        def __call__(self, y, x=None, z=None):
            return 0.5 * k * y.square().sum(-1)

    gen, y = seeded(), torch.randn(40_000, 1, generator=seeded(1))
    base = UniformNegatives(torch.tensor([-5.0]), torch.tensor([5.0]), 4096)
    grads = []
    for correct in (True, False):
        batch = HardNegatives(base, 64, correct=correct)(Quadratic(), y, None, None, gen)
        loss, _ = get_objective("info_nce")(Quadratic(), batch)
        grads.append(float(torch.autograd.grad(loss, k)[0]))
    assert abs(grads[0]) < 0.08 and abs(grads[1]) > 2 * abs(grads[0])


def test_langevin_negatives_keep_each_rows_chain_under_its_own_condition():
    low, high = torch.full((1,), -4.0), torch.full((1,), 4.0)
    x = torch.tensor([[-3.0], [3.0], [0.0]])
    target = Gaussian(torch.zeros(1), torch.tensor([0.04]))
    source = LangevinNegatives(
        3, low, high, steps=20, step_size=0.01, restart=0.0, generator=seeded()
    )
    for i in range(60):
        index = torch.tensor([0, 1]) if i % 2 else torch.tensor([1, 2])
        batch = source(target, x[index], x[index], index, seeded(i))
        assert batch.y_neg.shape == (2, 1, 1)
    torch.testing.assert_close(source.chains, x, atol=0.8, rtol=0)
    with pytest.raises(ValueError, match="index"):
        source(target, x, x, None, seeded())
    assert source(target, x, None, None, seeded()).y_neg.shape == (1, 3, 1)
