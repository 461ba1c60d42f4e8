"""Training objectives for energies: from energies of positives and negatives to a loss.

All contrastive objectives share one signature,

    objective(energy_pos (B,), energy_neg (B, K), log_q_neg=None, log_q_pos=None) -> (loss, metrics)

with ``energy_neg[i]`` belonging to the same condition as ``energy_pos[i]``. A row count of one in
``energy_neg`` (1, K) means that all positives share the same negatives. ``log_q_*`` are the log
densities of the negatives' proposal, up to one constant per row; give both or neither. Score
matching needs the network itself and has its own functions below; ``OBJECTIVES`` brings all of them
under the one interface ``objective(model, ContrastiveBatch) -> (loss, metrics)``.

Metrics are floats: ``loss``, ``energy_pos``, ``energy_neg`` (means), ``gap`` = mean E- - mean E+,
and for classifiers ``accuracy``, the share of positives with lower energy than every negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = tuple[Tensor, dict[str, float]]


def info_nce(
    energy_pos: Tensor,
    energy_neg: Tensor,
    log_q_neg: Tensor | None = None,
    log_q_pos: Tensor | None = None,
) -> Loss:
    """Ranking noise-contrastive estimation, or InfoNCE: pick the positive out of 1 + K.

        L = -log  e^(l+) / (e^(l+) + sum_k e^(l-_k)),     l = -E - log q

    Ma & Collins 2018 (arXiv:1809.01812), eq. 5; van den Oord et al. 2018 (arXiv:1807.03748), eq. 4.
    With the correction the optimum is -E(y | x) = log p(y | x) + c(x); without it, negatives drawn
    from q make it -E = log p(y | x) / q(y | x) + c(x), the log-ratio that importance resampling of
    candidates from q needs. The offset c(x) is free: energies of different conditions do not
    compare.

    Args:
        energy_pos: (B,) energies of the data.
        energy_neg: (B, K) or (1, K) energies of the negatives; +inf masks a negative out.
        log_q_neg: as energy_neg, log density of each negative under the proposal.
        log_q_pos: (B,) log density of each positive under the same proposal.

    Returns:
        Mean loss in nats (scalar) and the metrics of this module.

    Raises:
        ValueError: shapes that do not match, or one log q without the other.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    logit_pos, logit_neg = -energy_pos, -energy_neg
    if log_q_neg is not None and log_q_pos is not None:
        logit_pos, logit_neg = logit_pos - log_q_pos, logit_neg - log_q_neg
    negatives = torch.logsumexp(logit_neg, dim=-1).expand_as(logit_pos)
    loss = F.softplus(negatives - logit_pos).mean()
    return loss, _metrics(loss, energy_pos, energy_neg)


def binary_nce(
    energy_pos: Tensor,
    energy_neg: Tensor,
    log_q_neg: Tensor | None = None,
    log_q_pos: Tensor | None = None,
) -> Loss:
    """Noise-contrastive estimation: tell data from noise, each on its own.

        L = -log s(l+) - sum_k log(1 - s(l-_k)),   l = -E - log q - log K,   s the logistic function

    Gutmann & Hyvarinen 2012 (JMLR 13), eq. 10. Here the energy normalises itself: at the optimum
    -E = log p, with no free offset, which makes energies of different conditions comparable and
    asks more of the network.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    log_k = math.log(energy_neg.shape[-1])
    logit_pos, logit_neg = -energy_pos - log_k, -energy_neg - log_k
    if log_q_neg is not None and log_q_pos is not None:
        logit_pos, logit_neg = logit_pos - log_q_pos, logit_neg - log_q_neg
    loss = F.softplus(-logit_pos).mean() + F.softplus(logit_neg).sum(-1).mean()
    return loss, _metrics(loss, energy_pos, energy_neg)


def margin_ranking(
    energy_pos: Tensor,
    energy_neg: Tensor,
    log_q_neg: Tensor | None = None,
    log_q_pos: Tensor | None = None,
    *,
    margin: float = 1.0,
) -> Loss:
    """Margin ranking: every negative at least ``margin`` above its positive.

        L = mean_k max(0, E+ - E-_k + margin)

    LeCun et al. 2006, "A tutorial on energy-based learning", eq. 11. The loss is blind to anything
    beyond the margin, so the energy ranks but is no log density; ``log_q_*`` are ignored.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    usable = torch.isfinite(energy_neg)
    hinge = F.relu(energy_pos[:, None] - energy_neg + margin)
    hinge = torch.where(usable, hinge, torch.zeros_like(hinge))
    loss = hinge.sum() / usable.expand_as(hinge).sum().clamp(min=1)
    return loss, _metrics(loss, energy_pos, energy_neg)


