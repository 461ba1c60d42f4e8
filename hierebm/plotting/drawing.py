"""What the plots have in common: geometry, walls, axes, colours, encoding as PNG and GIF."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hierebm.types import BoolArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

START, GOAL, PATH, INK, FAINT, WALL = (
    "#1f6feb",
    "#d6336c",
    "#f76707",
    "#343a40",
    "#ced4da",
    "#495057",
)
"""Colours by what they stand for."""
CASING = [patheffects.Stroke(linewidth=4.5, foreground="white"), patheffects.Normal()]
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]
DPI = 120
CURVES = (START, PATH, GOAL, "#2f9e44", "#7048e8", "#868e96", "#0b7285", "#862e9c")
"""Colours of the curves of one picture."""


@dataclass(frozen=True)
class Walls:
    """A map of walls in the plane of the first two goal dimensions.

    Attributes:
        mask: (H, W) bool, True where there is wall; row 0 is at the lowest y.
        extent: (x_min, x_max, y_min, y_max) of the whole map.
    """

    mask: BoolArray
    extent: tuple[float, float, float, float]


def plane(points: NDArray[Any]) -> NDArray[Any]:
    """(N, goal_dim) -> (N, 2): the first two dimensions; a single one gets 0 as the second."""
    points = np.asarray(points)
    if points.shape[1] >= 2:
        return points[:, :2]
    return np.concatenate([points, np.zeros_like(points)], axis=1)


def lift(
    plane: NDArray[np.float32], start: NDArray[np.float32], goal: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, 2) -> (N, goal_dim): further dimensions as at the nearest point from start to goal."""
    dim = len(start)
    if dim <= 2:
        return plane[:, :dim]
    line = goal[:2] - start[:2]
    t = np.clip((plane - start[:2]) @ line / max(float(line @ line), 1e-9), 0.0, 1.0)
    rest = start[2:] + t[:, None] * (goal[2:] - start[2:])
    return np.concatenate([plane, rest.astype(np.float32)], axis=1)


def resample(line: NDArray[np.float32], n: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """n points evenly along a polyline, and how far along they are."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    along = np.linspace(0.0, length[-1], n)
    columns = [np.interp(along, length, line[:, d]) for d in range(line.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32), along


def extent_of(walls: Walls | None, points: NDArray[Any]) -> tuple[float, float, float, float]:
    """The walls' extent, or a square around (N, 2) points."""
    if walls is not None:
        return walls.extent
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, 0.62 * max(float((high - low).max()), 1e-3)
    return (
        float(middle[0] - half), float(middle[0] + half),
        float(middle[1] - half), float(middle[1] + half),
    )  # fmt: skip


def in_walls(walls: Walls, plane: NDArray[np.float32], x: NDArray[Any]) -> BoolArray:
    """(R, C) bool for pixels (R * C, 2) whose columns are at x (C,)."""
    x_min, x_max, y_min, y_max = walls.extent
    height, width = walls.mask.shape
    column = ((plane[:, 0] - x_min) / (x_max - x_min) * width).astype(int).clip(0, width - 1)
    row = ((plane[:, 1] - y_min) / (y_max - y_min) * height).astype(int).clip(0, height - 1)
    return walls.mask[row, column].reshape(-1, len(x))


def square_figure(walls: Walls | None, points: NDArray[Any]) -> tuple[Figure, Axes]:
    """A figure with one map: walls and frame drawn, limits set."""
    figure = Figure(figsize=(6.4, 6.2), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    draw_walls(ax, walls)
    frame(ax, extent_of(walls, points), enclosed=walls is not None)
    return figure, ax


def frame(ax: Axes, extent: tuple[float, float, float, float], *, enclosed: bool = False) -> None:
    """Limits, equal scales and a frame for a map; an enclosed one has a wall all around."""
    x_min, x_max, y_min, y_max = extent
    # Markers at the very edge of the world should be seen whole.
    margin = 0.025 * (x_max - x_min) if enclosed else 0.0
    ax.set_xlim(x_min - margin, x_max + margin)
    ax.set_ylim(y_min - margin, y_max + margin)
    ax.set_aspect("equal")
    if enclosed:
        ax.set_facecolor(WALL)
        size = (x_max - x_min, y_max - y_min)
        ax.add_patch(Rectangle((x_min, y_min), *size, color="white", linewidth=0, zorder=0))
    for spine in ax.spines.values():
        spine.set_color(WALL)
        spine.set_linewidth(1.2)
    ax.tick_params(colors=INK, labelsize=8)


def draw_walls(ax: Axes, walls: Walls | None) -> None:
    """Fill the cells that are wall."""
    if walls is None:
        return
    from matplotlib.colors import to_rgba

    picture = np.zeros((*walls.mask.shape, 4))
    picture[walls.mask] = to_rgba(WALL)
    ax.imshow(picture, extent=walls.extent, origin="lower", interpolation="nearest", zorder=3)


def mark_ends(ax: Axes, start: NDArray[Any], goal: NDArray[Any]) -> None:
    """Mark state and goal, (2,) each."""
    end = {"edgecolors": "white", "linewidths": 1.4, "zorder": 8}
    dots(ax, start[None], s=130, c=START, marker="o", label="state s", **end)
    dots(ax, goal[None], s=260, c=GOAL, marker="*", label="goal g", **end)


def dots(ax: Axes, points: NDArray[Any], **style: Any) -> Any:
    """Scatter (N, 2) points."""
    return ax.scatter(points[:, 0], points[:, 1], **style)


def label_axes(ax: Axes, goal_dim: int, slice_: bool = False) -> None:
    """Name the axes of a map; say so where goals were projected (or sliced)."""
    if goal_dim <= 2:
        ax.set_xlabel("x", color=INK)
        ax.set_ylabel("y" if goal_dim == 2 else "", color=INK)
        return
    how = "others as on the way from s to g" if slice_ else f"projected from {goal_dim}"
    ax.set_xlabel(f"goal dimension 1 ({how})", color=INK)
    ax.set_ylabel("goal dimension 2", color=INK)


def colorbar(figure: Figure, ax: Axes, mappable: Any, label: str) -> None:
    """A slim colour bar beside a map."""
    ticks = MaxNLocator(nbins=6, min_n_ticks=2)
    bar = figure.colorbar(mappable, ax=ax, shrink=0.8, pad=0.02, fraction=0.05, ticks=ticks)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=8)


def finish(figure: Figure, ax: Axes, title: str) -> None:
    """Title, and the legend below the map."""
    ax.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=4, frameon=False, fontsize=9,
        labelcolor=INK,
    )  # fmt: skip


def plain_axes(ax: Axes) -> None:
    """Grid and two spines for a curve."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.grid(color=FAINT, linewidth=0.6, alpha=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=8)


def frames_to_gif(frames: Iterable[NDArray[np.uint8]], fps: float) -> bytes:
    """Encode pictures (height, width, channels), 1, 3 or 4 of them, as an animation without end."""
    from PIL import Image

    # Of 256 colours at once: only one of them is held as it is.
    first, *others = (
        Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame[..., :3]).quantize(256)
        for frame in frames
    )
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=1000.0 / fps, loop=0)
    return buffer.getvalue()


def figure_to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG with the Agg canvas, whatever backend is active."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return buffer.getvalue()
