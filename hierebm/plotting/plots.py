"""Pictures of plans, energies and episodes.

Every function returns a new ``matplotlib.figure.Figure`` and leaves pyplot and its settings alone,
so it works in threads, notebooks and without a display. Save one with ``figure.savefig(path)``.

Goals of more than two axes are drawn on several maps, each of two axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from hierebm.plotting.along import plot_energy_along
from hierebm.plotting.curves import plot_success, read_progress, success_curves
from hierebm.plotting.drawing import (
    CASING,
    GOAL,
    HALO,
    INK,
    PATH,
    colorbar,
    dots,
    draw_shapes,
    finish,
    mark_ends,
    plain_axes,
    resample,
)
from hierebm.plotting.maps import Map, Pair, lift, maps_of, pairs_of
from hierebm.plotting.world import World, walls_of

if TYPE_CHECKING:
    from hierebm.planning.graph.plan import Plan

__all__ = [
    "World",
    "plan_figures",
    "plot_energy_along",
    "plot_energy_valley",
    "plot_plan",
    "plot_rollout",
    "plot_success",
    "read_progress",
    "success_curves",
    "walls_of",
]

NOWHERE = World()
"""Nothing is known of the world."""
MOST_STEPS_DOTTED, MOST_NUMBERS = 400, 15
"""Dots of the steps of longer episodes would hide the line, and numbers of subgoals each other."""

# ---------------------------------------------------------------------------------------- plans


def plot_plan(
    plan: Plan,
    world: World = NOWHERE,
    *,
    pairs: Sequence[Pair] | None = None,
    title: str | None = None,
    max_edges: int = 3000,
) -> Figure:
    """The subgoal graph and its shortest path.

    Args:
        plan: nodes, edges with distances, path, energies.
        world: its walls are drawn underneath, its success tolerance around the goal.
        pairs: of goal axes, a map for each; default: those with the largest spread.
        title: instead of the predicted length of the path.
        max_edges: of more edges, the shortest are drawn.
    """
    figure, maps, _ = maps_of(plan.nodes, world, plan.nodes[-1], pairs)
    energies = np.asarray(plan.energies, float)[1:-1]
    known = energies[np.isfinite(energies)]
    colours = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    marked = None
    for drawn in maps:
        _draw_edges(drawn, plan, max_edges)
        nodes = drawn.of(plan.nodes)
        style: dict[str, Any] = {"s": 34, "edgecolors": "white", "linewidths": 0.7, "zorder": 4}
        inner, has_energy = nodes[1:-1], np.isfinite(energies)
        if has_energy.any():
            marked = dots(drawn.ax, inner[has_energy], c=known, cmap="viridis_r",
                          vmin=colours[0], vmax=colours[1], **style)  # fmt: skip
        if not has_energy.all():
            dots(drawn.ax, inner[~has_energy], c="#868e96", **style)
        if plan.path:
            drawn.ax.plot(
                *nodes[plan.path].T, color=PATH, linewidth=2.6, zorder=5, path_effects=CASING
            )
            dots(drawn.ax, nodes[_between(plan)], s=90, facecolors="none", edgecolors=PATH,
                 linewidths=2, zorder=6)  # fmt: skip
        mark_ends(drawn.ax, nodes[0], nodes[-1])
    if marked is not None:
        colorbar(figure, [drawn.ax for drawn in maps], marked, "energy E(w | s, g), nats")
    finish(figure, maps[0].ax, _length_of(plan) if title is None else title)
    return figure


def _draw_edges(drawn: Map, plan: Plan, most: int) -> None:
    edges, distances = np.asarray(plan.edges).reshape(-1, 2), np.asarray(plan.distances)
    shortest = np.argsort(distances)[:most][::-1]
    if not len(shortest):
        return
    # Short edges are the ones to trust: the longer, the fainter.
    length = distances[shortest] / max(float(distances[shortest].max()), 1e-9)
    opacity = (1.0 - 0.85 * length) * min(1.0, 0.2 + 200 / len(shortest))
    ends = drawn.of(plan.nodes)[edges[shortest]]
    lines = LineCollection(list(ends), colors=INK, linewidths=0.6, zorder=2)
    lines.set_alpha(opacity.tolist())
    drawn.ax.add_collection(lines)


def _between(plan: Plan) -> list[int]:
    """The subgoals of the path."""
    return [node for node in plan.path if 0 < node < len(plan.nodes) - 1]


def _length_of(plan: Plan) -> str:
    if not plan.path:
        return "No path found"
    n = len(_between(plan))
    n_subgoals = f"{n} subgoal" + "s" * (n != 1)
    if n + 1 == len(plan.path):
        return f"Path up to its unexpanded segment: {n_subgoals}"
    return f"Shortest path: {plan.length:.0f} predicted steps, {n_subgoals}"


def plot_energy_valley(
    energy_fn: Callable[[NDArray[np.float32]], ArrayLike],
    start: ArrayLike,
    goal: ArrayLike,
    world: World = NOWHERE,
    *,
    samples: ArrayLike | None = None,
    path: ArrayLike | None = None,
    pairs: Sequence[Pair] | None = None,
    resolution: int = 160,
    title: str = "Energy between state and goal",
) -> Figure:
    """The energy of every point as a subgoal between state and goal, and its profile along a path.

    On a map of two axes, the other axes of a point are those of the nearest point of the straight
    line from state to goal.

    Args:
        energy_fn: (N, goal_dim) points -> (N,) energies.
        start: (goal_dim,).
        goal: (goal_dim,).
        world: its walls are drawn on top, its success tolerance around the goal.
        samples: (M, goal_dim) points drawn from the energy.
        path: (P, goal_dim) points that the profile follows; default: the straight line.
        pairs: of goal axes, a map for each; default: those with the largest spread.
        resolution: points per side of a map.
        title: of the figure.
    """
    start, goal = np.asarray(start, np.float32), np.asarray(goal, np.float32)
    drawn = np.zeros((0, len(start)), np.float32) if samples is None else np.asarray(samples)
    line = np.stack([start, goal]) if path is None else np.asarray(path, np.float32)
    figure, maps, below = maps_of(
        np.concatenate([line, drawn]), world, goal, pairs, below=0.24,
        of_others="others as on the straight line from s to g",
    )  # fmt: skip
    assert below is not None
    axes = [on.ax for on in maps]
    surfaces = [_surface(on, energy_fn, start, goal, resolution) for on in maps]
    lowest = min(float(np.nanmin(inside)) for *_, inside in surfaces)
    # Far from the valley an energy can rise without bound; its shape is near the bottom.
    ceiling = max(float(np.nanquantile(inside, 0.9)) - lowest for *_, inside in surfaces)
    levels, filled = np.linspace(0.0, max(ceiling, 1e-6), 33), None
    for on, (x, y, surface, _) in zip(maps, surfaces, strict=True):
        draw_shapes(on.ax, on.shapes, over=True)
        filled = on.ax.contourf(x, y, surface - lowest, levels=levels, cmap="YlGnBu", extend="max")
        on.ax.contour(
            x, y, surface - lowest, levels=levels[::4], colors="white", linewidths=0.5, alpha=0.6
        )
        if len(drawn):
            dots(on.ax, on.of(drawn), s=16, c="white", edgecolors=INK, linewidths=0.8, zorder=4,
                 label=f"{len(drawn)} samples")  # fmt: skip
        on.ax.plot(*on.of(line).T, color=PATH, linewidth=2, linestyle=(0, (4, 2)), zorder=5)
        mark_ends(on.ax, on.of(start[None])[0], on.of(goal[None])[0])
    colorbar(figure, axes, filled, "energy above the lowest, nats")
    finish(figure, axes[0], title)
    _draw_profile(below, energy_fn, line, "straight line" if path is None else "path")
    return figure


def _surface(
    on: Map,
    energy_fn: Callable[[NDArray[np.float32]], ArrayLike],
    start: NDArray[np.float32],
    goal: NDArray[np.float32],
    resolution: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """x (C,), y (R,), the energies (R, C), and the same with NaN in walls."""
    x_min, x_max, y_min, y_max = on.extent
    x, y = np.linspace(x_min, x_max, resolution), np.linspace(y_min, y_max, resolution)
    pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
    surface = np.asarray(energy_fn(lift(pixels, start, goal, on.pair)), float)
    inside = surface if on.walls is None else np.where(on.walls.contain(pixels), np.nan, surface)
    shape = (resolution, resolution)
    return x, y, surface.reshape(shape), inside.reshape(shape)


def _draw_profile(
    ax: Any,
    energy_fn: Callable[[NDArray[np.float32]], ArrayLike],
    line: NDArray[np.float32],
    kind: str,
) -> None:
    points, along = resample(line, 200)
    profile = np.asarray(energy_fn(points), float)
    profile = profile - profile.min()
    ax.fill_between(along, profile, color=PATH, alpha=0.15, linewidth=0)
    ax.plot(along, profile, color=PATH, linewidth=2)
    ax.set_xlim(0, max(float(along[-1]), 1e-9))
    ax.set_ylim(0, max(1.15 * float(profile.max()), 0.5))
    ax.set_ylabel("energy, nats", color=INK)
    ax.set_xlabel(f"distance along the dashed {kind} from state to goal", color=INK)
    plain_axes(ax)


def plan_figures(
    model: Any, observation: Mapping[str, Any], world: World = NOWHERE
) -> dict[str, Figure]:
    """``"path"`` and, where there is an energy, ``"energy"``: the plan for one observation.

    The energy is that of points between state and goal, or that of the transitions of a sequence.

    Args:
        model: an agent with ``plan(observation)``; the energy is read from ``model.energy.energy``.
        observation: a single Dict observation.
        world: where it is.

    Raises:
        RuntimeError: the agent cannot plan yet.
    """
    plan = model.plan(observation)
    pairs = pairs_of(plan.nodes, world.walls)
    figures = {"path": plot_plan(plan, world, pairs=pairs)}
    energy = getattr(getattr(model, "energy", None), "energy", None)
    if energy is not None and np.isfinite(plan.energies).any():
        start, goal = plan.nodes[0], plan.nodes[-1]
        figures["energy"] = plot_energy_valley(
            lambda points: energy(points, start, goal),
            start,
            goal,
            world,
            samples=plan.nodes[1:-1][np.isfinite(plan.energies[1:-1])],
            path=plan.path_points if len(plan.path) > 2 else None,
            pairs=pairs,
        )
    elif len(plan.nodes) > 1 and np.isfinite(plan.energies[1:]).all():
        figures["energy"] = plot_energy_along(plan, world, pairs=pairs)
    return figures


# ------------------------------------------------------------------------------------- episodes


def plot_rollout(
    trajectory: ArrayLike,
    goal: ArrayLike,
    world: World = NOWHERE,
    *,
    subgoals: ArrayLike | None = None,
    pairs: Sequence[Pair] | None = None,
    title: str | None = None,
) -> Figure:
    """One episode: where the agent went, coloured by time, and the subgoals that it pursued.

    Args:
        trajectory: (T + 1, goal_dim) achieved goals.
        goal: (goal_dim,), or (K, goal_dim) where it changed, in order.
        world: its walls are drawn underneath, its success tolerance around the last goal.
        subgoals: (M, goal_dim) in the order in which they were pursued.
        pairs: of goal axes, a map for each; default: those with the largest spread.
        title: of the figure.
    """
    visited = np.asarray(trajectory)
    goals = np.asarray(goal).reshape(-1, visited.shape[1])
    pursued = np.zeros((0, visited.shape[1])) if subgoals is None else np.asarray(subgoals)
    figure, maps, _ = maps_of(np.concatenate([visited, goals, pursued]), world, goals[-1], pairs)
    segments = None
    for drawn in maps:
        ax, points = drawn.ax, drawn.of(visited)
        _draw_pursued(ax, drawn.of(pursued))
        if len(goals) > 1:
            dots(ax, drawn.of(goals[:-1]), s=90, marker="*", facecolors="none", edgecolors=GOAL,
                 zorder=6, label="goals before")  # fmt: skip
        segments = LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)),
            cmap="viridis",
            linewidths=2.6,
            zorder=4,
        )
        segments.set_array(np.arange(len(points) - 1))
        ax.add_collection(segments)
        if len(points) < MOST_STEPS_DOTTED:
            dots(ax, points, s=6, c="white", edgecolors="none", zorder=5)
        mark_ends(ax, points[0], drawn.of(goals)[-1])
    colorbar(figure, [drawn.ax for drawn in maps], segments, "env step")
    text = f"Episode of {len(visited) - 1} steps" if title is None else title
    finish(figure, maps[0].ax, text)
    return figure


def _draw_pursued(ax: Any, points: NDArray[Any]) -> None:
    if not len(points):
        return
    dots(ax, points, s=60, facecolors="white", edgecolors=PATH, linewidths=1.6, zorder=3,
         label="subgoals, in order")  # fmt: skip
    every = -(-len(points) // MOST_NUMBERS)
    for number, subgoal in list(enumerate(points, 1))[::every]:
        ax.annotate(str(number), tuple(subgoal), xytext=(5, 5), textcoords="offset points",
                    color=PATH, fontsize=9, fontweight="bold", zorder=7,
                    path_effects=HALO)  # fmt: skip
