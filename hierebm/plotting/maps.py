"""Maps of goal space: one of two axes, or several pairs of them where goals have more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from hierebm.plotting.drawing import (
    DPI,
    GOAL,
    INK,
    Extent,
    Shape,
    Walls,
    draw_shapes,
    draw_walls,
    extent_of,
    frame,
)
from hierebm.plotting.world import World

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pair = tuple[int, int]

MOST_MAPS = 3
# An axis along which everything is within this share of the widest range is not drawn: a table's
# height, along which blocks do not move.
FLAT = 0.01
TOLERANCE: dict[str, Any] = {
    "facecolor": to_rgba(GOAL, 0.18),
    "edgecolor": to_rgba(GOAL, 0.5),
    "linewidth": 0.8,
    "zorder": 1.5,
    "label": "success tolerance",
}


def plane(points: NDArray[Any], pair: Pair = (0, 1)) -> NDArray[Any]:
    """(N, goal_dim) -> (N, 2): two axes of them; a single one gets 0 as the second."""
    points = np.asarray(points)
    if points.shape[1] >= 2:
        return points[:, pair]
    return np.concatenate([points, np.zeros_like(points)], axis=1)


def lift(
    plane: NDArray[np.float32],
    start: NDArray[np.float32],
    goal: NDArray[np.float32],
    pair: Pair = (0, 1),
) -> NDArray[np.float32]:
    """(N, 2) -> (N, goal_dim): further axes as at the nearest point of the line start to goal."""
    dim = len(start)
    if dim <= 2:
        return plane[:, :dim]
    drawn = list(pair)
    line = goal[drawn] - start[drawn]
    t = np.clip((plane - start[drawn]) @ line / max(float(line @ line), 1e-9), 0.0, 1.0)
    lifted = (start + t[:, None] * (goal - start)).astype(np.float32)
    lifted[:, drawn] = plane
    return lifted


def pairs_of(points: NDArray[Any], walls: Walls | None = None, most: int = MOST_MAPS) -> list[Pair]:
    """Which pairs of axes show points (N, goal_dim) best, up to ``most``; walls need the first two.

    Of three axes every pair, of more those with the largest spread, each axis in one pair.
    """
    dim = points.shape[1]
    if dim <= 2:
        return [(0, 1)]
    reach = np.ptp(points, axis=0)
    order = [int(axis) for axis in np.argsort(-points.std(0), kind="stable")]
    wide = [axis for axis in order if reach[axis] > FLAT * reach.max()]
    wide += [axis for axis in order if axis not in wide][: max(2 - len(wide), 0)]
    pairs: list[Pair] = [(0, 1)] if walls is not None else []
    if len(wide) <= 3:
        every = [_sorted((i, j)) for n, j in enumerate(wide) for i in wide[:n]]
        pairs += sorted([pair for pair in every if pair not in pairs][: most - len(pairs)])
    else:
        left = [axis for axis in wide if not (pairs and axis < 2)]
        # The last one of an odd number goes with the widest.
        left += [wide[0]] * (len(left) % 2)
        pairs += [_sorted(pair) for pair in zip(left[::2], left[1::2], strict=True)]
    return pairs[:most]


def _sorted(pair: Pair) -> Pair:
    return min(pair), max(pair)


@dataclass(frozen=True)
class Map:
    """One map of a picture.

    Attributes:
        ax: where it is drawn.
        pair: the axes of the goals that it shows.
        walls: of the world, where it shows the first two axes of the goals.
        shapes: on its ground, likewise.
        extent: of the map.
    """

    ax: Axes
    pair: Pair
    walls: Walls | None
    shapes: tuple[Shape, ...]
    extent: Extent

    @property
    def height_to_width(self) -> float:
        """Of the map."""
        x_min, x_max, y_min, y_max = self.extent
        return (y_max - y_min) / (x_max - x_min)

    def of(self, points: NDArray[Any]) -> NDArray[Any]:
        """(N, goal_dim) -> (N, 2): where points are on this map."""
        return plane(points, self.pair)


def map_on(ax: Axes, pair: Pair, points: NDArray[Any], world: World, goal: NDArray[Any]) -> Map:
    """A map of points (N, goal_dim): walls, success tolerance and frame drawn, axes named.

    Args:
        ax: where to draw it.
        pair: the axes that it shows.
        points: that have to be seen.
        world: its walls and ground are drawn where the pair is that of the first two axes.
        goal: (goal_dim,) what counts as reached around it is shaded.
    """
    seen = plane(points, pair)
    walls, shapes = (world.walls, world.shapes) if pair == (0, 1) else (None, ())
    draw_shapes(ax, shapes)
    extent, enclosed = extent_of(seen), False
    if walls is not None:
        low, high = np.array(walls.extent[::2]), np.array(walls.extent[1::2])
        margin = 0.025 * (high - low)
        enclosed = bool(((seen >= low - margin) & (seen <= high + margin)).all())
        extent = walls.extent if enclosed else extent_of(np.concatenate([seen, [low, high]]))
        draw_walls(ax, walls)
    outline = world.tolerance(goal, pair, extent)
    if len(outline) == 2:
        ax.axvspan(outline[0, 0], outline[1, 0], **TOLERANCE)
    elif len(outline):
        ax.add_patch(Polygon(outline, **TOLERANCE))
        size = np.array([extent[1] - extent[0], extent[3] - extent[2]])
        if walls is None and (np.ptp(outline, axis=0) < size).all():
            extent = extent_of(np.concatenate([seen, outline]))
    frame(ax, extent, enclosed=enclosed)
    dim = points.shape[1]
    names = ("x", "y" if dim == 2 else "") if dim <= 2 else (f"goal axis {i}" for i in pair)
    for name, axis in zip(names, (ax.xaxis, ax.yaxis), strict=True):
        axis.set_label_text(name, color=INK)
    if dim == 1:
        ax.yaxis.set_ticks([])
    return Map(ax, pair, walls, shapes, extent)


def maps_of(
    points: NDArray[Any],
    world: World,
    goal: NDArray[Any],
    pairs: Sequence[Pair] | None = None,
    *,
    below: float = 0.0,
    of_others: str = "",
) -> tuple[Figure, list[Map], Axes | None]:
    """A figure with as many maps as points (N, goal_dim) need.

    Args:
        points, world, goal: as of :func:`map_on`.
        pairs: of axes; default: those of :func:`pairs_of`, up to ``MOST_MAPS``.
        below: height of an axes under the maps, as a share of theirs.
        of_others: what is to be said of the axes that a map does not show.

    Returns:
        The figure, its maps, and the axes below, if any.
    """
    pairs = pairs_of(points, world.walls) if pairs is None else pairs
    n, dim = len(pairs), points.shape[1]
    width, height = {1: (6.4, 6.2), 2: (10.4, 5.7)}.get(n, (1.0 + 4.35 * n, 5.1))
    figure = Figure(figsize=(width, height * (1 + 0.9 * below)), dpi=DPI, layout="constrained")
    ratios = [1, below] if below else [1]
    grid = GridSpec(len(ratios), n, figure=figure, height_ratios=ratios)
    maps = [
        map_on(figure.add_subplot(grid[0, i]), pair, points, world, goal)
        for i, pair in enumerate(pairs)
    ]
    # As high as wide maps are, but for the room of titles and legends.
    tallest = max(1.0 if on.walls is None else on.height_to_width for on in maps)
    lower = (1.0 - min(max(tallest, 0.4), 1.8)) * width / (n + 0.25)
    figure.set_figheight(figure.get_figheight() - lower)
    shown = len({axis for pair in pairs for axis in pair})
    notes = [f"{shown} of {dim} goal axes"] if shown < dim and dim > 2 else []
    notes += [of_others] if of_others and dim > 2 else []
    maps[-1].ax.set_title("; ".join(notes), loc="right", color=INK, fontsize=8)
    return figure, maps, figure.add_subplot(grid[1, :]) if below else None
