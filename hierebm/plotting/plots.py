"""Pictures of plans, energies, learning curves and episodes.

Every function returns a new ``matplotlib.figure.Figure`` and leaves pyplot and its settings alone,
so it works in threads, notebooks and without a display. Save one with ``figure.savefig(path)``.

Goals of more than two dimensions are projected on the first two, and the axes say so.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from hierebm.plotting.drawing import (
    CASING,
    CURVES,
    DPI,
    GOAL,
    HALO,
    INK,
    PATH,
    Walls,
    colorbar,
    dots,
    draw_walls,
    extent_of,
    finish,
    frame,
    in_walls,
    label_axes,
    lift,
    mark_ends,
    plain_axes,
    plane,
    resample,
    square_figure,
)

if TYPE_CHECKING:
    from hierebm.planning.graph.plan import Plan


def walls_of(env: Any) -> Walls | None:
    """The walls of an env that has a ``layout`` with ``walls`` and ``extent``; else None."""
    layout = getattr(getattr(env, "unwrapped", env), "layout", None)
    mask, extent = getattr(layout, "walls", None), getattr(layout, "extent", None)
    if mask is None or extent is None:
        return None
    x_min, x_max, y_min, y_max = (float(bound) for bound in extent)
    return Walls(np.asarray(mask, bool), (x_min, x_max, y_min, y_max))


# ---------------------------------------------------------------------------------------- plans


def plot_plan(
    plan: Plan,
    walls: Walls | None = None,
    *,
    title: str | None = None,
    max_edges: int = 3000,
) -> Figure:
    """The subgoal graph and its shortest path.

    Args:
        plan: nodes, edges with distances, path, energies.
        walls: drawn underneath.
        title: instead of the predicted length of the path.
        max_edges: of more edges, the shortest are drawn.
    """
    nodes = plane(plan.nodes)
    figure, ax = square_figure(walls, nodes)
    edges, distances = np.asarray(plan.edges).reshape(-1, 2), np.asarray(plan.distances)
    shortest = np.argsort(distances)[:max_edges][::-1]
    if len(shortest):
        # Short edges are the ones to trust: the longer, the fainter.
        length = distances[shortest] / max(float(distances[shortest].max()), 1e-9)
        opacity = (1.0 - 0.85 * length) * min(1.0, 0.2 + 200 / len(shortest))
        lines = LineCollection(list(nodes[edges[shortest]]), colors=INK, linewidths=0.6, zorder=2)
        lines.set_alpha(opacity.tolist())
        ax.add_collection(lines)
    inner = np.arange(1, len(nodes) - 1)
    energies = np.asarray(plan.energies, float)[inner]
    known = np.isfinite(energies)
    if known.any():
        marked = dots(
            ax,
            nodes[inner[known]],
            c=energies[known],
            cmap="viridis_r",
            s=34,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )
        colorbar(figure, ax, marked, "energy E(w | s, g), nats")
    if not known.all():
        dots(
            ax,
            nodes[inner[~known]],
            c="#868e96",
            s=34,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )
    if plan.path:
        points = nodes[plan.path]
        ax.plot(*points.T, color=PATH, linewidth=2.6, zorder=5, path_effects=CASING)
        between = [node for node in plan.path if 0 < node < len(nodes) - 1]
        dots(ax, nodes[between], s=90, facecolors="none", edgecolors=PATH, linewidths=2, zorder=6)
        n_subgoals = f"{len(between)} subgoal" + "s" * (len(between) != 1)
        text = f"Shortest path: {plan.length:.0f} predicted steps, {n_subgoals}"
        if len(between) + 1 == len(plan.path):
            text = f"Path up to its unexpanded segment: {n_subgoals}"
    else:
        text = "No path found"
    mark_ends(ax, nodes[0], nodes[-1])
    label_axes(ax, plan.nodes.shape[1])
    finish(figure, ax, text if title is None else title)
    return figure


def plot_energy_valley(
    energy_fn: Callable[[NDArray[np.float32]], ArrayLike],
    start: ArrayLike,
    goal: ArrayLike,
    extent: Sequence[float] | None = None,
    samples: ArrayLike | None = None,
    *,
    walls: Walls | None = None,
    path: ArrayLike | None = None,
    resolution: int = 160,
    title: str = "Energy between state and goal",
) -> Figure:
    """The energy of every point as a subgoal between state and goal, and its profile along a path.

    Args:
        energy_fn: (N, goal_dim) points -> (N,) energies.
        start: (goal_dim,).
        goal: (goal_dim,).
        extent: (x_min, x_max, y_min, y_max); default: the walls' or what the points need.
        samples: (M, goal_dim) points drawn from the energy.
        walls: hidden from the map, drawn on top.
        path: (P, goal_dim) points that the profile follows; default: the straight line.
        resolution: points per side of the map.
        title: of the figure.
    """
    from matplotlib.gridspec import GridSpec

    start, goal = np.asarray(start, np.float32), np.asarray(goal, np.float32)
    drawn = np.zeros((0, len(start)), np.float32) if samples is None else np.asarray(samples)
    line = np.stack([start, goal]) if path is None else np.asarray(path, np.float32)
    bounds = extent_of(walls, plane(np.concatenate([line, drawn]))) if extent is None else extent
    x_min, x_max, y_min, y_max = (float(bound) for bound in bounds)

    figure = Figure(figsize=(6.4, 7.6), dpi=DPI, layout="constrained")
    grid = GridSpec(2, 1, figure=figure, height_ratios=[4.2, 1])
    ax, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])

    x, y = np.linspace(x_min, x_max, resolution), np.linspace(y_min, y_max, resolution)
    pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
    surface = np.asarray(energy_fn(lift(pixels, start, goal)), float).reshape(resolution, -1)
    inside = surface if walls is None else np.where(in_walls(walls, pixels, x), np.nan, surface)
    surface = surface - np.nanmin(inside)
    # Far from the valley an energy can rise without bound; its shape is near the bottom.
    ceiling = max(float(np.nanquantile(inside, 0.9) - np.nanmin(inside)), 1e-6)
    levels = np.linspace(0.0, ceiling, 33)
    filled = ax.contourf(x, y, surface, levels=levels, cmap="YlGnBu", extend="max")
    ax.contour(x, y, surface, levels=levels[::4], colors="white", linewidths=0.5, alpha=0.6)
    colorbar(figure, ax, filled, "energy above the lowest, nats")
    draw_walls(ax, walls)
    if len(drawn):
        dots(ax, plane(drawn), s=16, c="white", edgecolors=INK, linewidths=0.8, zorder=4,
            label=f"{len(drawn)} samples",
        )  # fmt: skip
    ax.plot(*plane(line).T, color=PATH, linewidth=2, linestyle=(0, (4, 2)), zorder=5)
    mark_ends(ax, plane(start[None])[0], plane(goal[None])[0])
    frame(ax, (x_min, x_max, y_min, y_max), enclosed=walls is not None and extent is None)
    label_axes(ax, len(start), slice_=True)
    finish(figure, ax, title)

    points, along = resample(line, 200)
    profile = np.asarray(energy_fn(points), float)
    profile = profile - profile.min()
    below.fill_between(along, profile, color=PATH, alpha=0.15, linewidth=0)
    below.plot(along, profile, color=PATH, linewidth=2)
    below.set_xlim(0, max(float(along[-1]), 1e-9))
    below.set_ylim(0, max(1.15 * float(profile.max()), 0.5))
    below.set_ylabel("energy, nats", color=INK)
    kind = "straight line" if path is None else "path"
    below.set_xlabel(f"distance along the dashed {kind} from state to goal", color=INK)
    plain_axes(below)
    return figure


def plan_figures(
    model: Any, observation: Mapping[str, Any], walls: Walls | None = None
) -> dict[str, Figure]:
    """``"path"`` and, where the agent has an energy, ``"energy"``: the plan for one observation.

    Args:
        model: an agent with ``plan(observation)``; the energy is read from ``model.energy.energy``.
        observation: a single Dict observation.
        walls: from :func:`walls_of`.

    Raises:
        RuntimeError: the agent cannot plan yet.
    """
    plan = model.plan(observation)
    figures = {"path": plot_plan(plan, walls)}
    energy = getattr(getattr(model, "energy", None), "energy", None)
    if energy is not None and np.isfinite(plan.energies).any():
        start, goal = plan.nodes[0], plan.nodes[-1]
        figures["energy"] = plot_energy_valley(
            lambda points: energy(points, start, goal),
            start,
            goal,
            samples=plan.nodes[1:-1][np.isfinite(plan.energies[1:-1])],
            walls=walls,
            path=plan.path_points if len(plan.path) > 2 else None,
        )
    return figures


# ------------------------------------------------------------------------- episodes and learning


def plot_rollout(
    trajectory: ArrayLike,
    goal: ArrayLike,
    walls: Walls | None = None,
    *,
    subgoals: ArrayLike | None = None,
    success_radius: float | None = None,
    title: str | None = None,
) -> Figure:
    """One episode: where the agent went, coloured by time, and the subgoals that it pursued.

    Args:
        trajectory: (T + 1, goal_dim) achieved goals.
        goal: (goal_dim,).
        walls: drawn underneath.
        subgoals: (M, goal_dim) in the order in which they were pursued.
        success_radius: of a disc around the goal.
        title: of the figure.
    """
    from matplotlib.patches import Circle

    visited, end = np.asarray(trajectory), np.asarray(goal)
    points, target = plane(visited), plane(end[None])[0]
    pursued = np.zeros((0, 2)) if subgoals is None else plane(np.asarray(subgoals))
    figure, ax = square_figure(walls, np.concatenate([points, target[None], pursued]))
    if success_radius is not None:
        ax.add_patch(Circle(tuple(target), success_radius, color=GOAL, alpha=0.18, linewidth=0))
    if len(pursued):
        dots(ax, pursued, s=60, facecolors="white", edgecolors=PATH, linewidths=1.6, zorder=3,
            label="subgoals, in order",
        )  # fmt: skip
        for number, subgoal in enumerate(pursued, 1):
            ax.annotate(str(number), tuple(subgoal), xytext=(5, 5), textcoords="offset points",
                        color=PATH, fontsize=9, fontweight="bold", zorder=7,
                        path_effects=HALO)  # fmt: skip
    segments = LineCollection(
        list(np.stack([points[:-1], points[1:]], axis=1)), cmap="viridis", linewidths=2.6, zorder=4
    )
    segments.set_array(np.arange(len(points) - 1))
    ax.add_collection(segments)
    dots(ax, points, s=6, c="white", edgecolors="none", zorder=5)
    colorbar(figure, ax, segments, "env step")
    mark_ends(ax, points[0], target)
    label_axes(ax, visited.shape[1])
    finish(figure, ax, title if title is not None else f"Episode of {len(points) - 1} steps")
    return figure


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
