"""Tempered sequential Monte Carlo: from a proposal q to exp(-E / T), step by step.

Neal 2001 (annealed importance sampling); Del Moral, Doucet & Jasra 2006, with the steps chosen from
the effective sample size as in Jasra et al. 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hierebm.energy.mcmc import mala
from hierebm.energy.networks import bind
from hierebm.energy.proposals import Proposal
from hierebm.energy.protocol import EnergyModel, SamplingError
from hierebm.energy.resampling import gather, importance_resample


def anneal(
    energy: EnergyModel,
    y: Tensor,
    e: Tensor,
    log_q: Tensor,
    proposal: Proposal,
    x: Tensor | None = None,
    z: Tensor | None = None,
    *,
    temperature: float,
    step_size: Tensor,
    moves: int,
    stage_ess: float,
    max_stages: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Move a population from q to exp(-E / T) along q^(1 - b) exp(-b E / T), b from 0 to 1.

    b advances for each condition on its own, as far as ``stage_ess`` allows.

    Args:
        energy: the model.
        y: (B, M, y_dim) particles drawn from the proposal.
        e: (B, M) their energies; +inf where the target is zero.
        log_q: (B, M) their log density under the proposal, up to a constant.
        proposal: q, of known or constant density.
        x: conditions (B, 1, x_dim), or None.
        z: latents (B, 1, z_dim), or None.
        temperature: T.
        step_size: of the first MALA moves, in squared units of y; then it adapts.
        moves: MALA steps at each b.
        stage_ess: effective share of the population that each stage keeps.
        max_stages: stages after which it gives up with an error.
        generator: source of all randomness.

    Returns:
        Particles (B, M, y_dim), their energies (B, M), and the number of stages.

    Raises:
        SamplingError: an energy that is not finite, or b < 1 after ``max_stages``.
    """
    batch, m = e.shape
    beta = e.new_zeros(batch)
    step = step_size.expand(batch, 1, y.shape[-1])
    stages = 0
    while bool((beta < 1).any()):
        if stages == max_stages:
            raise SamplingError(
                f"annealing stopped at {float(beta.min()):.3f} of the way after {stages} stages: "
                "raise candidates or max_stages, or give a proposal nearer to the data"
            )
        # d log target / d beta at each particle: the weight of a step is this times its length.
        ascent = -(e / temperature) - log_q
        alive = torch.isfinite(ascent).sum(-1)
        delta = _next_step(ascent, 1.0 - beta, stage_ess * alive)
        beta = torch.where(delta >= 1.0 - beta, torch.ones_like(beta), beta + delta)
        idx, _ = importance_resample(-ascent * delta[:, None], m, generator)
        y = gather(y, idx)
        bridge = _Bridge(energy, x, z, proposal, beta[:, None], temperature)
        moved = mala(
            bridge, y,
            steps=moves, step_size=step, generator=generator, bounds=proposal.bounds, adapt=True,
        )  # fmt: skip
        y, step = moved.y, moved.step_size
        e, log_q = energy(y, x, z), proposal.log_prob_and_grad(y)[0]
        stages += 1
    return y, e, stages


class _Bridge:
    """The energy b E / T - (1 - b) log q between a proposal (b = 0) and the target (b = 1)."""

    def __init__(
        self,
        energy: EnergyModel,
        x: Tensor | None,
        z: Tensor | None,
        proposal: Proposal,
        beta: Tensor,
        temperature: float,
    ) -> None:
        self._energy_and_grad = bind(energy, x, z)
        self._proposal, self._beta, self._temperature = proposal, beta, temperature

    def __call__(self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        return self.energy_and_grad(y)[0]

    def energy_and_grad(
        self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        scale = self._beta / self._temperature
        e, grad = self._energy_and_grad(y)
        e, grad = scale * e, scale[..., None] * grad
        if self._proposal.density == "known":
            log_q, log_q_grad = self._proposal.log_prob_and_grad(y)
            e = e - (1.0 - self._beta) * log_q
            grad = grad - (1.0 - self._beta)[..., None] * log_q_grad
        return e, grad


def _next_step(ascent: Tensor, longest: Tensor, wanted: Tensor) -> Tensor:
    """The longest step (B,) of b whose weights keep an effective sample size of ``wanted`` (B,).

    Found by bisection, as the effective sample size falls while the step grows; at most
    ``longest`` (B,). ``ascent`` (B, M) is the log weight of each particle for a step of one.
    """

    def effective(delta: Tensor) -> Tensor:
        log_w = ascent.double() * delta[:, None]
        return (2 * torch.logsumexp(log_w, -1) - torch.logsumexp(2 * log_w, -1)).exp()

    low, high = torch.zeros_like(longest), longest.clone()
    done = effective(high.double()) >= wanted
    for _ in range(30):
        middle = 0.5 * (low + high)
        good = effective(middle.double()) >= wanted
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return torch.where(done, longest, low)
