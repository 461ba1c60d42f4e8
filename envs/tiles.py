"""Tiles that make a world directed or leave it to chance: doors, slippery ground, teleporters.

Characters of a layout besides wall and free ground:

* ``>``, ``<``, ``^``, ``v``: a one-way door, between walls or doors with the same arrow. A step
  against the arrow is stopped at either face of the cell that the arrow crosses, as by a wall.
* ``~``: slippery ground, where the environment's ``slip`` acts.
* ``A`` to ``H``: the entrance of a teleporter. A step that ends there goes on, at rest, to the
  middle of one of the cells with the same small letter, ``a`` to ``h``, each equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hierebm.types import BoolArray

ARROWS = {">": (1, 0), "<": (-1, 0), "^": (0, 1), "v": (0, -1)}
SLIPPERY = "~"
ENTRANCES, EXITS = "ABCDEFGH", "abcdefgh"
FREE = ". "
CHARACTERS = "#" + FREE + SLIPPERY + "".join(ARROWS) + ENTRANCES + EXITS


class Tiles:
    """What the rows of a layout say besides where walls are; row 0 of arrays is the lowest.

    Args:
        rows: the rows of text, top row first, of one length.

    Attributes:
        slippery: (H, W) bool.
        entrance: (H, W) int, the number of the teleporter that begins in each cell, -1 for none.
        exits: for each teleporter, (K, 2) integer (x, y) of the cells where it may lead.
        closed_low, closed_high: (H, W, 2) bool, whether a one-way door forbids to leave each cell
            through its low and through its high face in (x, y).

    Raises:
        ValueError: an entrance without exits, exits without an entrance, or a door that is not
            between walls or doors with the same arrow.
    """

    def __init__(self, rows: Sequence[str]) -> None:
        cells = np.array([list(row) for row in rows[::-1]])
        self.slippery: BoolArray = cells == SLIPPERY
        self.entrance = np.full(cells.shape, -1)
        self.exits: list[npt.NDArray[np.int64]] = []
        for entrance, exit_ in zip(ENTRANCES, EXITS, strict=True):
            begins, ends = cells == entrance, np.argwhere(cells == exit_)[:, ::-1]
            if begins.any() != bool(len(ends)):
                there, missing = (entrance, exit_) if begins.any() else (exit_, entrance)
                raise ValueError(
                    f"layout has a teleporter {there!r} without {missing!r}: a capital letter is "
                    f"an entrance, the same small letter an exit."
                )
            if begins.any():
                self.entrance[begins] = len(self.exits)
                self.exits.append(ends.astype(np.int64))
        self._close(cells)

    def _close(self, cells: npt.NDArray[np.str_]) -> None:
        height, width = cells.shape
        padded = np.pad(cells, 1, constant_values="#")
        # With a border, so that doors at the edge of the world need no special case.
        low, high = (np.zeros((height + 2, width + 2, 2), np.bool_) for _ in range(2))
        for arrow, (dx, dy) in ARROWS.items():
            for y, x in np.argwhere(cells == arrow) + 1:
                beside = {padded[y + dx, x + dy], padded[y - dx, x - dy]}
                if beside - {"#", arrow}:
                    raise ValueError(
                        f"layout has a one-way door {arrow!r} that can be walked round, in row "
                        f"{height - y}, column {x - 1}: what is beside its arrow has to be wall or "
                        "another such door."
                    )
                axis, back = (0 if dx else 1), (low if dx + dy > 0 else high)
                # Out of the cell, and into it from the side that the arrow points to.
                back[y, x, axis] = back[y + dy, x + dx, axis] = True
        self.closed_low: BoolArray = low[1:-1, 1:-1]
        self.closed_high: BoolArray = high[1:-1, 1:-1]

    @property
    def has_doors(self) -> bool:
        """Whether there are one-way doors."""
        return bool(self.closed_low.any() or self.closed_high.any())

    @property
    def has_teleporters(self) -> bool:
        """Whether there are teleporters."""
        return bool(self.exits)

    def one_way_faces(self) -> npt.NDArray[np.int64]:
        """(F, 4) faces that only one direction may cross: x and y of the lower end, the axis that
        the face is crossed along, and the sign of the direction that is stopped; in cells.
        """
        faces = []
        for closed, side in ((self.closed_low, 0), (self.closed_high, 1)):
            for y, x, axis in np.argwhere(closed):
                at = [x + side * (axis == 0), y + side * (axis == 1)]
                faces.append([*at, axis, 2 * side - 1])
        return np.array(faces, dtype=np.int64).reshape(-1, 4)


def almost_surely_reaches(
    walls: BoolArray, tiles: Tiles, beside: tuple[BoolArray, BoolArray]
) -> BoolArray:
    """Whether a goal in one cell is reached from another with probability 1, by the best policy.

    Moves from cell to cell are the agent's choice, exits of teleporters are not (de Alfaro 1999,
    "Computing minimum and maximum reachability times in probabilistic systems", section 3). What
    slipping may do is not looked at.

    Args:
        walls: (H, W) bool.
        tiles: of the same layout.
        beside: whether each cell (H, W, 2) can not be left through its low and its high faces.

    Returns:
        (N, N) bool, [from, to], over the free cells that are no entrance, in the order of rows.
    """
    number = np.full(walls.shape, -1)
    rests = ~walls & (tiles.entrance < 0)
    number[rests] = np.arange(rests.sum())
    count = int(rests.sum())
    exits = [number[cells[:, 1], cells[:, 0]] for cells in tiles.exits]
    moves: list[tuple[int, int]] = []
    jumps: list[tuple[int, int]] = []
    for side, sign in zip(beside, (-1, 1), strict=True):
        for y, x, axis in np.argwhere(~side):
            if number[y, x] < 0:
                continue
            there = (y + sign * (axis == 1), x + sign * (axis == 0))
            if tiles.entrance[there] >= 0:
                jumps.append((int(number[y, x]), int(tiles.entrance[there])))
            else:
                moves.append((int(number[y, x]), int(number[there])))
    result = np.zeros((count, count), np.bool_)
    for goal in range(count):
        kept = np.ones(count, np.bool_)
        while True:
            # What leads to the goal without a risk of leaving what is kept.
            safe = [bool(kept[cells].all()) for cells in exits]
            before: list[list[int]] = [[] for _ in range(count)]
            for a, b in moves:
                if kept[a] and kept[b]:
                    before[b].append(a)
            for a, gate in jumps:
                if kept[a] and safe[gate]:
                    for b in exits[gate].tolist():
                        before[b].append(a)
            found, stack = np.zeros(count, np.bool_), [goal]
            found[goal] = True
            while stack:
                for a in before[stack.pop()]:
                    if not found[a]:
                        found[a] = True
                        stack.append(a)
            if (found == kept).all():
                break
            kept = found
        result[:, goal] = kept
    return result
