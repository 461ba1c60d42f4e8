"""What chance does to a step: actions that slip, and exits of teleporters.

Each environment draws from a generator of its own, and only where chance acts, so that single and
vector environment agree and worlds without luck draw nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hierebm.envs.layouts import Layout
from hierebm.types import BoolArray, FloatArray

RandomOf = Callable[[int], np.random.Generator]
"""The generator of an environment, by its number."""


class Luck:
    """The chances of one world.

    With probability ``slip`` the action of a step is replaced by one that is drawn uniformly from
    the action space: the noise of "random actions" of Machado et al. 2018, arXiv 1709.06009, but of
    the world, not of the agent.

    Args:
        layout: with its tiles.
        slip: in [0, 1), on slippery ground; everywhere where the layout has none.

    Raises:
        ValueError: ``slip`` is no number in [0, 1).
    """

    def __init__(self, layout: Layout, slip: Any) -> None:
        is_number = isinstance(slip, (int, float, np.number)) and not isinstance(slip, bool)
        if not is_number or not 0.0 <= slip < 1.0:
            raise ValueError(
                f"slip must be a probability from 0 to below 1, got {slip!r}: it is the chance "
                "that a step's action is replaced by a random one."
            )
        self.layout, self.slip = layout, float(slip)
        self._everywhere = not layout.tiles.slippery.any()
        self._exits = [
            (layout.low + layout.cell_size * (cells + 0.5)).astype(np.float32)
            for cells in layout.tiles.exits
        ]

    @property
    def acts(self) -> bool:
        """Whether anything is left to chance."""
        return self.slip > 0.0 or bool(self._exits)

    def is_slippery(self, position: FloatArray) -> BoolArray:
        """(B, 2) positions -> (B,) whether actions slip there."""
        if self.slip == 0.0 or self._everywhere:
            return np.full(len(position), self.slip > 0.0)
        x, y = self.layout.cell_of(position).T
        return self.layout.tiles.slippery[y, x]

    def slipped(
        self, position: FloatArray, actions: FloatArray, random: RandomOf, moves: BoolArray
    ) -> FloatArray:
        """The actions (B, 2) that are really taken at positions (B, 2); ``moves`` (B,) says which
        rows take a step at all."""
        if self.slip == 0.0:
            return actions
        actions = actions.copy()
        for index in np.flatnonzero(self.is_slippery(position) & moves).tolist():
            rng = random(index)
            if rng.random() < self.slip:
                actions[index] = rng.uniform(-1.0, 1.0, 2)
        return actions

    def teleport(
        self, position: FloatArray, velocity: FloatArray, random: RandomOf, moves: BoolArray
    ) -> None:
        """Move points (B, 2) that are on an entrance to an exit, at rest, in place."""
        if not self._exits:
            return
        x, y = self.layout.cell_of(position).T
        entrance = np.where(moves, self.layout.tiles.entrance[y, x], -1)
        for index in np.flatnonzero(entrance >= 0).tolist():
            exits = self._exits[int(entrance[index])]
            position[index] = exits[int(random(index).integers(len(exits)))]
            velocity[index] = 0.0
