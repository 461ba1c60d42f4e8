"""The default sampler: resample candidates where that suffices, anneal where it starves.

Candidates drawn from a proposal q and resampled by their importance weights are cheap, exact as
their number grows, and blind to barriers; but the share of useful candidates falls exponentially
with the dimension. So the effective sample size is *measured*. Where it suffices, the draws are
resampled candidates, moved apart by a Metropolis step. Where it does not, the same candidates
become the first population of a tempered sequential Monte Carlo sampler (Neal 2001; Del Moral,
Doucet & Jasra 2006): resample only as far towards the target as the effective sample size allows,
move by MALA, repeat. With enough effective samples the first stage already reaches the target, so
the two are one algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from hierebm.energy.diversity import SPREADERS, gather
from hierebm.energy.networks import EnergyMLP, EnergyModel, bind
from hierebm.energy.proposals import Proposal
from hierebm.energy.samplers import (
    SamplingError,
    annealed_langevin,
    descent,
    importance_resample,
    langevin,
    mala,
    metropolis,
)

Method = Literal["auto", "resample", "smc", "mala", "langevin", "annealed", "descent"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass
class SamplerConfig:
    """How to draw. JSON-serialisable.

    Attributes:
        method: "auto" resamples and anneals where the effective sample size falls short; "resample"
            and "smc" force the one or the other; "mala", "langevin", "annealed" and "descent" start
            n chains from the proposal and run them for ``steps``.
        candidates: M, drawn from the proposal for each condition; None takes eight for each
            draw and at least 512.
        min_ess: "auto" accepts plain resampling when the effective sample size is at least
            ``min_ess * n`` for the condition (and at least 2).
        refine_steps: Metropolis steps after resampling: they part duplicates and let draws leave
            the grid of the candidates.
        temperature: T of exp(-E / T).
        step_size: of the chains and of the refinement, in squared units of y; None takes
            (0.02 candidate std)^2 and adapts where the method does.
        steps: length of the chains, for the methods that are chains.
        moves: MALA steps at each temperature of "smc".
        stage_ess: effective share of the population that each stage of "smc" keeps.
        max_stages: stages of "smc" after which sampling gives up with an error.
        diversity: None, "farthest" or "kmeans++": choose the n draws, among ``oversample * n``
            resampled ones, so that they lie apart (nodes of a graph).
        oversample: see ``diversity``.
    """

    method: Method = "auto"
    candidates: int | None = None
    min_ess: float = 0.5
    refine_steps: int = 1
    temperature: float = 1.0
    step_size: float | None = None
    steps: int = 200
    moves: int = 4
    stage_ess: float = 0.5
    max_stages: int = 60
    diversity: Literal["farthest", "kmeans++"] | None = None
    oversample: int = 4


@dataclass
class Draws:
    """Samples and how they were obtained.

    Attributes:
        y: (B, n, y_dim).
        energy: (B, n).
        ess: (B,) effective sample size of the candidates under the full target; nan for chains.
        method: "resample", "smc", ... : what was done in the end.
        stages: temperatures used (1 for plain resampling).
    """

    y: Tensor
    energy: Tensor
    ess: Tensor
    method: str
    stages: int


@torch.no_grad()
def draw(
    energy: EnergyModel,
    n: int,
    proposal: Proposal,
    *,
    x: Tensor | None = None,
    z: Tensor | None = None,
    config: SamplerConfig | None = None,
    generator: torch.Generator | None = None,
) -> Draws:
    """Draw n samples of exp(-E / T) for each condition.

    Args:
        energy: the model, -log p up to a constant (for ``ReplayProposal``: the log ratio).
        n: samples of each condition.
        proposal: source of candidates and of the chains' starts.
        x: (B, x_dim) conditions, or None for B = 1.
        z: (B, z_dim) latents, or None.
        config: see ``SamplerConfig``.
        generator: source of all randomness.

    Returns:
        Draws.

    Raises:
        SamplingError: an energy that is not finite, or annealing that does not arrive.
        ValueError: an unknown method or diversity.
    """
    config = config or SamplerConfig()
    if config.diversity is not None:
        return _spread_out(energy, n, proposal, x, z, config, generator)
    batch = len(x) if x is not None else len(z) if z is not None else 1
    x = None if x is None else x[:, None]
    z = None if z is None else z[:, None]
    if isinstance(energy, EnergyMLP):  # prepared once for candidates, moves and all stages
        energy, x, z = energy.bind(x, z), None, None
    if config.method not in METHODS:
        raise ValueError(f"method {config.method!r} is none of {METHODS}")
    if config.method == "smc" and proposal.density == "unknown":
        raise ValueError("smc needs a proposal of known density; this one can only be sampled")
    if config.method in ("mala", "langevin", "annealed", "descent"):
        return _chains(energy, n, proposal, batch, x, z, config, generator)

    m = config.candidates or max(512, 8 * n)
    y, log_q = proposal(batch, m, generator)
    e = energy(y, x, z).expand(batch, -1)
    log_q = torch.zeros_like(e) if log_q is None else log_q.expand_as(e)
    idx, ess = importance_resample(e / config.temperature + log_q, n, generator)
    enough = bool((ess >= max(2.0, config.min_ess * n)).all())
    starved = config.method == "auto" and not enough and proposal.density != "unknown"
    if config.method == "smc" or starved:
        return _tempered(energy, n, y, e, log_q, ess, proposal, x, z, config, generator)
    y_drawn, e_drawn = metropolis(
        energy, gather(y, idx), e.gather(1, idx), x, z,
        steps=config.refine_steps, step_size=_step_size(config, y),
        temperature=config.temperature, generator=generator, bounds=proposal.bounds,
    )  # fmt: skip
    return Draws(y_drawn, e_drawn, ess, "resample", 1)


def _tempered(
    energy: EnergyModel,
    n: int,
    y: Tensor,
    e: Tensor,
    log_q: Tensor,
    ess: Tensor,
    proposal: Proposal,
    x: Tensor | None,
    z: Tensor | None,
    config: SamplerConfig,
    generator: torch.Generator | None,
) -> Draws:
    """Sequential Monte Carlo from q to exp(-E / T) along q^(1 - b) exp(-b E / T), b from 0 to 1.

    b advances for each condition on its own, as far as ``stage_ess`` allows.
    """
    batch, m = e.shape
    y = y.expand(batch, m, y.shape[-1])
    beta = e.new_zeros(batch)
    step = _step_size(config, y).expand(batch, 1, y.shape[-1])
    stages = 0
    while bool((beta < 1).any()):
        if stages == config.max_stages:
            raise SamplingError(
                f"annealing stopped at {float(beta.min()):.3f} of the way after {stages} stages: "
                "raise candidates or max_stages, or give a proposal nearer to the data"
            )
        # d log target / d beta at each particle: the weight of a step is this times its length.
        ascent = -(e / config.temperature) - log_q
        delta = _next_step(ascent, 1.0 - beta, config.stage_ess * m)
        beta = torch.where(delta >= 1.0 - beta, torch.ones_like(beta), beta + delta)
        idx, _ = importance_resample(-ascent * delta[:, None], m, generator)
        y = gather(y, idx)
        bridge = _Bridge(energy, x, z, proposal, beta[:, None], config.temperature)
        moved = mala(
            bridge, y,
            steps=config.moves, step_size=step, generator=generator,
            bounds=proposal.bounds, adapt=True,
        )  # fmt: skip
        y, step = moved.y, moved.step_size
        e, log_q = energy(y, x, z), proposal.log_prob_and_grad(y)[0]
        stages += 1
    keep = torch.rand((batch, m), generator=generator, device=y.device).argsort(-1)
    if n > m:
        keep = keep.repeat(1, -(-n // m))
    keep = keep[:, :n]
    return Draws(gather(y, keep), e.gather(1, keep), ess, "smc", stages)


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


def _next_step(ascent: Tensor, longest: Tensor, wanted: float) -> Tensor:
    """The longest step (B,) of the inverse temperature whose weights keep ``wanted`` effective.

    Bisection; the effective sample size falls as the step grows.
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


