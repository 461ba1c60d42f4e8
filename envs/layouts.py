"""Layouts: where the walls are, drawn as rows of text, and what follows from that.

The first row of text is the top of the picture. Each character is a square cell of side
``CELL * scale``; ``#`` is wall, ``.`` or a space is free, and there are a few tiles more (see
``tiles``). The world is centred on the origin and its outer edge is a wall. Free space may fall
into several parts that no path joins; distances between them are infinite, and goals that are
drawn at random can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from hierebm.envs.chance_layouts import CHANCE_LAYOUTS
from hierebm.envs.crossings import Crossings
from hierebm.envs.geodesic import VisibilityGraph, maximal_rectangles
from hierebm.envs.tiles import CHARACTERS, ENTRANCES, Tiles, almost_surely_reaches
from hierebm.types import BoolArray, Float64Array

CELL = 0.5
"""Side of a cell at ``scale=1``, in world units: a wall is thicker than the success radius."""
MOST_CELLS = 10_000
"""Cells that a layout may have."""


LAYOUTS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "open": ("........",) * 8,
        # A corridor in the shape of the letter.
        "u": ("....#####....",) * 9 + (".............",) * 4,
        "four_rooms": (
            "......#......",
            "......#......",
            ".............",
            "......#......",
            "......#......",
            "......#......",
            "##.####......",
            "......####.##",
            "......#......",
            "......#......",
            "......#......",
            ".............",
            "......#......",
        ),
        "spiral": (
            ".............",
            ".............",
            "###########..",
            "..........#..",
            "..........#..",
            "..#####...#..",
            "..#...#...#..",
            "..#.......#..",
            "..#.......#..",
            "..#########..",
            ".............",
            ".............",
            ".............",
        ),
        "serpentine": (
            ".............",
            ".............",
            "###########..",
            ".............",
            ".............",
            ".............",
            "..###########",
            ".............",
            ".............",
            ".............",
            "###########..",
            ".............",
            ".............",
        ),
        # Sixteen rooms, 18 of the 24 possible doors.
        "large": (
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#...........#......",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#.....#.....#......",
            ".#######.####.#####.#####",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "............#.....#......",
            "......#.....#............",
            ".#########.###.#########.",
            "......#.....#............",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#.....#.....#......",
            ".######.#######.#####.###",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#.....#.....#......",
            "......#...........#......",
            "......#.....#............",
            "......#.....#.....#......",
        ),
    }
)
"""The named layouts as rows of text."""


class Layout:
    """An immutable map of walls with its geometry.

    Args:
        rows: rows of text, top row first; all of one length.
        scale: each cell is made ``scale`` by ``scale`` cells of side ``CELL``.
        name: what messages and pictures call it.

    Attributes:
        rows: the rows of text, tuple of str.
        tiles: one-way doors, slippery ground and teleporters.
        walls: (H, W) bool, **row 0 at the lowest y** (as ``imshow(origin="lower")`` draws it).
        cell_size: side of a cell in world units.
        low, high: (2,) float64, opposite corners of the world.

    Raises:
        TypeError: ``rows`` is not a sequence of str, or ``scale`` not an int.
        ValueError: ragged rows, an unknown character, no free cell, a teleporter without entrance
            or exit, ``scale`` below 1.
    """

    def __init__(self, rows: Sequence[str], *, scale: int = 1, name: str = "custom") -> None:
        if isinstance(scale, bool) or not isinstance(scale, (int, np.integer)):
            raise TypeError(f"scale must be an int, got {scale!r}.")
        if scale < 1:
            raise ValueError(f"scale must be at least 1, got {scale}.")
        self.name = name
        self.scale = int(scale)
        self.rows = _checked_rows(rows)
        self.tiles = Tiles(self.rows)
        self.cell_size = CELL * self.scale
        self.walls: BoolArray = np.array([[c == "#" for c in row] for row in self.rows[::-1]])
        self.walls.flags.writeable = False
        height, width = self.walls.shape
        self.high: Float64Array = 0.5 * self.cell_size * np.array([width, height], dtype=np.float64)
        self.low: Float64Array = -self.high

    def __repr__(self) -> str:
        height, width = self.walls.shape
        return f"Layout({self.name!r}, {width}x{height} cells, scale={self.scale})"

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(x_min, x_max, y_min, y_max) in world units, in matplotlib's order."""
        return (self.low[0].item(), self.high[0].item(), self.low[1].item(), self.high[1].item())

    @cached_property
    def padded_walls(self) -> BoolArray:
        """(H + 2, W + 2) bool: the walls with the world's edge around them."""
        padded = np.pad(self.walls, 1, constant_values=True)
        padded.flags.writeable = False
        return padded

    @cached_property
    def walls_beside(self) -> tuple[BoolArray, BoolArray]:
        """Whether a cell can not be left to the low and to the high side of (x, y): there is a
        wall, or a one-way door against it.

        Two arrays ((H + 2) * (W + 2), 2), rows as in ``padded_walls.ravel()``.
        """
        walls = self.padded_walls
        low = np.stack([np.roll(walls, 1, axis=1), np.roll(walls, 1, axis=0)], axis=-1)
        high = np.stack([np.roll(walls, -1, axis=1), np.roll(walls, -1, axis=0)], axis=-1)
        low[1:-1, 1:-1] |= self.tiles.closed_low
        high[1:-1, 1:-1] |= self.tiles.closed_high
        return low.reshape(-1, 2), high.reshape(-1, 2)

    @cached_property
    def crossings(self) -> Crossings:
        """Where steps end that a wall may stop."""
        return Crossings(self.padded_walls, self.walls_beside, self.low, self.cell_size)

    def inside_cell(self, points: Float64Array, margin: float) -> Float64Array:
        """Free points (B, 2), moved by at most ``margin`` so that they keep it from any wall."""
        cell = np.floor((points - self.low) / self.cell_size)
        x, y = (cell.T + 1).astype(np.intp)
        low = self.low + self.cell_size * cell
        beside_low, beside_high = (
            side[y * self.padded_walls.shape[1] + x] for side in self.walls_beside
        )
        high = low + self.cell_size - margin * beside_high
        return np.clip(points, low + margin * beside_low, high)

    @cached_property
    def free_cells(self) -> npt.NDArray[np.int64]:
        """(N, 2) integer (x, y) indices of the free cells; entrances of teleporters are none, as
        nothing stays there."""
        ys, xs = np.nonzero(~self._closed_cells)
        return np.stack([xs, ys], axis=1)

    @cached_property
    def free_cell_low(self) -> Float64Array:
        """(N, 2) lower left corners of the free cells, in world units."""
        return self.low + self.cell_size * self.free_cells

    @cached_property
    def component(self) -> npt.NDArray[np.int64]:
        """(N,) label of the connected part of free space that each free cell belongs to, whatever
        the direction of doors and without teleporters."""
        from scipy.sparse import coo_array, csgraph

        index = np.full(self.padded_walls.shape, -1)
        index[1:-1, 1:-1][~self._closed_cells] = np.arange(len(self.free_cells))
        beside = np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()])
        above = np.stack([index[:-1].ravel(), index[1:].ravel()])
        pairs = np.concatenate([beside, above], axis=1)
        pairs = pairs[:, (pairs >= 0).all(axis=0)]
        count = len(self.free_cells)
        graph = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(count, count))
        return np.asarray(csgraph.connected_components(graph, directed=False)[1], dtype=np.int64)

    @cached_property
    def reaches(self) -> BoolArray:
        """(N, N) whether a goal in one free cell is reached from another with probability 1, by the
        best policy: [from, to]."""
        if not self.tiles.has_doors and not self.tiles.has_teleporters:
            return self.component[:, None] == self.component
        height, width = self.padded_walls.shape
        low, high = (side.reshape(height, width, 2)[1:-1, 1:-1] for side in self.walls_beside)
        return almost_surely_reaches(self.walls, self.tiles, (low, high))

    @property
    def _closed_cells(self) -> BoolArray:
        """(H, W) where nothing stays: walls, and entrances of teleporters."""
        return self.walls | (self.tiles.entrance >= 0)

    @cached_property
    def _visibility(self) -> VisibilityGraph:
        faces = self.tiles.one_way_faces()
        return VisibilityGraph(self._closed_cells, self.low, self.cell_size, faces)

    @cached_property
    def wall_rectangles(self) -> Float64Array:
        """(R, 4) rectangles (x0, y0, x1, y1) that cover the walls; they may overlap."""
        return np.tile(self.low, 2) + self.cell_size * maximal_rectangles(self.walls)

    @cached_property
    def cell_distances(self) -> Float64Array:
        """(N, N) shortest-path lengths between the centres of the free cells, world units:
        [from, to]."""
        return self._visibility.distance_table(self.free_cell_low + 0.5 * self.cell_size)

    @cached_property
    def diameter(self) -> float:
        """Length of the longest shortest path between two free cells' centres, world units."""
        table = self.cell_distances
        return float(table[np.isfinite(table)].max())

    def cell_of(self, points: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """(..., 2) points of the world -> (..., 2) integer (x, y) of their cells."""
        offset = np.asarray(points, dtype=np.float64) - self.low
        return np.floor(offset / self.cell_size).astype(np.int64)

    def in_wall(self, points: npt.ArrayLike) -> BoolArray:
        """Whether points (..., 2) lie in a wall or outside the world; returns (...) bool."""
        points = np.asarray(points, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            cell = np.floor((points - self.low) / self.cell_size)
        height, width = self.walls.shape
        # Not-a-number falls through min and max to the padding, which is wall.
        x = np.nan_to_num(np.clip(cell[..., 0] + 1, 0, width + 1)).astype(np.int64)
        y = np.nan_to_num(np.clip(cell[..., 1] + 1, 0, height + 1)).astype(np.int64)
        return np.asarray(self.padded_walls[y, x])

    def segment_is_free(self, a: npt.ArrayLike, b: npt.ArrayLike) -> BoolArray:
        """Whether the straight segments a -> b, (..., 2) each, cross no wall, no entrance of a
        teleporter, and no one-way door against its arrow: (...) bool."""
        a, b = _paired(a, b)
        shape = a.shape[:-1]
        a, b = a.reshape(-1, 2), b.reshape(-1, 2)
        free = self._visibility.segment_is_free(a, b)
        return (free & ~self.in_wall(a) & ~self.in_wall(b)).reshape(shape)

    def shortest_path_distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Float64Array:
        """Length of the shortest path around the walls, in world units.

        One-way doors are passed along their arrow alone, and no teleporter is entered. Exact for a
        point without inertia. Infinite where no path exists or an end is in a wall or an entrance.

        Args:
            a, b: (..., 2), broadcast against each other.

        Returns:
            (...) float64.
        """
        a, b = _paired(a, b)
        shape = a.shape[:-1]
        a, b = a.reshape(-1, 2), b.reshape(-1, 2)
        result = np.full(len(a), np.inf)
        free = np.flatnonzero(~(self.in_wall(a) | self.in_wall(b)))
        result[free] = self._visibility.distance(a[free], b[free])
        return result.reshape(shape)


def get_layout(layout: str | Sequence[str] | Layout = "open", scale: int = 1) -> Layout:
    """The layout for a name, for rows of text (a sequence, or one str with line breaks), or itself.

    Layouts are immutable and cached: environments that share one share its geometry.

    Raises:
        TypeError, ValueError: see ``Layout``; ValueError also for an unknown name.
    """
    if isinstance(layout, Layout):
        return layout if scale == 1 else _cached_layout(layout.rows, scale, layout.name)
    if isinstance(layout, str):
        if "\n" in layout:
            return _cached_layout(_checked_rows(layout.strip("\n").split("\n")), scale, "custom")
        named = {**LAYOUTS, **CHANCE_LAYOUTS}
        if layout not in named:
            known = ", ".join(repr(name) for name in named)
            raise ValueError(
                f"layout={layout!r} is unknown. Use one of {known}, or rows of text such as "
                f"['..#', '..#', '...'] ('#' wall, '.' or ' ' free)."
            )
        return _cached_layout(named[layout], scale, layout)
    return _cached_layout(_checked_rows(layout), scale, "custom")


@lru_cache(maxsize=32)
def _cached_layout(rows: tuple[str, ...], scale: int, name: str) -> Layout:
    return Layout(rows, scale=scale, name=name)


def _checked_rows(rows: Sequence[str]) -> tuple[str, ...]:
    try:
        checked = tuple(rows)
    except TypeError:
        raise TypeError(f"layout must be a name or rows of text, got {rows!r:.100}.") from None
    if not all(isinstance(row, str) for row in checked):
        raise TypeError("layout rows must be str, one character a cell ('#' wall, '.' free).")
    if not checked or not checked[0]:
        raise ValueError("layout has no cells: give at least one row with one character.")
    for number, row in enumerate(checked):
        if len(row) != len(checked[0]):
            raise ValueError(
                f"layout rows must have one length: row {number} has {len(row)} characters, "
                f"row 0 has {len(checked[0])}."
            )
        unknown = sorted(set(row) - set(CHARACTERS))
        if unknown:
            raise ValueError(
                f"layout row {number} holds {unknown[0]!r}: use '#' for wall, '.' or ' ' for free, "
                "'<', '>', '^', 'v' for one-way doors, '~' for slippery ground, and 'A' to 'H' and "
                "'a' to 'h' for entrances and exits of teleporters."
            )
    if len(checked) * len(checked[0]) > MOST_CELLS:
        raise ValueError(
            f"layout has {len(checked) * len(checked[0])} cells, {MOST_CELLS} are the most: "
            "distances between all of them are computed. Use scale= for a larger world."
        )
    if not any(character not in "#" + ENTRANCES for row in checked for character in row):
        raise ValueError("layout has no free cell: every character is a wall or an entrance.")
    return checked


def _paired(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Float64Array, Float64Array]:
    first, second = np.broadcast_arrays(
        np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    )
    if first.shape[-1:] != (2,):
        raise ValueError(f"points must have a last dimension of 2 (x, y), got shape {first.shape}.")
    return first, second
