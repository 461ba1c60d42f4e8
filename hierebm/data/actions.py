"""Actions between their bounds, scaled to [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hierebm.data.checks import chunks, float32
from hierebm.types import LARGEST, BoolArray, FloatArray

# Actions may lie outside of their bounds by this share of half the range: rounding, no more.
ROUNDING = 1e-4


def scale_actions(
    actions: NDArray[Any], used: BoolArray, action_low: ArrayLike, action_high: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Actions that go from -1 at their lower bound to 1 at the upper one.

    Args:
        actions: (N, action_dim), finite where used.
        used: (N,) whether the action is looked at.
        action_low, action_high: one number or (action_dim,).

    Returns:
        Scaled actions (N, action_dim), the same array if nothing is to be done; and both bounds,
        (action_dim,); all float32.

    Raises:
        ValueError: bounds that are none, or actions outside of them.
    """
    width = actions.shape[1]
    low, high = _bound("action_low", action_low, width), _bound("action_high", action_high, width)
    bounds = low.astype(np.float32), high.astype(np.float32)
    if not (bounds[0] < bounds[1]).all():
        raise ValueError(
            f"action_low must be below action_high on each axis, got {low.tolist()} and "
            f"{high.tolist()}"
        )
    lowest, highest = np.full(width, np.inf), np.full(width, -np.inf)
    for part in chunks(len(actions), width):
        acted = actions[part][used[part]].astype(np.float64)
        lowest = np.minimum(lowest, acted.min(0, initial=np.inf))
        highest = np.maximum(highest, acted.max(0, initial=-np.inf))
    middle, half_range = (low + high) / 2.0, (high - low) / 2.0
    outside = np.maximum(low - lowest, highest - high) / half_range
    axis = int(np.argmax(outside))
    if outside[axis] > ROUNDING:
        raise ValueError(
            f"actions[:, {axis}] go from {lowest[axis]:.6g} to {highest[axis]:.6g}, their bounds "
            f"are {low[axis]:.6g} and {high[axis]:.6g}: pass action_low= and action_high=, the "
            "bounds of the environment's action space"
        )
    if (low == -1.0).all() and (high == 1.0).all() and outside[axis] <= 0.0:
        return float32(actions), *bounds
    scaled = np.empty(actions.shape, np.float32)
    for part in chunks(len(actions), width):
        # What is not used may be anything.
        with np.errstate(invalid="ignore", over="ignore"):
            scaled[part] = np.clip((actions[part] - middle) / half_range, -1.0, 1.0)
    return scaled, *bounds


def _bound(name: str, bound: ArrayLike, width: int) -> NDArray[np.float64]:
    try:
        array = np.asarray(bound, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape not in ((), (width,)) or not (np.abs(array) <= LARGEST).all():
        raise ValueError(
            f"{name} must be a finite number, or {width} of them, one for each axis of the "
            f"actions, got {bound!r}"
        )
    return np.broadcast_to(array, (width,))
