"""Curves of what was learned, and the rows of a run's log that they are drawn from."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hierebm.plotting.drawing import CURVES, DPI, INK, plain_axes

AT_END, EVER = "at the end of the episode", "goal ever reached"
"""Names of the two rates in legends; a success rate without a name is that at the end."""


def success_curves(
    rates: Mapping[int, tuple[float, float]],
) -> dict[str, tuple[list[int], list[float], None]]:
    """Curves for :func:`plot_success`: both rates under their names, or one where they are equal.

    Args:
        rates: env steps -> (success rate, reached rate).
    """
    steps = list(rates)
    success, reached = ([pair[i] for pair in rates.values()] for i in range(2))
    if success == reached:
        return {"": (steps, success, None)}
    return {AT_END: (steps, success, None), EVER: (steps, reached, None)}


def plot_success(
    steps: ArrayLike | Mapping[str, tuple[ArrayLike, ArrayLike, Any]],
    success: ArrayLike | None = None,
    ci: ArrayLike | None = None,
    *,
    title: str = "Success while learning",
) -> Figure:
    """Success rate over env steps.

    Args:
        steps: (N,) env steps; or a mapping name -> (steps, success, ci or None) for several curves.
        success: (N,) rates in [0, 1], at the end of the episode unless names say otherwise.
        ci: (N, 2) bounds of an interval.
        title: of the figure.
    """
    if isinstance(steps, Mapping):
        curves = dict(steps)
    else:
        curves = {"": (steps, [] if success is None else success, ci)}
    figure = Figure(figsize=(7, 4.2), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    for color, (name, (x, y, bounds)) in zip(cycle(CURVES), curves.items(), strict=False):
        x, y = np.asarray(x, float), np.asarray(y, float)
        if bounds is not None:
            low, high = np.asarray(bounds, float).T
            ax.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
        ax.plot(x, y, color=color, linewidth=2, marker="o", markersize=3.5, label=name or None)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlim(left=0)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    ax.set_xlabel("env steps", color=INK)
    named = {AT_END, EVER}.intersection(curves)
    ax.set_ylabel("success rate" + ("" if named else f" {AT_END}"), color=INK)
    plain_axes(ax)
    if any(curves):
        ax.legend(loc="lower right", frameon=False)
    ax.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    return figure


def read_progress(folder: str | os.PathLike[str], key: str) -> tuple[list[int], list[float]]:
    """(steps, values) of one key from a run folder's ``progress.jsonl``.

    Lines that are none, as a kill or a full disk leaves them, are left out with a warning.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    steps, values = [], []
    path, torn = Path(folder) / "progress.jsonl", 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            step, value = int(row["step"]), row.get(key)
        except (ValueError, TypeError, KeyError):
            torn += 1
            continue
        if value is not None:
            steps.append(step)
            values.append(float(value))
    if torn:
        warnings.warn(
            f"{torn} line(s) of {path} are left out: a kill or a full disk has torn them",
            RuntimeWarning,
            stacklevel=2,
        )
    return steps, values
