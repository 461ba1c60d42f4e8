"""Contrastive losses: from the energies of positives and negatives to a number.

They see energies only, no network; ``objectives`` gives them, and the losses that need the network
itself, one interface by name. All share one signature,

    loss(energy_pos (B,), energy_neg (B, K), log_q_neg=None, log_q_pos=None) -> (loss, metrics)

with ``energy_neg[i]`` belonging to the same condition as ``energy_pos[i]``. A row count of one in
``energy_neg`` (1, K) means that all positives share the same negatives; an energy of +inf masks a
negative out. ``log_q_*`` are the log densities of the negatives' proposal, up to one constant per
row, in the shapes of the energies; give both or neither.

Metrics are floats: ``loss``, ``energy_pos``, ``energy_neg`` (means), ``gap`` = mean E- - mean E+,
and ``accuracy``, the share of positives with lower energy than every negative. Energies and losses
are in nats.
"""

from __future__ import annotations

import math

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

    Ma & Collins 2018 (arXiv:1809.01812), the ranking objective; van den Oord et al. 2018
    (arXiv:1807.03748), eq. 4. With the correction the optimum is -E(y | x) = log p(y | x) + c(x);
    without it, negatives drawn from q make it -E = log p(y | x) / q(y | x) + c(x), the log-ratio
    that importance resampling of candidates from q needs. The offset c(x) is free: energies of
    different conditions do not compare.

    Args:
        energy_pos: (B,) energies of the data.
        energy_neg: (B, K) or (1, K) energies of the negatives; +inf masks a negative out.
        log_q_neg: as energy_neg, log density of each negative under the proposal.
        log_q_pos: (B,) log density of each positive under the same proposal.

    Returns:
        Mean loss in nats (scalar, differentiable) and the metrics of this module.

    Raises:
        ValueError: shapes that do not match, or one log q without the other.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    loss = info_nce_rows(energy_pos, energy_neg, log_q_neg, log_q_pos).mean()
    return loss, _metrics(loss, energy_pos, energy_neg)


def info_nce_rows(
    energy_pos: Tensor,
    energy_neg: Tensor,
    log_q_neg: Tensor | None = None,
    log_q_pos: Tensor | None = None,
) -> Tensor:
    """The loss of ``info_nce`` row by row: every InfoNCE of this package comes from here.

    Written as softplus(log sum_k e^(l-_k) - l+), which is exact to rounding however small it is.

    Args:
        energy_pos: (...) energies of the data.
        energy_neg: (..., K) energies of the negatives, its leading dimensions those of
            ``energy_pos`` or broadcast to them; +inf masks a negative out.
        log_q_neg: as energy_neg, log density of each negative under the proposal.
        log_q_pos: as energy_pos, log density of each positive under the same proposal.

    Returns:
        (...) nats, differentiable.
    """
    logit_pos, logit_neg = -energy_pos, -energy_neg
    if log_q_neg is not None and log_q_pos is not None:
        logit_pos, logit_neg = logit_pos - log_q_pos, logit_neg - log_q_neg
    negatives = torch.logsumexp(logit_neg, dim=-1).expand_as(logit_pos)
    return F.softplus(negatives - logit_pos)


def binary_nce(
    energy_pos: Tensor,
    energy_neg: Tensor,
    log_q_neg: Tensor | None = None,
    log_q_pos: Tensor | None = None,
) -> Loss:
    """Noise-contrastive estimation: tell data from noise, each on its own.

        L = -log s(l+) - sum_k log(1 - s(l-_k)),   l = -E - log q - log K,   s the logistic function

    Gutmann & Hyvarinen 2012 (JMLR 13), section 2, with nu = K. Here the energy normalises itself:
    at the optimum -E = log p, with no free offset, which makes energies of different conditions
    comparable and asks more of the network. Without the correction it is -E = log p / q, as in
    ``info_nce``. Arguments, result and errors are those of ``info_nce``.
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
    Arguments, result and errors are those of ``info_nce``.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    usable = energy_neg != math.inf
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

    Du & Mordatch 2019 (arXiv:1903.08689), algorithm 1; Tieleman 2008 for the persistent chains. The
    first two terms have the likelihood's gradient where the negatives are samples of the model
    itself (short Langevin chains, kept between updates: see ``LangevinNegatives``). The chains
    count as constants: the term for how they depend on the weights (Du et al. 2021,
    arXiv:2012.01316, "KL") is left out. ``log_q_*`` are ignored. Arguments, result and errors are
    those of ``info_nce``.
    """
    _check(energy_pos, energy_neg, log_q_neg, log_q_pos)
    usable = energy_neg != math.inf
    negatives, count = torch.where(usable, energy_neg, 0.0), usable.sum().clamp(min=1)
    square = energy_pos.square().mean() + negatives.square().sum() / count
    loss = energy_pos.mean() - negatives.sum() / count + energy_penalty * square
    return loss, _metrics(loss, energy_pos, energy_neg)


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
    if log_q_neg is None or log_q_pos is None:
        return
    shared = (1, energy_neg.shape[1])
    if log_q_pos.shape != energy_pos.shape or log_q_neg.shape not in (energy_neg.shape, shared):
        raise ValueError(
            f"log_q_pos must be {tuple(energy_pos.shape)} and log_q_neg {tuple(energy_neg.shape)}, "
            f"as the energies are; got {tuple(log_q_pos.shape)} and {tuple(log_q_neg.shape)}"
        )


def _metrics(loss: Tensor, energy_pos: Tensor, energy_neg: Tensor) -> dict[str, float]:
    pos, neg = energy_pos.detach(), energy_neg.detach()
    usable = neg != math.inf  # a NaN is no mask: it has to show
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
