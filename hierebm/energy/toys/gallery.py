"""What energies, objectives and samplers do on the toy densities: ``hierebm gallery``.

Every figure is trained from scratch when it is drawn; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from hierebm.energy.default_sampler import SamplerConfig, draw
from hierebm.energy.objectives import sample_latents
from hierebm.energy.proposals import UniformProposal
from hierebm.energy.toys.conditional_densities import TwoBranches
from hierebm.energy.toys.densities import ToyDensity, toy_density
from hierebm.energy.toys.metrics import (
    branch_shares,
    mid_path_saddle,
    path_profile,
    sample_metrics,
)
from hierebm.energy.toys.recipes import (
    Fitted,
    draw_toy,
    fit_between,
    fit_toy,
    fit_two_branches,
    infer_branch,
)

# Colours: one sequential map for energies (bright is likely), a few fixed hues for the rest.
ENERGY_MAP = "magma_r"
DATA, SAMPLE, START, GOAL, GREY = "#1b6ca8", "#d1495b", "#2e7d32", "#c62828", "#6b7280"


def main(out_dir: str | Path, quick: bool = False) -> Iterator[Path]:
    """Draw every figure into out_dir; yields each file when it is written.

    Args:
        out_dir: created where it does not exist.
        quick: a third of the training steps: shapes are right, edges are rough.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    part = 1 / 3 if quick else 1.0
    figures: dict[str, Callable[[float], Figure]] = {
        "spiral_widths": spiral_widths,
        "spiral_samplers": spiral_samplers,
        "parabolas": parabolas,
        "between_valley": between_valley,
        "latent_branches": latent_branches,
    }
    for name, make in figures.items():
        path = out / f"energy_{name}.png"
        figure = make(part)
        figure.savefig(path, dpi=130)
        yield path


# ---------------------------------------------------------------------- figures


def spiral_widths(part: float = 1.0) -> Figure:
    """Energy surface of the spiral for widths 16, 32, 128, 256, in nats above the lowest."""
    density = toy_density("spiral")
    figure, axes = _figure(1, 5, (15.5, 3.6))
    truth = density.log_prob
    image = _surface(axes[0], density, lambda y: -truth(y))
    axes[0].set_title("exact  −log p")
    for ax, width in zip(axes[1:], (16, 32, 128, 256), strict=True):
        fitted = fit_toy(density, width=width, steps=_steps(900, part))
        image = _surface(ax, density, fitted.model)
        ax.set_title(f"width {width}  ({fitted.train_s:.0f} s)")
    _colourbar(figure, image, axes)
    figure.suptitle("Energy of a two-turn spiral, InfoNCE, three hidden layers")
    return figure


def spiral_samplers(part: float = 1.0) -> Figure:
    """2000 samples of each objective under each sampler, with precision and total variation."""
    density = toy_density("spiral")
    recipes = {
        "margin": "margin ranking\nrandom negatives, plain MLP",
        "persistent_cd": "persistent CD\nLangevin negatives",
        "score_matching": "score matching\nnoise of one sigma",
        "info_nce": "InfoNCE (default)\nuniform + pivot negatives",
    }
    methods = {"descent": "descent", "langevin": "Langevin", "auto": "resample (default)"}
    figure, axes = _figure(len(methods), len(recipes), (12.4, 9.6))
    for column, (recipe, title) in enumerate(recipes.items()):
        model = fit_toy(density, recipe, steps=_recipe_steps(recipe, part)).model
        for row, (method, label) in enumerate(methods.items()):
            ax = axes[row][column]
            y = draw_toy(model, density, 2000, method)
            numbers = sample_metrics(density, y)
            _points(ax, density, y)
            text = f"precision {numbers['precision']:.2f}   TV {numbers['tv']:.2f}"
            ax.set_xlabel(text, fontsize=9)
            if row == 0:
                ax.set_title(title, fontsize=10)
            if column == 0:
                ax.set_ylabel(label)
    figure.suptitle("2000 samples of the spiral: one column an objective, one row a sampler")
    return figure


