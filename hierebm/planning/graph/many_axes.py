"""The transition map of goals of many axes: what verifies an edge is known of each pair of axes.

Where more than three axes move, trajectories hardly ever come back to where another one was. All
axes together are known by landmarks that are too far apart to see a wall; any two of them by
landmarks as near each other as in a plane. A way through all axes is one through each two of them:
what experience does not verify in two axes it does not verify, and what it does takes at least the
steps of the slowest two. The reverse is a guess: a wall that three axes make together is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.graph.landmarks import FEW_AXES
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray, IntArray

# Axes whose numbers differ by no more than this make a pair: those of one body lie side by side,
# and the number of pairs grows as that of the axes.
APART = 2


def make_transition_map(step_scale: FloatArray) -> TransitionMap:
    """The map for goals of so many axes, (goal_dim,) with the length of a full-speed step each."""
    return (TransitionMap if len(step_scale) <= FEW_AXES else ManyAxesMap)(step_scale)


class ManyAxesMap(TransitionMap):
    """Verifies by maps of pairs of axes; the frontier is that of all axes together.

    Args:
        step_scale, limit: as in :class:`TransitionMap`.
    """

    def __init__(self, step_scale: FloatArray, *, limit: float = 32.0) -> None:
        super().__init__(step_scale, limit=limit)
        pairs = combinations(range(len(step_scale)), 2)
        # By their two axes.
        self._parts = {
            (i, j): TransitionMap(step_scale[[i, j]], limit=limit)
            for i, j in pairs
            if j - i <= APART
        }

    def add(self, replay: EpisodeReplay, rows: IntArray, n_new: int | None = None) -> None:
        """See :class:`TransitionMap`."""
        parts = {axes: copy(part) for axes, part in self._parts.items()}
        for axes, part in parts.items():
            part.add(_Seen(replay, axes), rows, n_new)  # type: ignore[arg-type]
        super().add(replay, rows, n_new)
        self._parts = parts

    def search(self) -> None:
        """See :class:`TransitionMap`."""
        for part in self._parts.values():
            part.search()
        super().search()

    def steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """See :class:`TransitionMap`: as many as the slowest pair of axes takes."""
        if not self._parts:
            return super().steps(source, target)
        known = [part.steps(source[:, a], target[:, a]) for a, part in self._by_axes]
        result: FloatArray = np.max(known, axis=0)
        return result

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """See :class:`TransitionMap`."""
        if not self._parts:
            return super().least_steps(source, target)
        result = np.zeros((len(source), len(target)), np.float32)
        for axes, part in self._by_axes:
            np.maximum(result, part.least_steps(source[:, axes], target[:, axes]), out=result)
        return result

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        """See :class:`TransitionMap`."""
        if not self._parts:
            return super().may_lead(source, target)
        return all(part.may_lead(source[axes], target[axes]) for axes, part in self._by_axes)

    @property
    def _by_axes(self) -> list[tuple[list[int], TransitionMap]]:
        return [(list(axes), part) for axes, part in self._parts.items()]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """See :class:`TransitionMap`."""
        parts = {
            f"{_name(axes)}/{name}": array
            for axes, part in self._parts.items()
            for name, array in part.state_dict().items()
        }
        return {**super().state_dict(), **parts}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`TransitionMap`. Files from before know all axes together alone."""
        parts = {}
        if any(name.startswith("axes_") for name in arrays):
            for axes in self._parts:
                parts[axes] = TransitionMap(self.step_scale[list(axes)], limit=self.limit)
                start = f"{_name(axes)}/"
                own = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
                parts[axes].load_state_dict(own)
        super().load_state_dict({k: v for k, v in arrays.items() if not k.startswith("axes_")})
        self._parts = parts


def _name(axes: tuple[int, int]) -> str:
    return f"axes_{axes[0]}_{axes[1]}"


class _Seen:
    """A replay of which two axes are looked at."""

    def __init__(self, replay: EpisodeReplay, axes: tuple[int, int]) -> None:
        self.achieved_goal = _Columns(replay.achieved_goal, axes)
        self.steps_left, self.later = replay.steps_left, replay.later


class _Columns:
    """Some columns of (n, goal_dim), of the rows that are asked for."""

    def __init__(self, points: FloatArray, columns: tuple[int, int]) -> None:
        self._points, self._columns = points, list(columns)

    def __getitem__(self, rows: IntArray) -> FloatArray:
        return self._points[rows][..., self._columns]
