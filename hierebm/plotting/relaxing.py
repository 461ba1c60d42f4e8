"""The sequence optimiser at work, frame by frame: chains of states relax to a way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from hierebm.planning.sequence import SequenceOptimizer
from hierebm.plotting.drawing import CASING, INK, PATH, Walls, draw_walls, frame, mark_ends
from hierebm.types import FloatArray

SIDE, DPI = 3.2, 100


def relaxing_frames(
    optimizer: SequenceOptimizer,
    start: FloatArray,
    goal: FloatArray,
    walls: Walls,
    *,
    seed: int = 0,
    last: int = 8,
) -> Iterator[NDArray[np.uint8]]:
    """Plan from start to goal, (2,) each, and yield pictures (height, width, 3).

    The cheapest chain is drawn in colour, the others faintly.

    Args:
        optimizer: trained, of states in the plane.
        start, goal: ends of the sequence.
        walls: only drawn; the optimiser does not know of them.
        seed: of the plan.
        last: how often the plan is shown at the end.
    """
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    optimizer.plan(
        torch.from_numpy(start)[None],
        torch.from_numpy(goal)[None],
        generator=torch.Generator().manual_seed(seed),
        watch=lambda *chains: seen.append(chains),
    )
    for step, chains in enumerate([*seen, *[seen[-1]] * (last - 1)]):
        is_plan = step >= len(seen) - 1
        yield _picture(*chains, walls, "plan" if is_plan else f"step {step}")


def _picture(
    states: Tensor, length: Tensor, cost: Tensor, walls: Walls, title: str
) -> NDArray[np.uint8]:
    figure = Figure(figsize=(SIDE, SIDE), dpi=DPI)
    ax: Any = figure.add_axes((0.02, 0.02, 0.96, 0.88))
    draw_walls(ax, walls)
    frame(ax, walls.extent, enclosed=True)
    ax.set_xticks([])
    ax.set_yticks([])
    chains = [s[: n + 1].numpy() for s, n in zip(states, length.tolist(), strict=True)]
    best = int(cost.argmin())
    for chain in chains[:best] + chains[best + 1 :]:
        ax.plot(*chain.T, ".-", color=INK, linewidth=0.5, markersize=2.5, alpha=0.35, zorder=4)
    ax.plot(*chains[best].T, ".-", color=PATH, linewidth=2, zorder=5, path_effects=CASING)
    mark_ends(ax, chains[best][0], chains[best][-1])
    told = f"{title}: {len(chains[best])} states, {float(cost[best]):.0f} nats"
    ax.set_title(told, fontsize=9, color=INK)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
