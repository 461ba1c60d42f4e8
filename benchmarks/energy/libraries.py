"""Other energy libraries on the spiral: the rows that the benchmark adds where they exist.

Each is given its recommended recipe at a Langevin step that fits the noise of the data, the same
network size, optimiser, schedule and processor time as the default.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.energy.rows import Row, row
from benchmarks.timing import processor_ms
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.toys.densities import ToyDensity, toy_density
from hierebm.energy.toys.metrics import log_density_fit, sample_metrics


def _train_library(
    seed: int,
    seconds: float,
    build: Callable[[Tensor], tuple[torch.nn.Module, Callable[[Tensor], Tensor]]],
) -> tuple[ToyDensity, torch.nn.Module, float]:
    """Adam on a library's loss for the given processor time, with the default's schedule."""
    density = toy_density("spiral")
    gen = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # the libraries draw from the global generator
    y = density.sample(20_000, gen)
    started = time.process_time()
    model, loss_of = build(y)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    spent = 0.0
    while spent < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (0.5 + 0.5 * math.cos(math.pi * spent))
        loss = loss_of(y[torch.randint(len(y), (256,), generator=gen)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        spent = (time.process_time() - started) / seconds
    return density, model, time.process_time() - started


def library_row(
    name: str,
    density: ToyDensity,
    model: torch.nn.Module,
    train_s: float,
    sample: Callable[[int], Tensor],
    samples: dict[str, tuple[ToyDensity, Tensor]],
) -> Row:
    """The row of a library's trained energy, sampled by its own sampler ``sample(n)``."""
    y = sample(2000).detach()
    corr, slope = log_density_fit(density, lambda v: model(v).detach().flatten())
    samples.setdefault(name, (density, y))
    return row(
        "spiral", name, "langevin", **sample_metrics(density, y), logp_corr=corr,
        logp_slope=slope, train_s=train_s, sample_ms=processor_ms(lambda: sample(64), 3),
    )  # fmt: skip


def _ebmkit(seed: int, seconds: float, samples: dict[str, tuple[ToyDensity, Tensor]]) -> list[Row]:
    """ebmkit: persistent CD as its read-me has it, at a step that fits the data, and its
    sampler-free energy discrepancy at the noise of the data."""
    ebm = import_module("ebm")

    rows = []
    for name in ("contrastive divergence", "energy discrepancy"):
        sampler = ebm.LangevinDynamics(step_size=2e-4, steps=20, grad_clip=50.0)

        def build(
            y: Tensor, name: str = name, sampler: Any = sampler
        ) -> tuple[torch.nn.Module, Callable[[Tensor], Tensor]]:
            energy = ebm.nets.MLPEnergy(dim=2, hidden=(128, 128, 128))
            if name == "energy discrepancy":
                loss = ebm.EnergyDiscrepancy(sigma=0.1, m_particles=8)
            else:
                buffer = ebm.ReplayBuffer(8192, (2,))
                loss = ebm.ContrastiveDivergence(sampler, buffer=buffer, energy_reg=0.01)
            return energy, lambda batch: loss(energy, batch).loss

        density, model, train_s = _train_library(seed, seconds, build)

        def sample(n: int, model: Any = model, sampler: Any = sampler) -> Tensor:
            return sampler.sample(model, 2.6 * torch.rand(n, 2) - 1.3, steps=500)

        rows.append(library_row(f"ebmkit {name}", density, model, train_s, sample, samples))
    return rows


def _torchebm(
    seed: int, seconds: float, samples: dict[str, tuple[ToyDensity, Tensor]]
) -> list[Row]:
    """torchebm: persistent CD with its Langevin sampler, at a step that fits the data."""
    losses, samplers = import_module("torchebm.losses"), import_module("torchebm.samplers")
    base: Any = import_module("torchebm.core").BaseModel

    class Energy(base):  # type: ignore[misc]
        """Its samplers ask its own base class for gradients."""

        def __init__(self) -> None:
            super().__init__()
            self.net = EnergyMLP(2, fourier_features=0)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    kept: list[Any] = []

    def build(y: Tensor) -> tuple[torch.nn.Module, Callable[[Tensor], Tensor]]:
        energy = Energy()
        sampler = samplers.LangevinDynamics(energy, step_size=2e-4, noise_scale=1.0)
        kept.append(sampler)
        loss = losses.ContrastiveDivergence(
            energy, sampler, k_steps=20, persistent=True, buffer_size=8192, energy_reg_weight=0.01
        )
        return energy, lambda batch: loss(batch)[0]

    density, model, train_s = _train_library(seed, seconds, build)

    def sample(n: int) -> Tensor:
        return kept[0].sample(x=2.6 * torch.rand(n, 2) - 1.3, n_steps=500)

    name = "torchebm persistent CD"
    return [library_row(name, density, model, train_s, sample, samples)]


# Name of the package -> the module to import, and the function that makes its rows.
LIBRARIES: dict[str, tuple[str, Callable[..., list[Row]]]] = {
    "torchebm": ("torchebm", _torchebm),
    "ebmkit": ("ebm", _ebmkit),
}
