"""Tasks: where an episode starts, what its goal is, and how both are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hierebm.envs.crossings import MARGIN
from hierebm.envs.layouts import Layout

SUCCESS_RADIUS = 0.3
"""A goal is reached when the point is at most this far from it (world units)."""

_INSET = float(MARGIN)
# Candidates per attempt and attempts before a range of distances counts as empty.
_BATCH, _ATTEMPTS = 16, 500

Point = tuple[float, float]
Task = tuple[float, float, float, float]
"""(start_x, start_y, goal_x, goal_y), every number exact in float32."""


@dataclass(frozen=True)
class TaskRange:
    """What tasks to draw: None leaves a part free.

    Attributes:
        start, goal: (x, y) in free space.
        distance: (low, high) of the shortest-path distance between them, world units, inclusive.
    """

    start: Point | None = None
    goal: Point | None = None
    distance: tuple[float, float] | None = None


class TaskSampler:
    """Draws tasks in one layout: uniform over free space, or over the pairs in a distance range.

    Args:
        layout: the walls.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Lower left corners and side of where a point may be in each free cell.
        self._corners: list[Point] = [(x, y) for x, y in (layout.free_cell_low + _INSET).tolist()]
        self._side = layout.cell_size - 2 * _INSET
        self._is_connected = bool(layout.reaches.all())
        self._last_range: tuple[tuple[float, float], npt.NDArray[np.int64]] | None = None

    def task_range(
        self, options: Mapping[str, Any], default: TaskRange | None = None, where: str = "options"
    ) -> TaskRange:
        """Check the keys "start", "goal" and "distance" of ``options``; missing ones default.

        Raises:
            ValueError: an unknown key, a point in a wall or outside, an empty range.
        """
        default = TaskRange() if default is None else default
        unknown = sorted(set(options) - {"start", "goal", "distance"})
        if unknown:
            raise ValueError(
                f"{where} has the unknown key {unknown[0]!r}; known: 'start', 'goal', 'distance'."
            )
        start = self._point(options.get("start"), f"{where}['start']")
        goal = self._point(options.get("goal"), f"{where}['goal']")
        distance = _checked_distance(options.get("distance"), f"{where}['distance']")
        if distance is None and (start is None or goal is None):
            # Two explicit ends overrule a default distance, but not one given beside them.
            distance = default.distance
        start = default.start if start is None else start
        goal = default.goal if goal is None else goal
        if distance is not None and start is not None and goal is not None:
            actual = self.layout.shortest_path_distance(start, goal).item()
            if not distance[0] <= actual <= distance[1]:
                raise ValueError(
                    f"{where}['distance'] = {distance} does not hold the distance {actual:.3f} "
                    f"between the given start {start} and goal {goal}: leave one of the three out."
                )
        return TaskRange(start, goal, distance)

    def task_ranges(
        self, options: Mapping[str, Any], indices: Sequence[int], count: int, default: TaskRange
    ) -> list[TaskRange]:
        """``task_range`` for each of ``indices`` out of ``count`` environments.

        "start" and "goal" may be (count, 2), one row per environment.

        Raises:
            ValueError: as ``task_range``, or rows that are not (count, 2).
        """
        rows: dict[str, npt.NDArray[np.float64]] = {}
        for key in ("start", "goal"):
            if options.get(key) is not None and np.ndim(options[key]) == 2:
                rows[key] = np.asarray(options[key], dtype=np.float64)
                if rows[key].shape != (count, 2):
                    raise ValueError(
                        f"options[{key!r}] must have shape (2,) or ({count}, 2), "
                        f"got {rows[key].shape}."
                    )
        if not rows:
            wanted = self.task_range(options, default=default) if options else default
            return [wanted] * len(indices)
        return [
            self.task_range({**options, **{key: rows[key][index] for key in rows}}, default)
            for index in indices
        ]

    def sample(self, rng: np.random.Generator, wanted: TaskRange) -> Task:
        """Draw one task; the goal is reachable with probability 1, slipping aside, and
        further from the start than SUCCESS_RADIUS.

        Two ends that were both given are taken as they are.

        Raises:
            ValueError: no task with the wanted distance was found.
        """
        start, goal = wanted.start, wanted.goal
        if start is not None and goal is not None:
            return (*start, *goal)
        if wanted.distance is not None:
            return self._sample_in_range(rng, start, goal, wanted.distance)
        if start is None and goal is None:
            numbers = rng.random(6).tolist()
            first = self._uniform(*numbers[:3])
            second = self._uniform(*numbers[3:])
            while not self._is_task(first, second):
                # Both are drawn again: the pair stays uniform over the valid pairs.
                numbers = rng.random(6).tolist()
                first = self._uniform(*numbers[:3])
                second = self._uniform(*numbers[3:])
            return (*first, *second)
        fixed = start if start is not None else goal
        assert fixed is not None
        for _ in range(_BATCH * _ATTEMPTS):
            other = self._uniform(*rng.random(3).tolist())
            if self._is_task(fixed, other):
                return (*fixed, *other) if start is not None else (*other, *fixed)
        raise ValueError(
            f"no free point of {self.layout!r} lies beyond the success radius {SUCCESS_RADIUS} "
            f"of {fixed} and is connected with it."
        )

    def _uniform(self, which: float, along_x: float, along_y: float) -> Point:
        """Map three numbers in [0, 1) to a uniform free point."""
        x, y = self._corners[int(which * len(self._corners))]
        return _float32_point(x + self._side * along_x, y + self._side * along_y)

    def _is_task(self, start: Point, goal: Point) -> bool:
        dx, dy = start[0] - goal[0], start[1] - goal[1]
        if dx * dx + dy * dy <= SUCCESS_RADIUS * SUCCESS_RADIUS:
            return False
        if self._is_connected:
            return True
        return bool(self.layout.reaches[self._cell_of(start), self._cell_of(goal)])

    def _cell_of(self, point: Point) -> int:
        index = self.layout.cell_of(point)
        return int(np.flatnonzero((self.layout.free_cells == index).all(axis=1))[0])

    def _point(self, value: Any, where: str) -> Point | None:
        if value is None:
            return None
        try:
            x, y = (float(number) for number in value)
        except (TypeError, ValueError):
            raise ValueError(f"{where} must be two numbers (x, y), got {value!r}.") from None
        low, high = self.layout.low, self.layout.high
        if not (low[0] <= x <= high[0] and low[1] <= y <= high[1]):
            raise ValueError(
                f"{where} = ({x:g}, {y:g}) lies outside the world "
                f"[{low[0]:g}, {high[0]:g}] x [{low[1]:g}, {high[1]:g}]."
            )
        # The world's edge is a wall like any other, and nothing stands exactly on a wall's face.
        inner = np.clip([[x, y]], low + _INSET, high - _INSET)
        if self.layout.in_wall(inner[0]):
            raise ValueError(
                f"{where} = ({x:g}, {y:g}) lies in a wall of layout {self.layout.name!r}: "
                f"choose a point for which env.unwrapped.in_wall(point) is False."
            )
        inside = self.layout.inside_cell(inner, _INSET)
        cell_x, cell_y = self.layout.cell_of(inside)[0]
        if self.layout.tiles.entrance[cell_y, cell_x] >= 0:
            raise ValueError(
                f"{where} = ({x:g}, {y:g}) lies on the entrance of a teleporter in layout "
                f"{self.layout.name!r}, where nothing stays: choose another point."
            )
        return _float32_point(*inside[0].tolist())

    def _sample_in_range(
        self,
        rng: np.random.Generator,
        start: Point | None,
        goal: Point | None,
        distance: tuple[float, float],
    ) -> Task:
        cells = len(self._corners)
        candidates = self._candidates(start, goal, distance)
        low, high = distance
        for _ in range(_ATTEMPTS if len(candidates) else 0):
            numbers = rng.random((_BATCH, 5))
            pair = candidates[(numbers[:, 0] * len(candidates)).astype(np.int64)]
            starts = self._points_in(pair // cells, numbers[:, 1:3], start)
            goals = self._points_in(pair % cells, numbers[:, 3:5], goal)
            lengths = self.layout.shortest_path_distance(starts, goals)
            apart = ((starts - goals) ** 2).sum(axis=1) > SUCCESS_RADIUS * SUCCESS_RADIUS
            found = np.flatnonzero((lengths >= low) & (lengths <= high) & apart)
            if len(found):
                row = found[0]
                return (*starts[row].tolist(), *goals[row].tolist())
        fixed = "".join(
            f" with {name} {point}"
            for name, point in (("start", start), ("goal", goal))
            if point is not None
        )
        raise ValueError(
            f"distance={distance} holds no task in {self.layout!r}{fixed}: shortest paths there "
            f"are longer than {SUCCESS_RADIUS} and at most about "
            f"{self._longest(start, goal):.2f} world units."
        )

    def _candidates(
        self, start: Point | None, goal: Point | None, distance: tuple[float, float]
    ) -> npt.NDArray[np.int64]:
        """Pairs of cells, as start * N + goal, that can hold a task in the range.

        A point is at most half a diagonal from its cell's centre, so the centres' distance bounds
        the pair's (triangle inequality): nothing in the range is missed.
        """
        low, high = distance
        cells = len(self._corners)
        centres = self.layout.free_cell_low + 0.5 * self.layout.cell_size
        slack = 0.5 * np.sqrt(2) * self.layout.cell_size
        fixed = start if start is not None else goal
        if fixed is not None:
            ends = (fixed, centres) if start else (centres, fixed)
            lengths = self.layout.shortest_path_distance(*ends)
            index = np.flatnonzero((lengths >= low - slack) & (lengths <= high + slack))
            return index + cells * self._cell_of(fixed) if start else index * cells
        if self._last_range is None or self._last_range[0] != distance:
            table = self.layout.cell_distances.ravel()
            fits = (table >= low - 2 * slack) & (table <= high + 2 * slack)
            self._last_range = (distance, np.flatnonzero(fits))
        return self._last_range[1]

    def _points_in(
        self, cell: npt.NDArray[np.int64], numbers: npt.NDArray[np.float64], fixed: Point | None
    ) -> npt.NDArray[np.float64]:
        if fixed is not None:
            return np.tile(np.asarray(fixed), (len(cell), 1))
        points = self.layout.free_cell_low[cell] + _INSET + self._side * numbers
        # Rounded as the observation will be, so that the range holds for what the agent sees.
        return points.astype(np.float32).astype(np.float64)

    def _longest(self, start: Point | None, goal: Point | None) -> float:
        if start is None and goal is None:
            return self.layout.diameter
        centres = self.layout.free_cell_low + 0.5 * self.layout.cell_size
        ends = (start if start is not None else centres, goal if goal is not None else centres)
        lengths = self.layout.shortest_path_distance(*ends)
        return float(lengths[np.isfinite(lengths)].max(initial=0.0))


def _float32_point(x: float, y: float) -> Point:
    return float(np.float32(x)), float(np.float32(y))


def _checked_distance(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be two numbers (low, high), got {value!r}.") from None
    if not 0 <= low <= high:
        raise ValueError(f"{where} = ({low:g}, {high:g}) is empty: it takes 0 <= low <= high.")
    if high <= SUCCESS_RADIUS:
        raise ValueError(
            f"{where} = ({low:g}, {high:g}) is empty: a goal within the success radius "
            f"{SUCCESS_RADIUS} would be reached at once."
        )
    return low, high
