"""What of a state is its achieved goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from operator import index
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hierebm.data.checks import as_rows, check_finite, float32
from hierebm.types import FloatArray

GoalOf: TypeAlias = Sequence[int] | Callable[[FloatArray], NDArray[Any]]
"""Axes of the observation that are the achieved goal, or (N, obs_dim) -> (N, goal_dim), which must
not write into the observations."""


def achieved_goals_of(observation: FloatArray, goal: GoalOf) -> FloatArray:
    """(N, goal_dim) achieved goals of (N, obs_dim) finite states.

    A view where the axes are at equal distances, in rising order.

    Raises:
        ValueError: axes that the observation does not have, or a function whose value is not
            (N, goal_dim) finite numbers.
    """
    if not callable(goal):
        return observation[:, _axes(goal, observation.shape[1])]
    # What a function writes into them would be taken for what was observed.
    shown = observation.view()
    shown.flags.writeable = False
    value = goal(shown)
    name = "goal(observations)"
    achieved_goal = float32(as_rows(name, value, len(observation)))
    check_finite(name, achieved_goal)
    return achieved_goal


def _axis(axis: Any) -> int:
    if isinstance(axis, bool):
        raise TypeError("an axis is a number, True and False would be 1 and 0")
    return index(axis)


def _axes(goal: Sequence[int], obs_dim: int) -> Any:
    """A slice where that says the same, else a list."""
    try:
        # More axes than there are cannot be different ones: no need to count them.
        axes = [_axis(axis) for axis in islice(goal, obs_dim + 1)]
    except TypeError as error:
        raise ValueError(
            f"goal must be axes of the observation, as (0, 1), or a function of it, got {goal!r}"
        ) from error
    inside = [axis + obs_dim if axis < 0 else axis for axis in axes]
    if not axes or min(inside) < 0 or max(inside) >= obs_dim or len(set(inside)) != len(axes):
        raise ValueError(
            f"goal={goal!r} must be different axes of the observation, which has {obs_dim}: "
            f"0 to {obs_dim - 1}"
        )
    step = inside[1] - inside[0] if len(inside) > 1 else 1
    if step > 0 and (np.diff(inside) == step).all():
        return slice(inside[0], inside[-1] + 1, step)
    return inside
