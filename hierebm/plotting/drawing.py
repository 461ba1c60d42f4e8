"""What the plots have in common: maps, walls, axes, colours, encoding as PNG and GIF."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
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


MOST_STRETCHED = 5.0
"""Axes whose ranges differ by more have scales of their own."""

Extent = tuple[float, float, float, float]
"""(x_min, x_max, y_min, y_max)."""


@dataclass(frozen=True)
class Walls:
    """A map of walls in the plane of the first two goal axes.

    Attributes:
        mask: (H, W) bool, True where there is wall; row 0 is at the lowest y.
        extent: (x_min, x_max, y_min, y_max) of the whole map.
    """

    mask: BoolArray
    extent: Extent

    def contain(self, points: NDArray[Any]) -> BoolArray:
        """Whether points (N, 2) are in walls: (N,); those beyond the map as its edge is."""
        x_min, x_max, y_min, y_max = self.extent
        height, width = self.mask.shape
        column = ((points[:, 0] - x_min) / (x_max - x_min) * width).astype(int)
        row = ((points[:, 1] - y_min) / (y_max - y_min) * height).astype(int)
        inside: BoolArray = self.mask[row.clip(0, height - 1), column.clip(0, width - 1)]
        return inside


class Shape(NamedTuple):
    """What lies on the ground, in the plane of the first two goal axes.

    Attributes:
        outline: (K, 2) corners.
        colour: any that matplotlib knows.
        filled: else the outline alone is drawn.
    """

    outline: NDArray[Any]
    colour: str
    filled: bool


def resample(line: NDArray[np.float32], n: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """n points evenly along a polyline, and how far along they are."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    along = np.linspace(0.0, length[-1], n)
    columns = [np.interp(along, length, line[:, d]) for d in range(line.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32), along


def extent_of(points: NDArray[Any]) -> Extent:
    """A square around (N, 2) points; a rectangle where one axis is far longer than the other."""
    low, high = points.min(0), points.max(0)
    size = np.maximum(high - low, 1e-3 * max(float((high - low).max()), 1e-3))
    if size.max() <= MOST_STRETCHED * size.min() or (high - low).min() <= 0.0:
        size[:] = size.max()
    middle, half = (low + high) / 2, 0.62 * size
    return (
        float(middle[0] - half[0]), float(middle[0] + half[0]),
        float(middle[1] - half[1]), float(middle[1] + half[1]),
    )  # fmt: skip


def frame(ax: Axes, extent: Extent, *, enclosed: bool = False) -> None:
    """Limits, scales and a frame for a map; an enclosed one has a wall all around.

    Scales are equal on a square map and where there are walls.
    """
    x_min, x_max, y_min, y_max = extent
    # Markers at the very edge of the world should be seen whole.
    margin = 0.025 * (x_max - x_min) if enclosed else 0.0
    ax.set_xlim(x_min - margin, x_max + margin)
    ax.set_ylim(y_min - margin, y_max + margin)
    if enclosed or np.isclose(x_max - x_min, y_max - y_min):
        ax.set_aspect("equal")
    else:
        ax.set_box_aspect(1)
    if enclosed:
        ax.set_facecolor(WALL)
        size = (x_max - x_min, y_max - y_min)
        ax.add_patch(Rectangle((x_min, y_min), *size, color="white", linewidth=0, zorder=0))
        # Over the edge of what fills the map: pixels of both may differ by one.
        edge: dict[str, Any] = {"fill": False, "edgecolor": WALL, "linewidth": 2, "zorder": 3}
        ax.add_patch(Rectangle((x_min, y_min), *size, **edge))
    for spine in ax.spines.values():
        spine.set_color(WALL)
        spine.set_linewidth(1.2)
    ax.locator_params(nbins=7)
    ax.tick_params(colors=INK, labelsize=8)


def draw_walls(ax: Axes, walls: Walls | None) -> None:
    """Fill the cells that are wall."""
    if walls is None:
        return
    picture = np.zeros((*walls.mask.shape, 4))
    picture[walls.mask] = to_rgba(WALL)
    ax.imshow(picture, extent=walls.extent, origin="lower", interpolation="nearest", zorder=3)


def draw_shapes(ax: Axes, shapes: Sequence[Shape], *, over: bool = False) -> None:
    """Draw what lies on the ground: under all else, or see-through over a coloured surface."""
    for shape in shapes:
        style: dict[str, Any] = {"edgecolor": shape.colour, "linewidth": 1.4}
        if shape.filled and not over:
            style["linewidth"] = 0.0
        face = to_rgba(shape.colour, 0.15 if over else 1.0) if shape.filled else "none"
        ax.add_patch(Polygon(shape.outline, facecolor=face, zorder=1.2 if over else 0.5, **style))


def mark_ends(ax: Axes, start: NDArray[Any], goal: NDArray[Any]) -> None:
    """Mark state and goal, (2,) each."""
    end = {"edgecolors": "white", "linewidths": 1.4, "zorder": 8}
    dots(ax, start[None], s=110, c=START, marker="o", label="state s", **end)
    dots(ax, goal[None], s=170, c=GOAL, marker="*", label="goal g", **end)


def dots(ax: Axes, points: NDArray[Any], **style: Any) -> Any:
    """Scatter (N, 2) points."""
    return ax.scatter(points[:, 0], points[:, 1], **style)


def colorbar(figure: Figure, axes: Sequence[Axes], mappable: Any, label: str) -> None:
    """A slim colour bar beside the maps."""
    low, high = (0.0 if end is None else float(end) for end in mappable.get_clim())
    # Those beyond the ends would all be drawn at the ends.
    at = MaxNLocator(nbins=6, min_n_ticks=2).tick_values(low, high)
    ticks = [tick for tick in at if low - 1e-9 <= tick <= high + 1e-9]
    bar = figure.colorbar(mappable, ax=list(axes), shrink=0.8, pad=0.02, fraction=0.05, ticks=ticks)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=8)


def finish(figure: Figure, ax: Axes, title: str) -> None:
    """Title above the first map, and the legend of it below all of them."""
    ax.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncol=5, frameon=False,
        fontsize=9, labelcolor=INK,
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
