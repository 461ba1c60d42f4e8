"""Success against environment steps and against seconds, two fields a world."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 2
"""Worlds in a row of the picture."""


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Medians over seeds, with a band from the lowest to the highest.

    Full lines are success at the end of the episode; dotted ones, where they are others, how often
    the goal was ever reached.
    """
    from matplotlib.figure import Figure

    worlds = list(dict.fromkeys(row["world"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = math.ceil(len(worlds) / COLUMNS)
    figure = Figure(figsize=(7.5 * COLUMNS, 2.9 * lines + 0.8), layout="constrained")
    axes = figure.subplots(lines, 2 * COLUMNS, squeeze=False, sharey=True)
    for ax in axes.reshape(-1)[2 * len(worlds) :]:
        ax.set_visible(False)
    for world, (by_steps, by_seconds) in zip(worlds, axes.reshape(-1, 2), strict=False):
        for i, method in enumerate(methods):
            curves = [r["curve"] for r in rows if (r["world"], r["method"]) == (world, method)]
            if curves:
                # (seeds, points, 4): steps, seconds, success, ever reached.
                points = np.array(curves, float)
                for ax, x in ((by_steps, 0), (by_seconds, 1)):
                    _curve(ax, points, x, f"C{i}", method)
        by_steps.set_title(world, loc="left", fontweight="bold")
        by_steps.set_xlabel("environment steps")
        by_seconds.set_xlabel("seconds of training, one thread")
        by_steps.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if v else "0")
        for ax in (by_steps, by_seconds):
            ax.set_ylim(-0.02, 1.02)
            ax.set_xlim(left=0)
            ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("success rate")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles += axes[0, 0].plot([], [], "k-") + axes[0, 0].plot([], [], "k:")
    labels += ["at the end of the episode", "goal ever reached, where it differs"]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)


def _curve(ax: Any, points: Any, x: int, color: str, label: str) -> None:
    along, success, reached = (np.median(points[..., k], axis=0) for k in (x, 2, 3))
    low, high = points[..., 2].min(axis=0), points[..., 2].max(axis=0)
    ax.fill_between(along, low, high, color=color, alpha=0.15, linewidth=0)
    ax.plot(along, success, color=color, linewidth=1.8, label=label)
    if not np.array_equal(points[..., 2], points[..., 3]):
        ax.plot(along, reached, color=color, linewidth=1.4, linestyle=":")
