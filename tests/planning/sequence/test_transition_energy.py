"""The transition energy: its gradients, its negatives, its objectives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.planning.sequence.folded import FoldedEnergy
from hierebm.planning.sequence.transition_energy import (
    NegativeProposal,
    TransitionEnergy,
    info_nce_transitions,
    squared_energy_loss,
)
from tests.planning.sequence.random_walk import seeded


@settings(max_examples=25, deadline=None)
@given(
    dim=st.integers(1, 5),
    depth=st.integers(1, 3),
    parabola=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_gradients_by_hand_equal_autograd(dim: int, depth: int, parabola: float, seed: int) -> None:
    g = seeded(seed)
    net = TransitionEnergy(dim, width=16, depth=depth, n_features=6, parabola=parabola, generator=g)
    net = net.double()
    net.set_normalisation(torch.randn(50, 2, dim, generator=g).double() * 3 + 1)
    s, s_next = torch.randn(2, 9, dim, generator=g).double().requires_grad_().unbind(0)
    expected = net(s, s_next)
    grads = torch.autograd.grad(expected.sum(), (s, s_next))
    folded = FoldedEnergy(net)
    pairs = torch.cat([s / net.step_scale, s_next / net.step_scale], 1).detach().numpy()
    energy, ours = folded.energy_and_grad(pairs)
    np.testing.assert_allclose(energy, expected.detach())
    np.testing.assert_allclose(folded.energy(pairs), expected.detach())
    by_autograd = torch.cat([grad * net.step_scale for grad in grads], 1)
    np.testing.assert_allclose(ours, by_autograd, atol=1e-12)


def test_a_state_that_never_moves_does_not_break_the_units() -> None:
    net = TransitionEnergy(3, generator=seeded())
    pairs = torch.randn(64, 2, 3, generator=seeded())
    pairs[..., 2] = 5.0
    net.set_normalisation(pairs)
    assert torch.isfinite(net(pairs[:, 0], pairs[:, 1])).all()
    net.set_normalisation(torch.zeros(8, 2, 3))
    assert torch.isfinite(net(pairs[:, 0], pairs[:, 1])).all()


def test_the_proposal_density_integrates_to_one_and_matches_its_samples() -> None:
    proposal = NegativeProposal((0.5, 2.0), global_share=0.25)
    states, unit = torch.tensor([[-3.0], [4.0]]), torch.tensor([0.5])
    s = torch.tensor([[1.0]])
    grid = torch.linspace(-12, 14, 20001).unsqueeze(-1)
    density = proposal.log_prob(s, grid, unit, states).exp()
    # The density is per unit of a typical transition, which is half as long as the axis' unit.
    assert float(torch.trapezoid(density, grid[:, 0]) / unit) == pytest.approx(1.0, abs=2e-3)
    drawn = proposal.sample(s.expand(4000, 1), 8, unit, states, seeded()).flatten()
    for low, high in ((-3.0, 0.0), (0.5, 1.5), (2.0, 4.0)):
        inside = (grid[:, 0] >= low) & (grid[:, 0] <= high)
        mass = float(torch.trapezoid(density[inside], grid[inside, 0]) / unit)
        share = float(((drawn >= low) & (drawn <= high)).float().mean())
        assert share == pytest.approx(mass, abs=0.015)


def test_the_objectives_prefer_low_energy_for_transitions() -> None:
    low, high = torch.full((4,), -0.3), torch.full((4, 6), 0.3)
    flat_p, flat_n = torch.zeros(4), torch.zeros(4, 6)
    right = info_nce_transitions(low, high, flat_p, flat_n, 0.0)[0]
    wrong = info_nce_transitions(-low, -high, flat_p, flat_n, 0.0)[0]
    assert right < math.log(7) < wrong
    assert squared_energy_loss(low, high) < 0 < squared_energy_loss(-low, -high)
    # A constant added to all energies only moves the normaliser.
    loss, log_z = info_nce_transitions(low + 2, high + 2, flat_p, flat_n, 0.0)
    assert float(loss) == pytest.approx(float(right), abs=1e-5)
    before = info_nce_transitions(low, high, flat_p, flat_n, 0.0)[1]
    torch.testing.assert_close(log_z, before - 2)
