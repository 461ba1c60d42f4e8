"""Worlds where luck decides: those of the package, and three kinds of luck that it has not.

The agent is told of none of them. Each world gives an environment, and the reference planner that
knows its chances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.learning import FAR
from benchmarks.reference_planner import ReferencePolicy
from hierebm.cli.names import ENV_ID
from hierebm.envs import Layout
from hierebm.envs.dynamics import ACCELERATION, DRAG, MAX_SPEED
from hierebm.envs.expected_steps import ExpectedSteps
from hierebm.envs.luck import Luck, RandomOf
from hierebm.types import BoolArray, Float64Array, FloatArray, IntArray


class Sticky(Luck):
    """With some chance, the point loses its velocity at the end of a step on marked ground.

    Args:
        layout: with its marked (slippery) ground.
        chance: of that, for each step.
    """

    def __init__(self, layout: Layout, chance: float) -> None:
        super().__init__(layout, 0.0)
        self.chance, self.ground = chance, layout.tiles.slippery

    @property
    def acts(self) -> bool:
        """See :class:`Luck`."""
        return True

    def on_ground(self, position: FloatArray) -> BoolArray:
        """(B, 2) -> (B,) whether positions are on the marked ground."""
        x, y = self.layout.cell_of(position).T
        return self.ground[y, x]

    def teleport(
        self, position: FloatArray, velocity: FloatArray, random: RandomOf, moves: BoolArray
    ) -> None:
        """See :class:`Luck`; here, what chance does after a step."""
        for index in np.flatnonzero(self.on_ground(position) & moves).tolist():
            if random(index).random() < self.chance:
                self.strike(position[index : index + 1], velocity[index : index + 1])

    def strike(self, position: FloatArray, velocity: FloatArray) -> None:
        """What happens to points (B, 2), in place."""
        velocity[:] = 0.0


class Gusts(Sticky):
    """With some chance, the point is displaced at the end of a step on marked ground.

    Args:
        layout: with its marked (slippery) ground.
        chance: of that, for each step.
        push: (x, y), each less than half a cell.
    """

    def __init__(self, layout: Layout, chance: float, push: tuple[float, float]) -> None:
        super().__init__(layout, chance)
        self.push = np.array(push, np.float32)

    def strike(self, position: FloatArray, velocity: FloatArray) -> None:
        """See :class:`Sticky`."""
        position[:] = self.pushed(position)

    def pushed(self, position: FloatArray, share: float = 1.0) -> FloatArray:
        """(B, 2) positions after a gust, or a share of one."""
        start = position.astype(np.float64)
        ends = np.stack([start.T, (start + share * self.push).T])
        return self.layout.crossings.land(ends)[0].T.astype(np.float32)


class _ExpectedSticky(ExpectedSteps):
    """Without inertia, a lower speed is a chance to stay where one is."""

    luck: Sticky

    def _after_best_move(
        self, steps: Float64Array, following: IntArray, moving: IntArray
    ) -> Float64Array:
        # Mean speed where v = (1 - DRAG) v + ACCELERATION goes back to 0 with that chance.
        speed = ACCELERATION / (1.0 - (1.0 - DRAG) * (1.0 - self.luck.chance))
        goes = np.where(
            self.luck.on_ground(self._points[moving].astype(np.float32)), speed / MAX_SPEED, 1.0
        )
        best = super()._after_best_move(steps, following, moving)
        result: Float64Array = goes * best + (1.0 - goes) * steps[moving]
        return result


class _ExpectedGusts(ExpectedSteps):
    luck: Gusts

    def _after_best_move(
        self, steps: Float64Array, following: IntArray, moving: IntArray
    ) -> Float64Array:
        points = self._points.astype(np.float32)
        free = ~self.layout.in_wall(self._points) & self.luck.on_ground(points)
        struck = np.arange(len(steps))
        struck[: len(points)][free] = self._state(self.luck.pushed(points[free]))
        chance = np.zeros(len(steps))
        chance[: len(points)][free] = self.luck.chance
        after = (1.0 - chance) * steps + chance * steps[struck]
        return super()._after_best_move(after, following, moving)


class _StruckReference(ReferencePolicy):
    """The reference where chance strikes after a step."""

    def __init__(self, luck: Sticky) -> None:
        super().__init__(luck.layout)
        expected = _ExpectedGusts if isinstance(luck, Gusts) else _ExpectedSticky
        self.expected = expected(luck.layout)
        self.expected.luck = self.luck = luck

    def _advance(
        self, position: FloatArray, velocity: FloatArray, actions: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        position, velocity = super()._advance(position, velocity, actions)
        luck = self.luck
        assert isinstance(luck, Sticky)
        struck = luck.on_ground(position)
        if isinstance(luck, Gusts):
            position[struck] = luck.pushed(position[struck], luck.chance)
        else:
            velocity[struck] *= np.float32(1.0 - luck.chance)
        return position, velocity


@dataclass(frozen=True)
class World:
    """A world and what is measured there.

    Attributes:
        name: in the tables.
        layout: a name, or rows of text.
        steps: environment steps of training.
        slip: as in ``PointMassGoalEnv``.
        strikes: chance that something happens after a step on marked ground; 0 for none.
        push: displacement by a gust then; None: the velocity is lost.
        distance: of the tasks that are measured, world units; None: any.
        lucky: whether anything is left to chance.
    """

    name: str
    layout: str | tuple[str, ...]
    steps: int
    slip: float = 0.0
    strikes: float = 0.0
    push: tuple[float, float] | None = None
    distance: tuple[float, float] | None = None
    lucky: bool = True

    def make(self, *, tasks: bool = False) -> gym.Env[Any, Any]:
        """The environment; ``tasks``: with the tasks that are measured."""
        args: dict[str, Any] = {"layout": self.layout, "slip": self.slip}
        if tasks and self.distance is not None:
            args["distance"] = self.distance
        env = gym.make(ENV_ID, **args)
        if self.strikes:
            world: Any = env.unwrapped
            world.luck = self._strikes(world.layout)
        return env

    def _strikes(self, layout: Layout) -> Sticky:
        if self.push is None:
            return Sticky(layout, self.strikes)
        return Gusts(layout, self.strikes, self.push)

    def reference(self) -> ReferencePolicy:
        """The planner that knows the chances."""
        world: Any = self.make().unwrapped
        if self.strikes:
            return _StruckReference(world.luck)
        return ReferencePolicy(world.layout, self.slip)


# Wind from right to left through the middle, still air above and below.
_WINDY = (".............",) * 3 + ("~~~~~~~~~~~~~",) * 7 + (".............",) * 3
# Mud between two banks, with a dry ford.
_MUD = (".............",) * 3 + ("~~~~~~~~~~.~~",) * 7 + (".............",) * 3
# Rooms that are joined by doors, and teleporters: one that mostly helps, one that mostly does not.
_TUBES = (
    "...a..#......",
    "......#..b...",
    "......#......",
    ".A....#......",
    "......#....a.",
    "......#......",
    "##.#######.##",
    "......#......",
    "..b...#....B.",
    "......#......",
    ".............",
    "......#..b...",
    "b.....#......",
)

WORLDS = (
    World("islands", "islands", 8000),
    World("shortcut", "shortcut", 10_000),
    World("ice", "ice", 8000, slip=0.7),
    World("one_way", "one_way", 8000),
    World("four_rooms, slip .3", "four_rooms", 8000, slip=0.3, distance=FAR),
    World("wind", _WINDY, 8000, strikes=0.5, push=(-0.2, 0.0)),
    World("mud", _MUD, 8000, strikes=0.5),
    World("tubes", _TUBES, 8000),
    World("four_rooms", "four_rooms", 8000, distance=FAR, lucky=False),
    World("open", "open", 4000, lucky=False),
)
"""Those of the package first; then three of the benchmark alone; then two without luck."""
