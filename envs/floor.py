"""What lies on the floor of a layout besides walls, as shapes for every picture of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hierebm.envs.geodesic import maximal_rectangles
from hierebm.envs.layouts import Layout
from hierebm.envs.tiles import ARROWS

ICE, DOOR = "#cde4f3", "#ba7854"
# One colour for each teleporter.
TELEPORTERS = ("#8e54af", "#c84878", "#4696a0", "#aa9628", "#786edc", "#dc6e5a", "#5aaa5a",
               "#6e6e6e")  # fmt: skip
# Corners of what is drawn for a circle.
_CORNERS = 36


class Shape(NamedTuple):
    """One shape.

    Attributes:
        outline: (K, 2) corners, world units.
        colour: ``#rrggbb``.
        filled: else the outline alone is drawn.
    """

    outline: npt.NDArray[np.float64]
    colour: str
    filled: bool


def ice(layout: Layout) -> list[Shape]:
    """Rectangles that cover the slippery cells."""
    return [
        Shape(_in_world(layout, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])), ICE, True)
        for x0, y0, x1, y1 in maximal_rectangles(layout.tiles.slippery)
    ]


def marks(layout: Layout) -> list[Shape]:
    """An arrow head in each cell of a one-way door; a disc at each entrance of a teleporter, a ring
    at each of its exits.
    """
    shapes = []
    for row, text in enumerate(layout.rows[::-1]):
        for column, character in enumerate(text):
            if character in ARROWS:
                ahead = 0.3 * np.array(ARROWS[character])
                across = ahead[::-1]
                middle = np.array([column + 0.5, row + 0.5])
                corners = middle + np.stack([ahead, across - ahead, -across - ahead])
                shapes.append(Shape(_in_world(layout, corners), DOOR, True))
    angles = np.linspace(0.0, 2.0 * np.pi, _CORNERS, endpoint=False)
    circle = 0.5 + 0.4 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for number, exits in enumerate(layout.tiles.exits):
        colour = TELEPORTERS[number]
        entrances = np.argwhere(layout.tiles.entrance == number)[:, ::-1]
        for cells, filled in ((entrances, True), (exits, False)):
            shapes += [Shape(_in_world(layout, xy + circle), colour, filled) for xy in cells]
    return shapes


def _in_world(layout: Layout, cells: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return layout.low + layout.cell_size * np.asarray(cells, np.float64)