def _chains(
    energy: EnergyModel,
    n: int,
    proposal: Proposal,
    batch: int,
    x: Tensor | None,
    z: Tensor | None,
    config: SamplerConfig,
    generator: torch.Generator | None,
) -> Draws:
    flat, _ = proposal(batch, batch * n, generator)
    y = flat.reshape(-1, flat.shape[-1])[: batch * n].view(batch, n, -1)
    step = _step_size(config, y)
    steps, bounds, t = config.steps, proposal.bounds, config.temperature
    if config.method == "mala":
        y = mala(
            energy, y, x, z, steps=steps, step_size=step, temperature=t, generator=generator,
            bounds=bounds, adapt=config.step_size is None,
        ).y  # fmt: skip
    elif config.method == "descent":
        y = descent(
            energy, y, x, z, steps=steps, step_size=step, bounds=bounds, max_move=_longest_move(y)
        )
    else:
        sampler = langevin if config.method == "langevin" else annealed_langevin
        y = sampler(
            energy, y, x, z, steps=steps, step_size=step, temperature=t, generator=generator,
            bounds=bounds, max_move=_longest_move(y),
        )  # fmt: skip
    ess = torch.full((batch,), float("nan"))
    return Draws(y, energy(y, x, z), ess, config.method, 1)


def _spread_out(
    energy: EnergyModel,
    n: int,
    proposal: Proposal,
    x: Tensor | None,
    z: Tensor | None,
    config: SamplerConfig,
    generator: torch.Generator | None,
) -> Draws:
    if config.diversity not in SPREADERS:
        raise ValueError(f"diversity {config.diversity!r} is none of {sorted(SPREADERS)}")
    plain = replace(config, diversity=None)
    draws = draw(
        energy, n * config.oversample, proposal, x=x, z=z, config=plain, generator=generator
    )
    idx = SPREADERS[config.diversity](draws.y, n, generator)
    return Draws(
        gather(draws.y, idx), draws.energy.gather(1, idx), draws.ess, draws.method, draws.stages
    )


def _step_size(config: SamplerConfig, y: Tensor) -> Tensor:
    if config.step_size is not None:
        return torch.tensor(config.step_size, dtype=y.dtype, device=y.device)
    return (0.02 * y.flatten(0, -2).std(0)).square()


def _longest_move(y: Tensor) -> Tensor:
    return 0.1 * y.flatten(0, -2).std(0)
