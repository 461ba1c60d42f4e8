"""The default sampler: resample candidates where that suffices, anneal where it does not.

Candidates drawn from a proposal q and resampled by their importance weights are cheap, exact as
their number grows, and not stopped by barriers; but the share of useful candidates falls
exponentially with the dimension. So the effective sample size is *measured*. Where it suffices, the
draws are resampled candidates, moved apart by a Metropolis step. Where it does not, the same
candidates become the first population of a tempered sequential Monte Carlo sampler (``annealing``):
resample only as far towards the target as the effective sample size allows, move by MALA, repeat.
With enough effective samples the first stage already reaches the target, so the two are one
algorithm. Other samplers are run on request (``SamplerConfig.method``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hierebm.energy.annealing import anneal
from hierebm.energy.bounds import inside
from hierebm.energy.mcmc import annealed_langevin, descent, langevin, mala, metropolis
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.point_selection import farthest_points, kmeans_plus_plus
from hierebm.energy.proposals import Proposal
from hierebm.energy.protocol import EnergyModel, SamplingError
from hierebm.energy.resampling import gather, importance_resample

Method = Literal["auto", "resample", "smc", "mala", "langevin", "annealed", "descent"]
METHODS: tuple[str, ...] = get_args(Method)
Diversity = Literal["farthest", "kmeans++"]
# Candidates where the caller gives no number: enough for an effective sample size and a scale.
LEAST_CANDIDATES = 512


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
        refine_steps: Metropolis steps after resampling: they move duplicates apart and let draws
            take values that no candidate has. None are made where the proposal's density is not
            known: the target then is q exp(-E / T), and they would not keep it.
        temperature: T > 0 of exp(-E / T).
        step_size: of the chains and of the refinement, in squared units of y; None takes
            (0.02 candidate std)^2 and adapts where the method does.
        steps: length of the chains, for the methods that are chains.
        moves: MALA steps at each temperature of "smc".
        stage_ess: effective share of the population that each stage of "smc" keeps.
        max_stages: stages of "smc" after which sampling gives up with an error.
        diversity: None, "farthest" or "kmeans++": choose the n draws, among ``oversample * n``
            resampled ones, so that they lie apart (nodes of a graph).
        oversample: see ``diversity``.

    Raises:
        ValueError: an unknown method or diversity, or a number out of range.
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
    diversity: Diversity | None = None
    oversample: int = 4

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is none of {METHODS}")
        if self.diversity not in (None, *get_args(Diversity)):
            known = get_args(Diversity)
            raise ValueError(f"diversity {self.diversity!r} is none of {known} or None")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature must be positive, got {self.temperature}; method='descent' is the "
                "limit of zero temperature"
            )
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, or None, got {self.candidates}")
        if self.oversample < 1:
            raise ValueError(f"oversample must be at least 1, got {self.oversample}")


@dataclass
class Draws:
    """Samples and how they were obtained.

    Attributes:
        y: (B, n, y_dim).
        energy: (B, n).
        ess: (B,) effective sample size of the candidates under the full target; nan for chains.
        method: "resample", "smc" or the name of the chains: which of them was run.
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
        energy: the model, -log p up to a constant; for ``ReplayProposal`` the log ratio to its
            states. Chains ignore the proposal's density and draw from exp(-E / T) in both cases.
        n: samples of each condition, at least 1.
        proposal: source of candidates and of the chains' starts.
        x: (B, x_dim) conditions, or None for B = 1.
        z: (B, z_dim) latents, or None.
        config: see ``SamplerConfig``.
        generator: source of all randomness.

    Returns:
        Draws.

    Raises:
        SamplingError: an energy that is not finite, or annealing that does not reach the target
            within ``max_stages``.
        ValueError: n < 1, or "smc" with a proposal whose density is not known.
    """
    config = config or SamplerConfig()
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if config.diversity is not None:
        return _spread_out(energy, n, proposal, x, z, config, generator)
    batch = len(x) if x is not None else len(z) if z is not None else 1
    x = None if x is None else x[:, None]
    z = None if z is None else z[:, None]
    if isinstance(energy, EnergyMLP):  # prepared once for candidates, moves and all stages
        energy, x, z = energy.bind(x, z), None, None
    if config.method == "smc" and proposal.density == "unknown":
        raise ValueError("smc needs a proposal of known density; this one can only be sampled")
    if config.method in ("mala", "langevin", "annealed", "descent"):
        return _chains(energy, n, proposal, batch, x, z, config, generator)

    m = config.candidates or max(LEAST_CANDIDATES, 8 * n)
    y, log_q = proposal(batch, m, generator)
    e = energy(y, x, z).expand(batch, -1)
    if proposal.bounds is not None:
        e = e.masked_fill(~inside(y, proposal.bounds), math.inf)
    log_q = torch.zeros_like(e) if log_q is None else log_q.expand_as(e)
    idx, ess = importance_resample(e / config.temperature + log_q, n, generator)
    enough = bool((ess >= max(2.0, config.min_ess * n)).all())
    too_few = config.method == "auto" and not enough and proposal.density != "unknown"
    if config.method == "smc" or too_few:
        y = y.expand(batch, -1, -1)
        y, e, stages = anneal(
            energy, y, e, log_q, proposal, x, z,
            temperature=config.temperature, step_size=_step_size(config, y), moves=config.moves,
            stage_ess=config.stage_ess, max_stages=config.max_stages, generator=generator,
        )  # fmt: skip
        keep = _random_rows(batch, m, n, generator, y.device)
        return Draws(gather(y, keep), e.gather(1, keep), ess, "smc", stages)
    step_size = _step_size(config, y)
    y, e = gather(y, idx), e.gather(1, idx)
    if proposal.density != "unknown":
        y, e = metropolis(
            energy, y, e, x, z,
            steps=config.refine_steps, step_size=step_size,
            temperature=config.temperature, generator=generator, bounds=proposal.bounds,
        )  # fmt: skip
    return Draws(y, e, ess, "resample", 1)


def _random_rows(
    batch: int, m: int, n: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """n of m indices for each condition (batch, n): different ones as long as there are any."""
    shuffled = torch.rand((batch, m), generator=generator, device=device).argsort(-1)
    return shuffled.repeat(1, -(-n // m))[:, :n]


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
    # A few chains alone would not tell how wide the proposal is, and a single one nothing at all.
    candidates, _ = proposal(batch, max(LEAST_CANDIDATES, batch * n), generator)
    candidates = candidates.reshape(-1, candidates.shape[-1])
    y = candidates[: batch * n].view(batch, n, -1)
    step, longest_move = _step_size(config, candidates), _longest_move(candidates)
    steps, bounds, t = config.steps, proposal.bounds, config.temperature
    if config.method == "mala":
        y = mala(
            energy, y, x, z, steps=steps, step_size=step, temperature=t, generator=generator,
            bounds=bounds, adapt=config.step_size is None,
        ).y  # fmt: skip
    elif config.method == "descent":
        y = descent(
            energy, y, x, z, steps=steps, step_size=step, bounds=bounds, max_move=longest_move
        )
    else:
        sampler = langevin if config.method == "langevin" else annealed_langevin
        y = sampler(
            energy, y, x, z, steps=steps, step_size=step, temperature=t, generator=generator,
            bounds=bounds, max_move=longest_move,
        )  # fmt: skip
    e = energy(y, x, z)
    if not bool(torch.isfinite(e).all()):
        raise SamplingError(
            f"the chains of method {config.method!r} ended at energies that are not finite: the "
            "energy diverged while training, or they left the region it was trained on"
        )
    return Draws(y, e, torch.full_like(e[:, 0], math.nan), config.method, 1)


def _spread_out(
    energy: EnergyModel,
    n: int,
    proposal: Proposal,
    x: Tensor | None,
    z: Tensor | None,
    config: SamplerConfig,
    generator: torch.Generator | None,
) -> Draws:
    """See ``SamplerConfig.diversity``."""
    plain = replace(config, diversity=None)
    draws = draw(
        energy, n * config.oversample, proposal, x=x, z=z, config=plain, generator=generator
    )
    points, device = draws.y.cpu().numpy(), draws.y.device
    first = torch.randint(points.shape[1], (len(points),), generator=generator, device=device)
    pairs = list(zip(points, first.tolist(), strict=True))
    if config.diversity == "farthest":
        chosen = [farthest_points(p, n, start) for p, start in pairs]
    else:
        seed = torch.randint(2**62, (), generator=generator, device=device)
        rng = np.random.default_rng(int(seed))
        chosen = [kmeans_plus_plus(p, n, start, rng) for p, start in pairs]
    idx = torch.as_tensor(np.stack(chosen), device=device)
    return Draws(
        gather(draws.y, idx), draws.energy.gather(1, idx), draws.ess, draws.method, draws.stages
    )


def _step_size(config: SamplerConfig, y: Tensor) -> Tensor:
    if config.step_size is not None:
        return torch.tensor(config.step_size, dtype=y.dtype, device=y.device)
    return (0.02 * y.flatten(0, -2).std(0)).square()


def _longest_move(y: Tensor) -> Tensor:
    return 0.1 * y.flatten(0, -2).std(0)