def contrastive_divergence(
    energy_pos: Tensor,
    energy_neg: Tensor,
    log_q_neg: Tensor | None = None,
    log_q_pos: Tensor | None = None,
    *,
    energy_penalty: float = 0.1,
) -> Loss:
    """Contrastive divergence with energy regularisation.

        L = mean E+ - mean E- + a (mean E+^2 + mean E-^2)

    Du & Mordatch 2019 (arXiv:1903.08689), sec. 3.2; Tieleman 2008 for the persistent chains. The
    negatives have to be samples of the model itself (short Langevin chains, kept between updates:
    see ``LangevinNegatives``); ``log_q_*`` are ignored.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    square = energy_pos.square().mean() + energy_neg.square().mean()
    loss = energy_pos.mean() - energy_neg.mean() + energy_penalty * square
    return loss, _metrics(loss, energy_pos, energy_neg)


# ---------------------------------------------------------------------- the one interface


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
        loss: one of the contrastive functions above, or a function (model, batch, **options).
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
    """Denoising score matching: the gradient at a noised point leads back to the data.

        L = 1/2 E | sigma dE/dy(y + sigma e) - e |^2,     e ~ N(0, I)

    Vincent 2011 ("A connection between score matching and denoising autoencoders"), eq. 11, scaled
    by sigma^2. The optimum is the energy of the data *blurred by sigma* (in units of y), and local:
    the relative weight of separated modes is not learnt. Needs second derivatives (autograd).
    """
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
    """
    x = None if batch.x is None else batch.x[:, None, None]
    z_dim = int(getattr(model, "z_dim", 0))
    if not z_dim:
        raise ValueError("latent_info_nce needs an energy with z_dim >= 1")
    z = sample_latents(latents, z_dim, generator, stratified=True).to(batch.y_pos)
    y_neg = batch.y_neg.expand(len(batch.y_pos), *batch.y_neg.shape[1:])
    together = torch.cat([batch.y_pos[:, None], y_neg], dim=1)
    energy = model(together[:, :, None], x, z)  # (B, 1 + K, M)
    logits = -energy
    if batch.log_q_neg is not None and batch.log_q_pos is not None:
        log_q_neg = batch.log_q_neg.expand(y_neg.shape[:2])
        logits = logits - torch.cat([batch.log_q_pos[:, None], log_q_neg], dim=1)[..., None]
    if batch.mask is not None:
        keep = batch.mask.expand(y_neg.shape[:2])
        first = torch.ones_like(keep[:, :1])
        logits = logits.masked_fill(~torch.cat([first, keep], dim=1)[..., None], -math.inf)
    per_latent = logits[:, 0] - torch.logsumexp(logits, dim=1)
    t = latent_temperature
    free = t * (torch.logsumexp(per_latent / t, dim=-1) - math.log(latents))
    q = torch.softmax(per_latent / t, dim=-1)
    used_share = q.mean(0)
    divergence = (used_share * (used_share * latents).clamp(min=1e-12).log()).sum()
    loss = balance * divergence - free.mean()
    pos, neg = energy[:, 0].detach(), energy[:, 1:].detach()
    # 1/M: z does not matter; 1: one z explains each positive.
    used = q.detach().square().sum(-1).mean()
    values = torch.stack([loss.detach(), pos.mean(), neg.mean(), used]).tolist()
    names = ("loss", "energy_pos", "energy_neg", "latent_use")
    return loss, dict(zip(names, values, strict=True))


def sample_latents(
    n: int, z_dim: int, generator: torch.Generator | None = None, *, stratified: bool = False
) -> Tensor:
    """n latents (n, z_dim) from the prior, uniform in [-1, 1]^z_dim; a grid in z[0] if asked."""
    u = torch.rand((n, z_dim), generator=generator)
    if stratified:
        u[:, 0] = (torch.arange(n) + u[:, 0]) / n
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
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective {name!r} is none of {sorted(OBJECTIVES)}")
    base = OBJECTIVES[name]
    return Objective(base.name, base.loss, base.contrastive, {**base.options, **options})


# ---------------------------------------------------------------------- pieces


def _check(
    energy_pos: Tensor, energy_neg: Tensor, log_q_neg: Tensor | None, log_q_pos: Tensor | None
) -> None:
    rows = energy_neg.shape[0] if energy_neg.ndim == 2 else -1
    if energy_pos.ndim != 1 or rows not in (1, len(energy_pos)) or energy_neg.shape[1] < 1:
        raise ValueError(
            "energy_pos must be (B,) and energy_neg (B, K) or (1, K) with K >= 1; "
            f"got {tuple(energy_pos.shape)} and {tuple(energy_neg.shape)}"
        )
    if (log_q_neg is None) != (log_q_pos is None):
        raise ValueError("give both log_q_neg and log_q_pos, or neither")


def _metrics(loss: Tensor, energy_pos: Tensor, energy_neg: Tensor) -> dict[str, float]:
    pos, neg = energy_pos.detach(), energy_neg.detach()
    usable = torch.isfinite(neg)
    neg_mean = torch.where(usable, neg, torch.zeros_like(neg)).sum() / usable.sum().clamp(min=1)
    correct = (pos < neg.min(dim=-1).values).float().mean()
    values = torch.stack([loss.detach(), pos.mean(), neg_mean, correct]).tolist()
    return {
        "loss": values[0],
        "energy_pos": values[1],
        "energy_neg": values[2],
        "gap": values[2] - values[1],
        "accuracy": values[3],
    }
