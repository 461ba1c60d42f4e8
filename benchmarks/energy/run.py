"""Energies, objectives and samplers on toy densities with known answers.

Times are processor times on one thread. Parts: the plane densities under the default; the spiral
under other recipes (and other libraries, where installed: torchebm, ebmkit) for the default's
training time; two branches with and without a latent; the saddle between start and goal; rings in
2 to 16 dimensions; Langevin steps by hand against autograd.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.energy.libraries import LIBRARIES
from benchmarks.energy.rows import Row, line, medians, row
from benchmarks.installed import installed
from benchmarks.timing import processor_ms
from hierebm.energy.default_sampler import SamplerConfig, draw
from hierebm.energy.mcmc import langevin
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import sample_latents
from hierebm.energy.proposals import UniformProposal
from hierebm.energy.toys.conditional_densities import ConditionalRing, TwoBranches
from hierebm.energy.toys.densities import ToyDensity, toy_density
from hierebm.energy.toys.metrics import (
    branch_shares,
    log_density_fit,
    mid_path_saddle,
    sample_metrics,
)
from hierebm.energy.toys.recipes import (
    SAMPLERS,
    draw_toy,
    fit_between,
    fit_ring,
    fit_toy,
    fit_two_branches,
    infer_branch,
)
from hierebm.energy.training import TrainingConfig


def run(quick: bool, seeds: int | None, out: Path) -> list[Row]:
    """Every part, medians over the seeds; draws ``energy.png`` and returns the rows."""
    torch.set_num_threads(1)
    seeds = seeds or (1 if quick else 3)
    part = 0.5 if quick else 1.0
    names = ("spiral", "checkerboard") if quick else tuple(DENSITIES)
    rows: list[Row] = []
    samples: dict[str, tuple[ToyDensity, Tensor]] = {}

    def add(make: Callable[[int], list[Row]]) -> None:
        new = medians([make(seed) for seed in range(seeds)])
        for values in new:
            print(line(values), flush=True)
        rows.extend(new)

    for name in names:
        add(lambda seed, name=name: _plane(name, seed, part, samples))  # type: ignore[misc]
    budget = float(rows[0]["train_s"])
    for recipe in ("margin", "margin_hard", "persistent_cd", "score_matching"):
        add(lambda seed, r=recipe: _recipe(r, seed, budget, samples))  # type: ignore[misc]
    for library, (module, function) in LIBRARIES.items():
        if not installed(module):
            print(f"{library} is not installed: its rows are left out (pip install {library})")
            continue
        add(lambda seed, f=function: f(seed, budget, samples))  # type: ignore[misc]
    add(lambda seed: _branches(seed, part))
    add(lambda seed: _between(seed, part))
    for dim in (2, 8) if quick else (2, 4, 8, 16):
        add(lambda seed, d=dim: _ring(d, seed, part))  # type: ignore[misc]
    rows.append(_speed())
    print(line(rows[-1]), flush=True)
    _picture(samples, out / "energy.png")
    return rows


DENSITIES = ("spiral", "parabolas", "checkerboard", "pinwheel")


def _plane(
    name: str, seed: int, part: float, samples: dict[str, tuple[ToyDensity, Tensor]]
) -> list[Row]:
    density = toy_density(name)
    fitted = fit_toy(density, seed=seed, steps=round(TrainingConfig().steps * part))
    corr, slope = log_density_fit(density, fitted.model)
    real = density.sample(2000, torch.Generator().manual_seed(seed + 100))
    rows = [row(name, "(real data)", "-", **sample_metrics(density, real))]
    # Every sampler on the spiral; the default alone on the others.
    methods = ("auto", "mala", "langevin", "annealed", "descent") if name == "spiral" else ("auto",)
    for method in methods:
        y = draw_toy(fitted.model, density, 2000, method, seed)
        samples.setdefault(f"{name}: InfoNCE, {method}", (density, y))
        rows.append(
            row(
                name, "info_nce", method, **sample_metrics(density, y),
                logp_corr=corr, logp_slope=slope, train_s=fitted.train_s,
                sample_ms=_sample_ms(fitted.model, density, method),
            )
        )  # fmt: skip
    return [rows[1], rows[0], *rows[2:]]


def _sample_ms(model: EnergyMLP, density: ToyDensity, method: str) -> float:
    """Time to draw 64 samples."""
    proposal = UniformProposal(density.low, density.high)
    gen = torch.Generator().manual_seed(0)
    config = SAMPLERS[method]
    repeats = 30 if method == "auto" else 3
    return processor_ms(lambda: draw(model, 64, proposal, config=config, generator=gen), repeats)


def _recipe(
    recipe: str, seed: int, seconds: float, samples: dict[str, tuple[ToyDensity, Tensor]]
) -> list[Row]:
    density = toy_density("spiral")
    fitted = fit_toy(density, recipe, seed=seed, seconds=seconds)
    corr, slope = log_density_fit(density, fitted.model)
    rows = []
    for method in ("descent", "auto") if recipe.startswith("margin") else ("langevin", "auto"):
        y = draw_toy(fitted.model, density, 2000, method, seed)
        samples.setdefault(f"{recipe}, {method}", (density, y))
        rows.append(
            row(
                "spiral", recipe, method, **sample_metrics(density, y),
                logp_corr=corr, logp_slope=slope, train_s=fitted.train_s,
                sample_ms=_sample_ms(fitted.model, density, method),
            )
        )  # fmt: skip
    return rows


# ---------------------------------------------------------------------- conditional parts


def _branches(seed: int, part: float) -> list[Row]:
    density = TwoBranches()
    gen = torch.Generator().manual_seed(seed + 50)
    x = density.sample(100, gen)[0][:, None].expand(-1, 32, 1)
    rows = []
    for latent in (True, False):
        fitted = fit_two_branches(latent, seed=seed, steps=round(600 * part))
        z = sample_latents(x.numel(), 1, gen).view_as(x) if latent else None
        shares = branch_shares(density, x, infer_branch(fitted.model, x, z))
        name = "latent_info_nce" if latent else "info_nce"
        values = {**shares, "train_s": fitted.train_s}
        rows.append(row("two_branches", name, "descent from 0", **values))
    return rows


def _between(seed: int, part: float) -> list[Row]:
    rows = []
    for by in ("arc", "time"):
        fitted = fit_between(by, seed=seed, steps=round(2000 * part))
        saddle = mid_path_saddle(fitted.model)
        name = f"info_nce, uniform in {by}"
        values = {"saddle_nats": saddle, "train_s": fitted.train_s}
        rows.append(row("accelerate_brake", name, "-", **values))
    return rows


def _ring(dim: int, seed: int, part: float) -> list[Row]:
    """32 conditions, 128 samples each: by the default, and by resampling whatever it costs."""
    density = ConditionalRing(dim)
    fitted = fit_ring(density, seed=seed, steps=round(800 * part))
    gen = torch.Generator().manual_seed(seed + 70)
    x = density.conditions(32, gen)
    proposal = UniformProposal(density.low, density.high)
    rows = []
    for method in ("auto", "resample"):
        config = SamplerConfig(method="auto" if method == "auto" else "resample")
        started = time.process_time()
        draws = draw(fitted.model, 128, proposal, x=x, config=config, generator=gen)
        spent = 1e3 * (time.process_time() - started) / len(x)
        distance, cell = density.ring_distance(draws.y, x[:, None])
        # 99.7% of dim - 1 normal coordinates lie within this radius (Wilson & Hilferty 1931).
        k = dim - 1
        radius = density.sigma * math.sqrt(
            k * (1 - 2 / (9 * k) + 2.75 * math.sqrt(2 / (9 * k))) ** 3
        )
        good = distance <= radius
        hit = torch.zeros(len(x), density.n_bins)
        hit.scatter_add_(1, cell, good.float())
        rows.append(
            row(
                density.name, "info_nce", f"{method} ({draws.method})",
                precision=float(good.float().mean()), coverage=float((hit >= 1).float().mean()),
                train_s=fitted.train_s, sample_ms=spent, ess=float(draws.ess.median()),
            )
        )  # fmt: skip
    return rows


def _speed(chains: int = 256, width: int = 128, steps: int = 20) -> Row:
    """Langevin steps by hand against the same by autograd, taken in turns."""
    model = EnergyMLP(2, width=width, generator=torch.Generator().manual_seed(0))
    y = torch.randn(1, chains, 2)

    class ByAutograd:
        def __call__(self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None) -> Tensor:
            return model(y, x, z)

        def energy_and_grad(
            self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            return model.autograd_energy_and_grad(y, x, z)

    def once(energy: Any) -> float:
        return processor_ms(lambda: langevin(energy, y, steps=steps, step_size=1e-4), 5) / steps

    pairs = [(once(model), once(ByAutograd())) for _ in range(7)]
    hand, auto = (median(p[i] for p in pairs) for i in (0, 1))
    name = f"{chains} chains x {width} units"
    return row(name, "-", "langevin step", sample_ms=hand, autograd_ms=auto, speedup=auto / hand)


# ---------------------------------------------------------------------- pieces


def _picture(samples: dict[str, tuple[ToyDensity, Tensor]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 5
    lines = -(-len(samples) // columns)
    figure = Figure(figsize=(3.0 * columns, 3.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, (density, y)) in zip(axes.flat, samples.items(), strict=False):
        numbers = sample_metrics(density, y)
        ax.scatter(y[:, 0], y[:, 1], s=2, color="#d1495b", alpha=0.6, lw=0)
        ax.set_xlim(-1.3, 1.3)
        ax.set_ylim(-1.3, 1.3)
        ax.set_aspect("equal")
        scores = f"precision {numbers['precision']:.2f}, TV {numbers['tv']:.2f}"
        ax.set_title(f"{name}\n{scores}", fontsize=9)
    figure.savefig(path, dpi=120)
