"""Markov chains that draw from exp(-E / T): Langevin dynamics, MALA, Metropolis; and descent.

Shapes: chains y are (B, N, y_dim), N chains for each of B conditions x (B, 1, x_dim) or latents
given as (B, 1, z_dim) or (B, N, z_dim); unconditional energies take any leading shape. Every
function draws from the generator that it is given (on the device of y) and from nothing else, and
none records a graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hierebm.energy.bounds import Bounds, inside, reflect
from hierebm.energy.networks import bind
from hierebm.energy.protocol import EnergyModel, SamplingError


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

    Roberts & Tweedie 1996; Welling & Teh 2011 with whole gradients. For h -> 0 the chains are
    distributed as exp(-E / T); at finite h they are biased, ``mala`` is not. temperature = 0 is
    descent.

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
        ValueError: a negative step size or temperature.
    """
    noise = [_noise_scale(y, step_size, temperature)] * steps
    return _langevin(energy, y, x, z, step_size, noise, generator, bounds, max_move)


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
    """Plain gradient descent, stopped after ``steps``; arguments and result as for ``langevin``.

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
    """Langevin dynamics whose temperature falls geometrically from start to end.

    From ``start_temperature`` to ``temperature``, at which the last quarter of the steps runs.
    Barriers are crossed at high temperature; how many chains end in each mode depends on the
    cooling, so their shares are not those of exp(-E). Arguments
    and result are those of ``langevin``; both temperatures must be positive.
    """
    if not (start_temperature > 0 and temperature > 0):
        raise ValueError(
            "start_temperature and temperature must be positive, got "
            f"{start_temperature} and {temperature}; descent() is the limit of zero temperature"
        )
    cooling = max(1, steps - steps // 4)
    parts = [min(1.0, i / cooling) for i in range(steps)]
    temperatures = [start_temperature ** (1.0 - part) * temperature**part for part in parts]
    noise = [_noise_scale(y, step_size, t) for t in temperatures]
    return _langevin(energy, y, x, z, step_size, noise, generator, bounds, max_move)


def _langevin(
    energy: EnergyModel,
    y: Tensor,
    x: Tensor | None,
    z: Tensor | None,
    step_size: float | Tensor,
    noise: Sequence[Tensor | None],
    generator: torch.Generator | None,
    bounds: Bounds | None,
    max_move: float | Tensor | None,
) -> Tensor:
    """One step for each entry of ``noise``, the scale of its Gaussian; None for no noise."""
    energy_and_grad = bind(energy, x, z)
    limit = None if max_move is None else torch.as_tensor(max_move).to(y)
    y = y.detach().clone()
    for noise_scale in noise:
        drift = energy_and_grad(y)[1] * step_size
        if limit is not None:
            drift = drift.clamp(min=-limit, max=limit)
        y = y - drift
        if noise_scale is not None:
            y += noise_scale * _randn_like(y, generator)
        if bounds is not None:
            y = reflect(y, bounds)
    if not bool(torch.isfinite(y).all()):
        raise SamplingError(
            f"Langevin chains left the finite numbers within {len(noise)} steps: reduce step_size "
            f"(now {step_size}), set max_move, or give bounds"
        )
    return y


def _noise_scale(
    y: Tensor, step_size: float | Tensor, temperature: float | Tensor
) -> Tensor | None:
    """sqrt(2 h T), broadcastable to y; None where it is zero."""
    h, t = torch.as_tensor(step_size), torch.as_tensor(temperature)
    if bool((h < 0).any()) or bool((t < 0).any()):
        raise ValueError(
            f"step_size and temperature must not be negative, got {step_size} and {temperature}"
        )
    scale = (2.0 * h * t).sqrt().to(y)
    return scale if bool((scale != 0).any()) else None


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
    outside ``bounds`` or of NaN energy are rejected, so chains never leave the finite region. A
    coordinate of step size zero stays where it is.

    Args:
        energy: the model.
        y: (B, N, y_dim) initial chains.
        x: conditions as for ``langevin``.
        z: latents as for ``langevin``.
        steps: number of proposals.
        step_size: h; a tensor broadcasts against y.
        temperature: T > 0; a tensor broadcasts against y with last dimension one.
        generator: source of randomness.
        bounds: (low, high): zero probability outside.
        adapt: move h towards the target acceptance, one h per condition (the leading dimensions
            of y but its last two). The adaptation gain falls as 1/sqrt(step): use it to warm up.
        target_acceptance: for ``adapt``.

    Returns:
        A MALAResult.

    Raises:
        SamplingError: a chain starts at an energy of NaN, or meets one of -inf.
        ValueError: a temperature that is not positive, or a negative step size.
    """
    t = torch.as_tensor(temperature, dtype=y.dtype, device=y.device)
    h = torch.as_tensor(step_size, dtype=y.dtype, device=y.device)
    if not bool((t > 0).all()) or bool((h < 0).any()):
        raise ValueError(
            "temperature must be positive and step_size not negative, got "
            f"{temperature} and {step_size}"
        )
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
        width = torch.where(s > 0, 4.0 * s, 1.0)
        forward = (proposal - y + s * grad).square() / width
        backward = (y - proposal + s * grad_new).square() / width
        log_ratio = e - e_new + (forward - backward).sum(-1)
        log_ratio = torch.nan_to_num(log_ratio, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        if bounds is not None:
            log_ratio = log_ratio.masked_fill(~inside(proposal, bounds), -math.inf)
        u = torch.rand(log_ratio.shape, generator=generator, device=y.device, dtype=y.dtype)
        accept = u.log() < log_ratio
        y = torch.where(accept[..., None], proposal, y)
        grad = torch.where(accept[..., None], grad_new, grad)
        e = torch.where(accept, e_new, e)
        accepted += float(accept.float().mean())
        if adapt:
            rate = log_ratio.clamp(max=0.0).exp().mean(-1)[..., None, None]
            h = h * ((rate - target_acceptance) * (2.0 / math.sqrt(i + 1.0))).exp()
    _refuse_bad(e)
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
        The chains (B, N, y_dim) and their energies (B, N).

    Raises:
        SamplingError: a chain starts at an energy of NaN, or meets one of -inf.
    """
    width = (2.0 * torch.as_tensor(step_size, dtype=y.dtype, device=y.device)).sqrt()
    for _ in range(steps):
        proposal = y + width * _randn_like(y, generator)
        e_new = energy(proposal, x, z)
        # exp(-exponential) is uniform: the usual test u < exp((e - e_new) / T) without a logarithm.
        slack = torch.empty_like(e).exponential_(generator=generator)
        accept = e_new < e + temperature * slack
        if bounds is not None:
            accept &= inside(proposal, bounds)
        y = torch.where(accept[..., None], proposal, y)
        e = torch.where(accept, e_new, e)
    _refuse_bad(e)
    return y, e


def _refuse_bad(e: Tensor) -> None:
    """Refuse energies of NaN and -inf: a chain there would stay, and look like a sample."""
    if not bool((e > -math.inf).all()):
        raise SamplingError(
            "a chain is at an energy of NaN or -inf: the energy diverged while training, or the "
            "chains started outside the region it was trained on"
        )


def _randn_like(y: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)


def _squeeze(t: Tensor) -> Tensor:
    return t.squeeze(-1) if t.ndim else t