def parabolas(part: float = 1.0) -> Figure:
    """Two intersecting parabolas: data, energy, samples by descent and by the default."""
    density = toy_density("parabolas")
    model = fit_toy(density, steps=_steps(1200, part)).model
    figure, axes = _figure(1, 4, (14.2, 3.9))
    _points(axes[0], density, density.sample(2000, torch.Generator().manual_seed(1)), DATA)
    axes[0].set_title("data")
    image = _surface(axes[1], density, model)
    axes[1].set_title("energy")
    for ax, method, title in ((axes[2], "descent", "descent"), (axes[3], "auto", "default")):
        y = draw_toy(model, density, 2000, method)
        numbers = sample_metrics(density, y)
        _points(ax, density, y)
        ax.set_title(f"{title}: precision {numbers['precision']:.2f}, TV {numbers['tv']:.2f}")
    _colourbar(figure, image, axes)
    return figure


def between_valley(part: float = 1.0) -> Figure:
    """The valley between start and goal: states drawn uniformly in time and in arc length."""
    figure, axes = _figure(1, 3, (13.2, 4.1), equal=False)
    start, goal = torch.tensor([-0.75, -0.5]), torch.tensor([0.7, 0.55])
    x = torch.cat([start, goal])[None]
    low, high = torch.full((2,), -1.1), torch.full((2,), 1.1)
    shares = torch.linspace(0.0, 1.0, 101)
    for ax, by, colour in ((axes[0], "time", SAMPLE), (axes[1], "arc", DATA)):
        fitted = fit_between(by, steps=_steps(1100, part))
        _between_map(ax, fitted, x, low, high)
        saddle = mid_path_saddle(fitted.model)
        ax.set_title(f"drawn uniformly in {'time' if by == 'time' else 'arc length'}")
        energy = path_profile(fitted.model, shares)
        profile = energy - energy.amin(-1, keepdim=True)
        middle = profile.quantile(0.5, dim=0)
        axes[2].plot(shares, middle, color=colour, lw=2, label=f"{by}: saddle {saddle:+.2f} nats")
        axes[2].fill_between(
            shares, profile.quantile(0.1, dim=0), profile.quantile(0.9, dim=0),
            color=colour, alpha=0.15, lw=0,
        )  # fmt: skip
    axes[2].set_xlabel("share of the straight line from start to goal")
    axes[2].set_ylabel("energy above the lowest on the line (nats)")
    axes[2].set_title("along the path: median and 10-90% of 256 pairs")
    axes[2].legend(frameon=False)
    axes[2].set_ylim(0, 5)
    return figure


def latent_branches(part: float = 1.0) -> Figure:
    """Two branches: one answer without a latent, one of two with it."""
    density = TwoBranches()
    figure, axes = _figure(1, 3, (13.2, 4.1), equal=False)
    gen = torch.Generator().manual_seed(3)
    x, y = density.sample(1500, gen)
    axes[0].scatter(x, y, s=3, color=DATA, lw=0)
    axes[0].set_title("data: each x may go either way")
    for ax, latent in ((axes[1], False), (axes[2], True)):
        model = fit_two_branches(latent, steps=_steps(600, max(part, 0.5))).model
        repeated = x[:200, None].expand(-1, 8, 1)
        z = sample_latents(repeated.numel(), 1, gen).view_as(repeated) if latent else None
        answer = infer_branch(model, repeated, z)
        shares = branch_shares(density, repeated, answer)
        colour: Any = SAMPLE if z is None else z.flatten().numpy()
        cmap = "coolwarm" if latent else None
        dots = ax.scatter(repeated.flatten(), answer.flatten(), s=6, c=colour, cmap=cmap, lw=0)
        name = "F(x, y, z), z drawn at random" if latent else "F(x, y)"
        ax.set_title(f"descent from 0, {name}")
        ax.set_xlabel(
            f"{shares['precision']:.0%} of the answers on a branch;\n"
            f"both branches reached under {shares['both_branches']:.0%} of the x"
        )
        if latent:
            figure.colorbar(dots, ax=ax, label="z", shrink=0.8)
    for ax in axes:
        ax.set_ylim(-1.2, 1.2)
    return figure


