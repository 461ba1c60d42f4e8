"""Importance resampling: from many candidates to a few that follow exp(-E / T)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hierebm.energy.protocol import SamplingError


def importance_resample(
    energy: Tensor,
    n: int,
    generator: torch.Generator | None = None,
    *,
    temperature: float = 1.0,
    replace: bool = True,
) -> tuple[Tensor, Tensor]:
    """Resample n of M candidates with probability proportional to exp(-energy / temperature).

    With candidates drawn from q and -E = log p/q + c this draws from p as M grows
    (sampling-importance-resampling, Rubin 1987). Where -E = log p, hand in E + log q.

    Args:
        energy: (B, M) energies of the candidates; +inf excludes one.
        n: draws per row.
        generator: source of randomness, on the device of ``energy``.
        temperature: above one flattens, below one sharpens.
        replace: True draws by systematic resampling (a candidate of probability w appears n w
            times, up or down to a whole number: the least variance); False draws n different
            candidates one after the other, each from those that are left (Gumbel top-n, Kool et
            al. 2019, arXiv:1903.06059), which over-represents the tails when n is large.

    Returns:
        idx (B, n) int64, shuffled where ``replace``, else in the order of the draws; and ess (B,),
        the effective sample size (sum w)^2 / sum w^2 of the candidates, between 1 and M.

    Raises:
        SamplingError: NaN or -inf among the energies, or no finite energy in a row.
        ValueError: no candidates, a temperature that is not positive or, without replacement, more
            draws than candidates that are not excluded.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if energy.ndim != 2 or not energy.shape[1]:
        raise ValueError(f"energy must be (B, M) with M >= 1, got {tuple(energy.shape)}")
    log_w = energy.detach().double() / -temperature
    log_w = log_w - log_w.max(dim=-1, keepdim=True).values
    w = log_w.exp()
    total = w.sum(-1, keepdim=True)
    # A row with a NaN, a -inf, or nothing but +inf ends as NaN here: one test catches all.
    if not bool(torch.isfinite(total).all()):
        raise SamplingError(
            "candidate energies hold NaN or -inf, or a whole row is +inf: the energy diverged or "
            "the candidates lie outside the region it was trained on"
        )
    ess = total.squeeze(-1).square() / w.square().sum(-1)
    idx = _systematic(w, n, generator) if replace else _gumbel_top(log_w, n, generator)
    return idx, ess.to(energy.dtype)


def gather(y: Tensor, idx: Tensor) -> Tensor:
    """Rows idx (B, n) of y (B, M, d): (B, n, d). A y of (1, M, d) serves every row of idx."""
    if y.shape[0] == 1:
        return y[0][idx]
    return y.gather(1, idx[..., None].expand(*idx.shape, y.shape[-1]))


def _systematic(w: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """n equally spaced points, with one random offset, on the line made of the weights (B, M)."""
    rows, m = w.shape
    u = torch.rand((rows, 1), generator=generator, device=w.device, dtype=w.dtype)
    points = (torch.arange(n, device=w.device, dtype=w.dtype) + u) / n
    cumulative = w.cumsum(-1)
    idx = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True)
    idx = idx.clamp_(max=m - 1)
    order = torch.rand((rows, n), generator=generator, device=w.device).argsort(dim=-1)
    return idx.gather(1, order)


def _gumbel_top(log_w: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """The n largest of log w + Gumbel noise: draws without replacement, in order."""
    fewest = int((log_w > -math.inf).sum(-1).min()) if len(log_w) else n
    if n > fewest:
        raise ValueError(
            f"cannot draw n={n} of {fewest} candidates without replacement (+inf excludes one): "
            "ask for fewer, or set replace=True"
        )
    u = torch.rand(log_w.shape, generator=generator, device=log_w.device, dtype=log_w.dtype)
    gumbel = -torch.log(-torch.log(u.clamp(min=1e-300)))
    return (log_w + gumbel).topk(n, dim=-1).indices
