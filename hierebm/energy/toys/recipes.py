"""Complete ways to fit and to sample a toy density: the default, the original experiment's, others.

What the gallery draws and what the benchmark measures are the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hierebm.energy.negatives import (
    HardNegatives,
    LangevinNegatives,
    NegativeSource,
    PivotNegatives,
    UniformNegatives,
)
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.toys.conditional_densities import AccelerateBrake, ConditionalRing, TwoBranches
from hierebm.energy.toys.densities import ToyDensity
from hierebm.energy.training import EnergyConfig, default_negatives, fit_energy

DATA_SIZE = 20_000


@dataclass
class Fitted:
    """A trained energy and the processor seconds that the training took."""

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
        recipe: "info_nce" is the package's default. "margin" is the original experiment's: a plain
            MLP, margin ranking, random negatives. "margin_hard" mines the hardest of them, masked.
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
    config = EnergyConfig()
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
        negatives = [PivotNegatives([0.1], 1)]  # not looked at
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
    config = EnergyConfig(steps=steps, batch_size=64)
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
    config = EnergyConfig(
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
    config = EnergyConfig(
        steps=steps, conditional_negatives=2, pivot_negatives=6, pivot_rows=256,
        pivot_scales=(0.1, 0.2, 0.5, 1.0),
    )  # fmt: skip
    negatives = default_negatives(config, y, conditional=True, low=density.low, high=density.high)
    model = EnergyMLP(density.dim, 3, fourier_scale=(0.25, 0.5, 1.0), generator=gen)
    return _timed(model, y, x, config, negatives, gen, None)


@torch.no_grad()
def path_profile(
    model: Callable[[Tensor, Tensor], Tensor], shares: Tensor, *, pairs: int = 256, seed: int = 7
) -> Tensor:
    """Energies (pairs, S) on straight lines from start to goal, at the shares (S,) of the way."""
    gen = torch.Generator().manual_seed(seed)
    start, goal, _ = AccelerateBrake().trajectories(pairs, gen)
    y = start[:, None] + shares[:, None] * (goal - start)[:, None]
    return model(y, torch.cat([start, goal], dim=-1)[:, None])


def mid_path_saddle(
    model: Callable[[Tensor, Tensor], Tensor], *, pairs: int = 256, seed: int = 7
) -> float:
    """Median over pairs of mean E over the middle tenth minus mean E over the two end tenths.

    In nats. The outermost fiftieth is left out: there the density itself ends.
    """
    ends = torch.linspace(0.02, 0.1, 5)
    shares = torch.cat([ends, torch.linspace(0.45, 0.55, 5), 1.0 - ends])
    energy = path_profile(model, shares, pairs=pairs, seed=seed)
    middle = energy[:, 5:10].mean(-1)
    outer = torch.cat([energy[:, :5], energy[:, 10:]], dim=-1).mean(-1)
    return float((middle - outer).median())


def _timed(
    model: EnergyMLP,
    y: Tensor,
    x: Tensor | None,
    config: EnergyConfig,
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


def processor_ms(function: Callable[[], object], repeats: int = 20) -> float:
    """Median processor milliseconds of a call, after two calls to warm up."""
    function()
    function()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return 1e3 * sorted(times)[len(times) // 2]