# ---------------------------------------------------------------------- pieces


def _steps(full: int, part: float) -> int:
    return max(50, round(full * part))


def _recipe_steps(recipe: str, part: float) -> int:
    # About equal processor time: Langevin negatives and second derivatives cost more a step.
    full = {"margin": 2500, "persistent_cd": 800, "score_matching": 2000}.get(recipe, 1200)
    return _steps(full, part)


def _figure(
    rows: int, columns: int, size: tuple[float, float], equal: bool = True
) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns)
    for ax in axes.flat:
        ax.tick_params(labelsize=8, colors=GREY)
        for side in ax.spines.values():
            side.set_color("#d1d5db")
        if equal:
            ax.set_aspect("equal")
            ax.set_xticks([])
            ax.set_yticks([])
    return figure, axes


@torch.no_grad()
def _surface(ax: Any, density: ToyDensity, energy: Callable[[Tensor], Tensor]) -> Any:
    """Energy above its lowest percentile, cut off at eight nats; bright is likely."""
    n = 240
    axis = [torch.linspace(float(density.low[i]), float(density.high[i]), n) for i in (0, 1)]
    grid = torch.stack(torch.meshgrid(*axis, indexing="xy"), dim=-1)
    e = energy(grid.view(-1, 2)).view(n, n)
    e = (e - e.flatten().quantile(0.005)).clamp(0.0, 8.0)
    extent = (axis[0][0], axis[0][-1], axis[1][0], axis[1][-1])
    return ax.imshow(
        e.numpy(), origin="lower", extent=[float(v) for v in extent], cmap=ENERGY_MAP,
        vmin=0.0, vmax=8.0, interpolation="bilinear",
    )  # fmt: skip


def _points(ax: Any, density: ToyDensity, y: Tensor, colour: str = SAMPLE) -> None:
    ax.scatter(y[:, 0], y[:, 1], s=2.5, color=colour, alpha=0.6, lw=0)
    ax.set_xlim(float(density.low[0]), float(density.high[0]))
    ax.set_ylim(float(density.low[1]), float(density.high[1]))


def _colourbar(figure: Figure, image: Any, axes: Any) -> None:
    bar = figure.colorbar(image, ax=list(axes), shrink=0.85, pad=0.01)
    bar.set_label("energy above the lowest (nats)", fontsize=9)
    bar.ax.tick_params(labelsize=8)


@torch.no_grad()
def _between_map(ax: Any, fitted: Fitted, x: Tensor, low: Tensor, high: Tensor) -> None:
    n = 200
    axis = [torch.linspace(float(low[i]), float(high[i]), n) for i in (0, 1)]
    grid = torch.stack(torch.meshgrid(*axis, indexing="xy"), dim=-1).view(1, -1, 2)
    e = fitted.model(grid, x[:, None]).view(n, n)
    e = (e - e.min()).clamp(max=8.0)
    extent = [float(low[0]), float(high[0]), float(low[1]), float(high[1])]
    ax.imshow(
        e.numpy(), origin="lower", extent=extent, cmap=ENERGY_MAP, vmin=0, vmax=8,
        interpolation="bilinear",
    )  # fmt: skip
    gen = torch.Generator().manual_seed(2)
    config = SamplerConfig(candidates=4096, diversity="farthest")
    y = draw(fitted.model, 48, UniformProposal(low, high), x=x, config=config, generator=gen).y[0]
    ax.scatter(y[:, 0], y[:, 1], s=9, color="white", edgecolor="black", lw=0.5, label="samples")
    ax.scatter(x[0, 0], x[0, 1], s=70, color=START, edgecolor="white", label="start", zorder=3)
    ax.scatter(x[0, 2], x[0, 3], s=70, color=GOAL, edgecolor="white", label="goal", zorder=3)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.legend(loc="upper left", fontsize=8, frameon=True)
