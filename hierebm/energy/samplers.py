"""Drawing from exp(-E / T): resampling of candidates, Langevin dynamics, MALA, descent.

Shapes: chains y are (B, N, y_dim), N chains for each of B conditions x (B, x_dim) or latents given
as (B, 1, z_dim) or (B, N, z_dim); unconditional energies take any leading shape. Every function
draws from the generator that it is given and from nothing else, and none records a graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hierebm.energy.diversity import farthest_point, gather, kmeans_plus_plus
from hierebm.energy.networks import EnergyModel, bind

__all__ = [
    "MALAResult",
    "SamplingError",
    "annealed_langevin",
    "descent",
    "farthest_point",
    "gather",
    "importance_resample",
    "kmeans_plus_plus",
    "langevin",
    "mala",
    "metropolis",
    "reflect",
]

Bounds = tuple[Tensor, Tensor]


class SamplingError(FloatingPointError):
    """An energy or its gradient is not finite while sampling."""


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
        generator: source of randomness.
        temperature: above one flattens, below one sharpens.
        replace: True draws by systematic resampling (a candidate of weight w appears n w times, up
            or down to a whole number: the least variance); False draws n different candidates
            (Gumbel top-n, Kool et al. 2019), which over-represents the tails when n is large.

    Returns:
        idx (B, n) int64 in exchangeable order, and ess (B,), the effective sample size
        (sum w)^2 / sum w^2 of the candidates, between 1 and M.

    Raises:
        SamplingError: NaN or -inf among the energies, or no finite energy in a row.
        ValueError: n > M without replacement, a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    rows, m = energy.shape
    if not replace and n > m:
        raise ValueError(f"cannot draw n={n} of {m} candidates without replacement")
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
    device = energy.device
    if replace:
        u = torch.rand((rows, 1), generator=generator, device=device, dtype=torch.float64)
        points = (torch.arange(n, device=device, dtype=torch.float64) + u) / n
        cumulative = w.cumsum(-1)
        idx = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True)
        idx = idx.clamp_(max=m - 1)
        order = torch.rand((rows, n), generator=generator, device=device).argsort(dim=-1)
        idx = idx.gather(1, order)
    else:
        u = torch.rand((rows, m), generator=generator, device=device, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(u.clamp(min=1e-300)))
        idx = (log_w + gumbel).topk(n, dim=-1).indices
    return idx, ess.to(energy.dtype)


def langevin(
    energy: EnergyModel,
    y: Tensor,
    x: Tensor | None = None,
    z: Tensor | None = None,
    *,
    steps: int,
    step_size: float | Tensor,
    temperature: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    bounds: Bounds | None = None,
    max_move: float | Tensor | None = None,
) -> Tensor:
    """Unadjusted Langevin dynamics: y <- y - h dE/dy + sqrt(2 h T) e, e ~ N(0, I).

    Welling & Teh 2011, eq. 2 without the minibatch noise. For h -> 0 the chains are distributed
    as exp(-E / T); at finite h they are biased, ``mala`` is not. temperature = 0 is descent.

    Args:
        energy: the model.
        y: (B, N, y_dim) initial chains (not modified).
        x: (B, 1, x_dim) or (B, N, x_dim) conditions, or None.
        z: latents alike, or None.
        steps: number of updates.
        step_size: h, in units of y squared; a tensor broadcasts against y (for example (y_dim,)).
        temperature: T; a tensor broadcasts against y.
        generator: source of the noise.
        bounds: (low, high), each broadcastable to y: chains are reflected into the box.
        max_move: largest drift h |dE/dy| per coordinate and step; None for no limit.

    Returns:
        The chains after the last step, (B, N, y_dim).

    Raises:
        SamplingError: a chain is not finite at the end.
    """
    bound = bind(energy, x, z)
    noise_scale = (2.0 * torch.as_tensor(step_size) * torch.as_tensor(temperature)).sqrt().to(y)
    noisy = bool((noise_scale > 0).any())
    y = y.detach().clone()
    for _ in range(steps):
        _, grad = bound(y)
        drift = grad.mul_(step_size)
        if max_move is not None:
            limit = torch.as_tensor(max_move, dtype=y.dtype, device=y.device)
            drift = drift.clamp(min=-limit, max=limit)
        y = y - drift
        if noisy:
            y += noise_scale * _randn_like(y, generator)
        if bounds is not None:
            y = reflect(y, bounds)
    if not bool(torch.isfinite(y).all()):
        raise SamplingError(
            f"Langevin chains left the finite numbers within {steps} steps: reduce step_size "
            f"(now {step_size}), set max_move, or give bounds"
        )
    return y


def descent(
    energy: EnergyModel,
    y: Tensor,
    x: Tensor | None = None,
    z: Tensor | None = None,
    *,
    steps: int,
    step_size: float | Tensor,
    bounds: Bounds | None = None,
    max_move: float | Tensor | None = None,
) -> Tensor:
    """Plain gradient descent stopped after ``steps``: the original experiment's sampler.

    It draws from no distribution: run to the end it collects in the minima whatever the energy is.
    """
    return langevin(
        energy, y, x, z,
        steps=steps, step_size=step_size, temperature=0.0, bounds=bounds, max_move=max_move,
    )  # fmt: skip


def annealed_langevin(
    energy: EnergyModel,
    y: Tensor,
    x: Tensor | None = None,
    z: Tensor | None = None,
    *,
    steps: int,
    step_size: float | Tensor,
    start_temperature: float = 10.0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    bounds: Bounds | None = None,
    max_move: float | Tensor | None = None,
) -> Tensor:
    """Langevin dynamics whose temperature falls geometrically from start_temperature to the end's.

    The last quarter of the steps runs at the final temperature. Barriers are crossed while hot;
    the masses of separate modes are those that the cooling left, not those of exp(-E).
    """
    cooling = max(1, steps - steps // 4)
    for i in range(steps):
        part = min(1.0, i / cooling)
        t = start_temperature ** (1.0 - part) * temperature**part
        y = langevin(
            energy, y, x, z, steps=1, step_size=step_size, temperature=t,
            generator=generator, bounds=bounds, max_move=max_move,
        )  # fmt: skip
    return y


@dataclass
class MALAResult:
    """Chains (B, N, y_dim), their energies (B, N), mean acceptance and the step size at the end."""

    y: Tensor
    energy: Tensor
    acceptance: float
    step_size: Tensor


def mala(
    energy: EnergyModel,
    y: Tensor,
    x: Tensor | None = None,
    z: Tensor | None = None,
    *,
    steps: int,
    step_size: float | Tensor,
    temperature: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    bounds: Bounds | None = None,
    adapt: bool = False,
    target_acceptance: float = 0.574,
) -> MALAResult:
    """Metropolis-adjusted Langevin: Langevin proposals, accepted so that exp(-E / T) is exact.

    Roberts & Tweedie 1996; the target acceptance is that of Roberts & Rosenthal 1998. Proposals
    outside ``bounds`` or of NaN energy are rejected, so chains never leave the finite region.

    Args:
        energy: the model.
        y: (B, N, y_dim) initial chains.
        x: conditions as for ``langevin``.
        z: latents as for ``langevin``.
        steps: number of proposals.
        step_size: h; a tensor broadcasts against y.
        temperature: T; a tensor broadcasts against y with last dimension one.
        generator: source of randomness.
        bounds: (low, high): zero probability outside.
        adapt: move h towards the target acceptance, one h per condition (the leading dimensions
            of y but its last two). The adaptation gain falls as 1/sqrt(step): use it to warm up.
        target_acceptance: for ``adapt``.

    Returns:
        A MALAResult.
    """
    t = torch.as_tensor(temperature, dtype=y.dtype, device=y.device)
    h = torch.as_tensor(step_size, dtype=y.dtype, device=y.device)
    if adapt:
        h = h.expand(*y.shape[:-2], 1, y.shape[-1]).clone()
    y = y.detach().clone()
    bound = bind(energy, x, z)
    e, grad = bound(y)
    e, grad = e / _squeeze(t), grad / t
    accepted = 0.0
    for i in range(steps):
        # In units of T: target exp(-e), proposal N(y - s grad, 2 s) with s = h T.
        s = h * t
        proposal = y - s * grad + (2.0 * s).sqrt() * _randn_like(y, generator)
        e_new, grad_new = bound(proposal)
        e_new, grad_new = e_new / _squeeze(t), grad_new / t
        forward = (proposal - y + s * grad).square() / (4.0 * s)
        backward = (y - proposal + s * grad_new).square() / (4.0 * s)
        log_ratio = e - e_new + (forward - backward).sum(-1)
        log_ratio = torch.nan_to_num(log_ratio, nan=-math.inf)
        if bounds is not None:
            inside = ((proposal >= bounds[0]) & (proposal <= bounds[1])).all(-1)
            log_ratio = log_ratio.masked_fill(~inside, -math.inf)
        u = torch.rand(log_ratio.shape, generator=generator, device=y.device, dtype=y.dtype)
        accept = u.log() < log_ratio
        y = torch.where(accept[..., None], proposal, y)
        grad = torch.where(accept[..., None], grad_new, grad)
        e = torch.where(accept, e_new, e)
        accepted += float(accept.float().mean())
        if adapt:
            rate = log_ratio.clamp(max=0.0).exp().mean(-1)[..., None, None]
            h = h * ((rate - target_acceptance) * (2.0 / math.sqrt(i + 1.0))).exp()
    return MALAResult(y, e * _squeeze(t), accepted / max(1, steps), h)


def metropolis(
    energy: EnergyModel,
    y: Tensor,
    e: Tensor,
    x: Tensor | None = None,
    z: Tensor | None = None,
    *,
    steps: int,
    step_size: float | Tensor,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    bounds: Bounds | None = None,
) -> tuple[Tensor, Tensor]:
    """Random-walk Metropolis (Metropolis et al. 1953): y + sqrt(2 h) e, e ~ N(0, I), or y again.

    Leaves exp(-E / T) exactly as it is and needs no gradient: for a few steps in a few dimensions
    from where the energies are known already, it costs a quarter of ``mala``.

    Args:
        energy: the model.
        y: (B, N, y_dim) chains (not modified).
        e: (B, N) their energies.
        x: conditions as for ``langevin``.
        z: latents as for ``langevin``.
        steps: number of proposals.
        step_size: h; a tensor broadcasts against y.
        temperature: T.
        generator: source of randomness.
        bounds: (low, high): zero probability outside.

    Returns:
        The chains and their energies.
    """
    width = (2.0 * torch.as_tensor(step_size, dtype=y.dtype, device=y.device)).sqrt()
    for _ in range(steps):
        proposal = y + width * _randn_like(y, generator)
        e_new = energy(proposal, x, z)
        # exp(-exponential) is uniform: the usual test u < exp((e - e_new) / T) without a logarithm.
        slack = torch.empty_like(e).exponential_(generator=generator)
        accept = e_new < e + temperature * slack
        if bounds is not None:
            accept &= ((proposal >= bounds[0]) & (proposal <= bounds[1])).all(-1)
        y = torch.where(accept[..., None], proposal, y)
        e = torch.where(accept, e_new, e)
    return y, e


def reflect(y: Tensor, bounds: Bounds) -> Tensor:
    """Fold y back into the box as if its walls were mirrors (any number of times)."""
    low, high = bounds
    span = high - low
    folded = torch.remainder(y - low, 2.0 * span)
    return low + torch.minimum(folded, 2.0 * span - folded)


def _randn_like(y: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)


def _squeeze(t: Tensor) -> Tensor:
    return t.squeeze(-1) if t.ndim else t
