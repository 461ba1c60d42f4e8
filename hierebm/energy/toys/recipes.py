"""Complete ways to fit and to sample a toy density: the default, and what it is compared with.

The baseline is margin ranking with random negatives on a plain network, sampled by gradient
descent. What the gallery draws and what the benchmark measures are the same functions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hierebm.energy.default_sampler import SamplerConfig, draw
from hierebm.energy.mcmc import descent
from hierebm.energy.negatives import (
    HardNegatives,
    LangevinNegatives,
    NegativeSource,
    PivotNegatives,
    UniformNegatives,
)
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.proposals import UniformProposal
from hierebm.energy.toys.conditional_densities import AccelerateBrake, ConditionalRing, TwoBranches
from hierebm.energy.toys.densities import ToyDensity
from hierebm.energy.training import TrainingConfig, default_negatives, fit_energy

DATA_SIZE = 20_000


@dataclass
class Fitted:
    """A trained energy, the processor seconds that the training took, and its updates."""

    model: EnergyMLP
    train_s: float
    steps: int


def fit_toy(
    density: ToyDensity,
    recipe: str = "info_nce",
    *,
    seed: int = 0,
    width: int = 128,
    steps: int | None = None,
    seconds: float | None = None,
) -> Fitted:
    """Fit an energy to a plane density.

    Args:
        density: the data.
        recipe: "info_nce" is the package's default. "margin" is the baseline: a plain MLP, margin
            ranking, random negatives. "margin_hard" keeps the hardest of them, masked.
            "persistent_cd" and "score_matching" are the usual alternatives, with the default's
            network.
        seed: of data, weights and negatives.
        width: units of each hidden layer.
        steps: updates; None for the default's number.
        seconds: train for that much processor time instead.

    Returns:
        Fitted.

    Raises:
        ValueError: an unknown recipe.
    """
    gen = torch.Generator().manual_seed(seed)
    y = density.sample(DATA_SIZE, gen)
    low, high = density.low, density.high
    config = TrainingConfig()
    features = 0 if recipe.startswith("margin") else 64
    uniform = UniformNegatives(low, high, config.uniform_negatives)
    negatives: list[NegativeSource]
    if recipe == "info_nce":
        negatives = default_negatives(config, y, conditional=False, low=low, high=high)
    elif recipe == "margin":
        config = replace(config, objective="margin", averaging=0.0, learning_rate=1e-3)
        negatives = [uniform]
    elif recipe == "margin_hard":
        config = replace(config, objective="margin", averaging=0.0, learning_rate=1e-3)
        negatives = [HardNegatives(uniform, 64, correct=False, semi_hard=True)]
    elif recipe == "persistent_cd":
        config = replace(config, objective="contrastive_divergence", learning_rate=1e-3)
        config.objective_options = {"energy_penalty": 0.01}
        negatives = [LangevinNegatives(4096, low, high, steps=8, step_size=2e-4, generator=gen)]
    elif recipe == "score_matching":
        config = replace(config, objective="score_matching", learning_rate=1e-3)
        config.objective_options = {"sigma": 0.025}
        negatives = [PivotNegatives([0.1], 1)]  # not used by this objective
    else:
        raise ValueError(
            f"recipe {recipe!r} is none of 'info_nce', 'margin', 'margin_hard', 'persistent_cd', "
            "'score_matching'"
        )
    if steps is not None:
        config = replace(config, steps=steps)
    model = EnergyMLP(2, width=width, fourier_features=features, generator=gen)
    return _timed(model, y, None, config, negatives, gen, seconds)


def fit_two_branches(latent: bool, *, seed: int = 0, steps: int = 600) -> Fitted:
    """Fit E(x, y) or E(x, y, z) to the two branches."""
    gen = torch.Generator().manual_seed(seed)
    x, y = TwoBranches().sample(DATA_SIZE, gen)
    low, high = torch.tensor([-1.3]), torch.tensor([1.3])
    config = TrainingConfig(steps=steps, batch_size=64)
    if latent:
        config.objective = "latent_info_nce"
        config.objective_options = {"latents": 4, "generator": gen}
    model = EnergyMLP(
        1, 1, int(latent), width=64, depth=2, fourier_features=16, fourier_scale=1.0, generator=gen
    )
    return _timed(model, y, x, config, [UniformNegatives(low, high, 8)], gen, None)


def fit_between(by: str, *, seed: int = 0, steps: int = 1100) -> Fitted:
    """Fit E(w | start, goal) to accelerate-brake triplets drawn uniformly by "time" or "arc"."""
    gen = torch.Generator().manual_seed(seed)
    x, y = AccelerateBrake().sample(5 * DATA_SIZE, gen, by=by)
    # Four dimensions of condition: many conditions a batch, few negatives each.
    config = TrainingConfig(
        steps=steps, batch_size=512, conditional_negatives=3, pivot_negatives=2, pivot_rows=512,
        pivot_scales=(0.1, 0.3, 1.0),
    )  # fmt: skip
    low, high = torch.full((2,), -1.3), torch.full((2,), 1.3)
    negatives = default_negatives(config, y, conditional=True, low=low, high=high)
    model = EnergyMLP(2, 4, anchors=2, fourier_scale=(0.25, 0.5, 1.0), generator=gen)
    return _timed(model, y, x, config, negatives, gen, None)


def fit_ring(density: ConditionalRing, *, seed: int = 0, steps: int = 800) -> Fitted:
    """Fit E(y | x) to the ring in d dimensions."""
    gen = torch.Generator().manual_seed(seed)
    x, y = density.sample(5 * DATA_SIZE, gen)
    config = TrainingConfig(
        steps=steps, conditional_negatives=2, pivot_negatives=6, pivot_rows=256,
        pivot_scales=(0.1, 0.2, 0.5, 1.0),
    )  # fmt: skip
    negatives = default_negatives(config, y, conditional=True, low=density.low, high=density.high)
    model = EnergyMLP(density.dim, 3, fourier_scale=(0.25, 0.5, 1.0), generator=gen)
    return _timed(model, y, x, config, negatives, gen, None)


# How ``draw_toy`` draws, by name: step sizes that fit the noise of the plane densities.
SAMPLERS: dict[str, SamplerConfig] = {
    "auto": SamplerConfig(),
    "descent": SamplerConfig(method="descent", steps=200, step_size=2e-4),
    "langevin": SamplerConfig(method="langevin", steps=300, step_size=1e-4),
    "mala": SamplerConfig(method="mala", steps=300),
    "annealed": SamplerConfig(method="annealed", steps=300, step_size=1e-4),
    "smc": SamplerConfig(method="smc", candidates=2048),
}


def draw_toy(model: EnergyMLP, density: ToyDensity, n: int, method: str, seed: int = 1) -> Tensor:
    """n samples (n, 2) of an energy over the plane, by the method of that name in ``SAMPLERS``."""
    proposal = UniformProposal(density.low, density.high)
    config = SAMPLERS[method]
    gen = torch.Generator().manual_seed(seed)
    return draw(model, n, proposal, config=config, generator=gen).y[0]


def infer_branch(model: EnergyMLP, x: Tensor, z: Tensor | None) -> Tensor:
    """Deterministic inference: descend y from 0 under x (N, R, 1) and z (N, R, 1); y (N, R, 1)."""
    bounds = (torch.tensor([-1.3]), torch.tensor([1.3]))
    y = torch.zeros_like(x)
    return descent(model, y, x, z, steps=150, step_size=2e-3, max_move=0.05, bounds=bounds)


def _timed(
    model: EnergyMLP,
    y: Tensor,
    x: Tensor | None,
    config: TrainingConfig,
    negatives: list[NegativeSource],
    gen: torch.Generator,
    seconds: float | None,
) -> Fitted:
    started = time.process_time()
    trainer = fit_energy(
        model, y, x,
        config=config, negatives=negatives, generator=gen, seconds=seconds,
        clock=time.process_time,
    )  # fmt: skip
    return Fitted(model, time.process_time() - started, trainer.steps)
