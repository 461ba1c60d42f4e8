"""Training objectives by name: ``objective(model, ContrastiveBatch) -> (loss, metrics)``.

An objective is a loss with the forward pass that it needs. Those of ``losses`` need the energies of
positives and negatives, computed here in one pass; score matching and latent variables need the
network itself and are defined here. ``OBJECTIVES`` lists all of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hierebm.energy.losses import (
    Loss,
    binary_nce,
    contrastive_divergence,
    info_nce,
    info_nce_rows,
    margin_ranking,
)


@dataclass
class ContrastiveBatch:
    """Positives with their negatives, as the negatives' source hands them to an objective.

    Attributes:
        y_pos: (B, y_dim) data.
        y_neg: (B, K, y_dim), or (1, K, y_dim) when all positives share them (no condition only).
        x: (B, x_dim) conditions, or None.
        log_q_neg: (B, K) or (1, K) proposal log densities, or None.
        log_q_pos: (B,), or None.
        mask: (B, K) or (1, K) bool, False for negatives that must not count; None for all count.
    """

    y_pos: Tensor
    y_neg: Tensor
    x: Tensor | None = None
    log_q_neg: Tensor | None = None
    log_q_pos: Tensor | None = None
    mask: Tensor | None = None


@dataclass
class Objective:
    """An objective by name: ``objective(model, batch) -> (loss, metrics)``.

    Attributes:
        name: for error messages and tables.
        loss: one of the functions of ``losses``, or a function (model, batch, **options).
        contrastive: whether ``loss`` takes energies (True) or the model and the batch (False).
        options: keyword arguments handed to ``loss``.
    """

    name: str
    loss: Callable[..., Loss]
    contrastive: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, model: Callable[..., Tensor], batch: ContrastiveBatch) -> Loss:
        """Loss (scalar, differentiable in the model's parameters) and metrics."""
        if not self.contrastive:
            return self.loss(model, batch, **self.options)
        energy_pos, energy_neg = batch_energies(model, batch)
        return self.loss(energy_pos, energy_neg, batch.log_q_neg, batch.log_q_pos, **self.options)


def batch_energies(model: Callable[..., Tensor], batch: ContrastiveBatch) -> tuple[Tensor, Tensor]:
    """Energies (B,) of the positives and (B, K) or (1, K) of the negatives, in one forward pass.

    Masked negatives get +inf.
    """
    if batch.x is None:
        rows = torch.cat([batch.y_pos, batch.y_neg.flatten(0, 1)])
        energy = model(rows)
        energy_pos = energy[: len(batch.y_pos)]
        energy_neg = energy[len(batch.y_pos) :].view(batch.y_neg.shape[:2])
    else:
        together = torch.cat([batch.y_pos[:, None], batch.y_neg], dim=1)
        energy = model(together, batch.x[:, None])
        energy_pos, energy_neg = energy[:, 0], energy[:, 1:]
    if batch.mask is not None:
        energy_neg = energy_neg.masked_fill(~batch.mask, math.inf)
    return energy_pos, energy_neg


def denoising_score_matching(
    model: Callable[..., Tensor],
    batch: ContrastiveBatch,
    *,
    sigma: float = 0.05,
    generator: torch.Generator | None = None,
) -> Loss:
    """Denoising score matching: the gradient at a noised point points back to the data.

        L = 1/2 E | sigma dE/dy(y + sigma e) - e |^2,     e ~ N(0, I)

    Vincent 2011 ("A connection between score matching and denoising autoencoders"), scaled by
    sigma^2. The optimum is the energy of the data *blurred by sigma*, and local: the relative
    weight of separated modes is not learned. Needs second derivatives (autograd).

    Args:
        model: the energy.
        batch: positives; their negatives are not used.
        sigma: standard deviation of the noise, in units of y.
        generator: source of the noise, on the device of the batch.

    Returns:
        Mean loss (scalar, differentiable) and metrics: ``loss`` and ``energy_pos`` (mean).

    Raises:
        ValueError: sigma <= 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    y = batch.y_pos
    noise = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
    noised = (y + sigma * noise).requires_grad_(True)
    energy = model(noised, batch.x)
    (grad,) = torch.autograd.grad(energy.sum(), noised, create_graph=True)
    loss = 0.5 * (sigma * grad - noise).square().sum(-1).mean()
    metrics = {"loss": float(loss.detach()), "energy_pos": float(energy.detach().mean())}
    return loss, metrics


def latent_info_nce(
    model: Callable[..., Tensor],
    batch: ContrastiveBatch,
    *,
    latents: int = 8,
    latent_temperature: float = 0.3,
    balance: float = 3.0,
    generator: torch.Generator | None = None,
) -> Loss:
    """InfoNCE of a latent-variable energy F(x, y, z), regularised so that z is used.

        L = -t log 1/M sum_m exp(l_m / t) + b KL(mean over the batch of q(z) || prior)
        l_m = log InfoNCE probability of the positive under z_m,    q(z_m) ~ exp(l_m / t)

    with z_m drawn from the prior, uniform in [-1, 1]^z_dim, stratified in the first coordinate and
    common to the batch. The first term is the closed form of max_q E_q[l(z)] - t KL(q || prior). At
    t = 1 it is the likelihood of the mixture over z, which a network that ignores z maximises just
    as well (posterior collapse); for t -> 0 it is the free energy min_z of LeCun's energy-based
    latent variable models. In between, each bit that z tells about y gains 1 - t of a bit (the beta
    of Higgins et al. 2017, here below one). The second term divides the prior's mass between the
    modes as the data is divided.

    Evaluates the network M (1 + K) times a row.

    Args:
        model: energy with ``z_dim`` >= 1.
        batch: positives with their negatives.
        latents: M, number of latents drawn for the batch.
        latent_temperature: t, in nats.
        balance: b, weight of the divergence.
        generator: source of the latents.

    Returns:
        Loss (scalar, differentiable) and metrics: ``loss``, ``energy_pos``, ``energy_neg`` (means)
        and ``latent_use``, from 1/M (z does not matter) to 1 (one z explains each positive).

    Raises:
        ValueError: a model without latent, or a number out of range.
    """
    z_dim = int(getattr(model, "z_dim", 0))
    if not z_dim:
        raise ValueError("latent_info_nce needs an energy with z_dim >= 1")
    if latents < 1 or not latent_temperature > 0:
        raise ValueError(
            "latents must be at least 1 and latent_temperature positive, got "
            f"{latents} and {latent_temperature}"
        )
    x = None if batch.x is None else batch.x[:, None, None]
    z = sample_latents(latents, z_dim, generator, stratified=True).to(batch.y_pos)
    y_neg = batch.y_neg.expand(len(batch.y_pos), *batch.y_neg.shape[1:])
    together = torch.cat([batch.y_pos[:, None], y_neg], dim=1)
    energy = model(together[:, :, None], x, z)  # (B, 1 + K, M)
    energy_pos, energy_neg = energy[:, 0], energy[:, 1:].transpose(1, 2)  # (B, M), (B, M, K)
    if batch.mask is not None:
        energy_neg = energy_neg.masked_fill(~batch.mask[:, None], math.inf)
    log_q_neg = None if batch.log_q_neg is None else batch.log_q_neg[:, None]
    log_q_pos = None if batch.log_q_pos is None else batch.log_q_pos[:, None]
    per_latent = -info_nce_rows(energy_pos, energy_neg, log_q_neg, log_q_pos)
    t = latent_temperature
    free = t * (torch.logsumexp(per_latent / t, dim=-1) - math.log(latents))
    q = torch.softmax(per_latent / t, dim=-1)
    used_share = q.mean(0)
    divergence = (used_share * (used_share * latents).clamp(min=1e-12).log()).sum()
    loss = balance * divergence - free.mean()
    pos, neg = energy[:, 0].detach(), energy[:, 1:].detach()
    used = q.detach().square().sum(-1).mean()
    values = torch.stack([loss.detach(), pos.mean(), neg.mean(), used]).tolist()
    names = ("loss", "energy_pos", "energy_neg", "latent_use")
    return loss, dict(zip(names, values, strict=True))


def sample_latents(
    n: int, z_dim: int, generator: torch.Generator | None = None, *, stratified: bool = False
) -> Tensor:
    """n latents (n, z_dim) from the prior, uniform in [-1, 1]^z_dim; a grid in z[:, 0] if asked.

    They are on the device of the generator, which may not be that of the network.
    """
    device = None if generator is None else generator.device
    u = torch.rand((n, z_dim), generator=generator, device=device)
    if stratified:
        u[:, 0] = (torch.arange(n, device=device) + u[:, 0]) / n
    return 2.0 * u - 1.0


OBJECTIVES: dict[str, Objective] = {
    "info_nce": Objective("info_nce", info_nce),
    "binary_nce": Objective("binary_nce", binary_nce),
    "margin": Objective("margin", margin_ranking),
    "contrastive_divergence": Objective("contrastive_divergence", contrastive_divergence),
    "latent_info_nce": Objective("latent_info_nce", latent_info_nce, contrastive=False),
    "score_matching": Objective("score_matching", denoising_score_matching, contrastive=False),
}


def get_objective(name: str, **options: Any) -> Objective:
    """The objective of that name with its keyword options.

    Raises:
        ValueError: an unknown name or option; the message lists the known ones.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective {name!r} is none of {sorted(OBJECTIVES)}")
    base = OBJECTIVES[name]
    parameters = inspect.signature(base.loss).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(f"objective {name!r} has no option {unknown}: it knows {known}")
    return Objective(base.name, base.loss, base.contrastive, {**base.options, **options})
