"""Tempered sequential Monte Carlo: the length of a stage, and the energy between q and target."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.annealing import _Bridge, _next_step
from hierebm.energy.proposals import GaussianProposal
from tests.energy.targets import Valleys, seeded


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 100.0]), st.sampled_from([0.3, 0.5, 0.9]))
def test_a_stage_of_annealing_goes_as_far_as_its_effective_share_allows(seed, scale, share):
    ascent = scale * torch.randn(2, 50, generator=seeded(seed))
    ascent[0, :20] = -math.inf  # outside the bounds
    longest, alive = torch.tensor([1.0, 0.25]), torch.tensor([30.0, 50.0])
    step = _next_step(ascent, longest, share * alive)

    def effective(delta):
        w = torch.softmax(ascent.double() * delta.double()[:, None], dim=-1)
        return 1.0 / w.square().sum(-1)

    assert bool((effective(step) >= share * alive - 1e-3).all())
    farther = torch.minimum(1.01 * step + 1e-9, longest)
    assert bool(((effective(farther) < share * alive + 1e-3) | (farther == longest)).all())


def test_the_bridge_between_proposal_and_target_knows_its_gradient():
    proposal = GaussianProposal(torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0]))
    y = torch.randn(2, 6, 2, generator=seeded())
    beta = torch.tensor([[0.0], [0.7]])
    energy, grad = _Bridge(Valleys(), None, None, proposal, beta, 0.5).energy_and_grad(y)
    y.requires_grad_()
    log_q = torch.distributions.Normal(proposal.mean, proposal.std).log_prob(y).sum(-1)
    expected = beta * Valleys()(y) / 0.5 - (1 - beta) * log_q
    torch.testing.assert_close(
        energy - energy.mean(1, keepdim=True), expected - expected.mean(1, keepdim=True)
    )
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), y)[0])
