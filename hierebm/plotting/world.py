"""What a picture shows of an environment: walls, ground, how near to a goal counts as reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from matplotlib.colors import is_color_like
from numpy.typing import NDArray

from hierebm.goal_env.reward import GoalReward
from hierebm.plotting.drawing import Extent, Shape, Walls
from hierebm.types import FloatArray, ReachedFn

# Corners of the outline of what counts as reached, and how often each one's distance is halved.
CORNERS, HALVINGS = 72, 16


@dataclass(frozen=True)
class World:
    """What is drawn beside an agent.

    Attributes:
        walls: in the plane of the first two goal axes; None where there are none, or none known.
        reached: (n, goal_dim) achieved goals, (n, goal_dim) desired goals -> (n,) bool, to draw
            the success tolerance; None where it is not known.
        shapes: what lies on the ground, in the same plane as the walls.
    """

    walls: Walls | None = None
    reached: ReachedFn | None = None
    shapes: tuple[Shape, ...] = ()

    @classmethod
    def of(cls, env: Any) -> World:
        """That of an environment: its walls and ground, and what its ``compute_reward`` counts as
        reached.

        Raises:
            ValueError: its ``wall_map`` is no map, or its ``floor_shapes`` are no shapes.
        """
        return cls(walls_of(env), _reached_in(env), shapes_of(env))

    def tolerance(self, goal: NDArray[Any], pair: tuple[int, int], extent: Extent) -> FloatArray:
        """Outline of what counts as reached around a goal, in the plane of two of its axes.

        Args:
            goal: (goal_dim,); along the other axes the achieved goal is the same.
            pair: the axes.
            extent: of the map; what reaches beyond is cut off.

        Returns:
            (CORNERS, 2) corners, the ends (2, 2) where goals have one axis, or none at all: (0, 2).
        """
        nothing = np.zeros((0, 2), np.float32)
        if self.reached is None:
            return nothing
        farthest = np.array([extent[1] - extent[0], extent[3] - extent[2]], np.float32)
        if len(goal) == 1:
            directions = np.array([[-1.0], [1.0]], np.float32) * farthest[:1]
        else:
            angles = np.linspace(0.0, 2.0 * np.pi, CORNERS, endpoint=False)
            circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * farthest
            directions = np.zeros((CORNERS, len(goal)), np.float32)
            directions[:, pair] = circle
        goals = np.broadcast_to(goal, directions.shape).astype(np.float32)
        try:
            share = _how_far(self.reached, goals, directions)
        # Whatever compute_reward raises: the rest of the picture is drawn.
        except Exception:
            return nothing
        corners = (goals + share[:, None] * directions).astype(np.float32)
        if len(goal) == 1:
            return np.concatenate([corners, np.zeros((2, 1), np.float32)], axis=1)
        return corners[:, pair] if share.any() else nothing


def _how_far(reached: ReachedFn, goals: FloatArray, directions: FloatArray) -> FloatArray:
    """(n,) up to which share of each direction (n, goal_dim) the goal counts as reached."""
    near, far = np.zeros(len(goals), np.float32), np.ones(len(goals), np.float32)
    if not reached(goals[:1], goals[:1])[0]:
        return near
    near = np.where(reached(goals + directions, goals), far, near)
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        inside = reached((goals + middle[:, None] * directions).astype(np.float32), goals)
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return near


def walls_of(env: Any) -> Walls | None:
    """The walls of an environment that names them, or is a maze of those that are known.

    Named by the attribute, property or method ``wall_map`` of the environment or one of its
    wrappers: the pair ``(mask, extent)`` as in :class:`Walls`, or None. Known are the mazes of
    Gymnasium-Robotics and of OGBench.

    Raises:
        ValueError: ``wall_map`` is something else.
    """
    base = getattr(env, "unwrapped", env)
    named = _named(env, "wall_map")
    if named is not None:
        return _checked(named)
    for known in (_robotics_maze, _ogbench_maze):
        try:
            return known(base)
        # Another environment, whose attributes happen to have these names.
        except (AttributeError, TypeError, ValueError, IndexError):
            continue
    return None


def shapes_of(env: Any) -> tuple[Shape, ...]:
    """What an environment or one of its wrappers says that lies on the ground.

    Its attribute, property or method ``floor_shapes``: triples as of :class:`Shape`.

    Raises:
        ValueError: it is something else.
    """
    shapes = []
    named = _named(env, "floor_shapes")
    try:
        for outline, colour, filled in () if named is None else named:
            corners = np.asarray(outline, float)
            if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
                raise ValueError(f"an outline is {outline!r:.100}")
            if not is_color_like(colour):
                raise ValueError(f"a colour is {colour!r:.100}")
            shapes.append(Shape(corners, colour, bool(filled)))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "the environment's floor_shapes are no shapes: give triples of an outline (K, 2), a "
            f"colour such as '#cde4f3', and whether it is filled; {error}"
        ) from error
    return tuple(shapes)


def frame_extent_of(env: Any) -> Extent | None:
    """What an environment's own picture shows of the plane of the first two goal axes.

    Its attribute, property or method ``frame_extent``: (x_min, x_max, y_min, y_max), seen from
    straight above with y upwards. None where it does not say so: a camera's view, say.

    Raises:
        ValueError: it is something else.
    """
    named = _named(env, "frame_extent")
    try:
        return None if named is None else _extent(named)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "the environment's frame_extent says not what its picture shows: give (x_min, x_max, "
            f"y_min, y_max); {error}"
        ) from error


def _named(env: Any, name: str) -> Any:
    try:
        named = env.get_wrapper_attr(name)
    except AttributeError:
        named = getattr(getattr(env, "unwrapped", env), name, None)
    return named() if callable(named) else named


def _checked(named: Any) -> Walls:
    try:
        mask, extent = named if not isinstance(named, Walls) else (named.mask, named.extent)
        cells = np.asarray(mask, bool)
        if cells.ndim != 2 or not cells.size:
            raise ValueError(f"the mask has the shape {cells.shape}")
        return Walls(cells, _extent(extent))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "the environment's wall_map is no map of walls: give the pair of a mask (H, W) bool, "
            f"row 0 at the lowest y, and of (x_min, x_max, y_min, y_max); {error}"
        ) from error


def _extent(bounds: Any) -> Extent:
    x_min, x_max, y_min, y_max = (float(bound) for bound in bounds)
    if not (x_min < x_max and y_min < y_max):
        raise ValueError(f"the extent is {(x_min, x_max, y_min, y_max)}")
    return x_min, x_max, y_min, y_max


def _robotics_maze(base: Any) -> Walls:
    """Gymnasium-Robotics: rows from the top, 1 is wall, centred on the origin."""
    maze = base.maze
    rows: Sequence[Sequence[Any]] = maze.maze_map
    mask = np.array([[cell == 1 for cell in row] for row in rows[::-1]])
    side, x, y = float(maze.maze_size_scaling), float(maze.x_map_center), float(maze.y_map_center)
    height, width = mask.shape
    return Walls(mask, (-x, width * side - x, y - height * side, y))


def _ogbench_maze(base: Any) -> Walls:
    """OGBench: rows from the lowest y, 1 is wall, the middle of cell (0, 0) at minus the offset."""
    mask = np.asarray(base.maze_map) == 1
    side, x, y = float(base._maze_unit), float(base._offset_x), float(base._offset_y)
    height, width = mask.shape
    left, low = -x - side / 2, -y - side / 2
    return Walls(mask, (left, left + width * side, low, low + height * side))


def _reached_in(env: Any) -> ReachedFn | None:
    space = getattr(env, "observation_space", None)
    if not isinstance(space, spaces.Dict):
        return None
    try:
        return GoalReward(env, space, lambda: "for a picture").reached
    except (ValueError, KeyError, AttributeError):
        return None
