"""One step of the point mass: pure, batched, exact at walls.

Single and vector environment both call ``advance``, so they agree bit for bit, row by row: every
operation is elementwise, and none depends on how many rows there are.
"""

from __future__ import annotations

import numpy as np

from hierebm.envs.crossings import MARGIN
from hierebm.envs.layouts import Layout
from hierebm.types import FloatArray

__all__ = ["ACCELERATION", "DRAG", "MARGIN", "MAX_SPEED", "advance"]

DRAG = np.float32(0.2)
"""Share of the velocity that is lost in a step."""
ACCELERATION = np.float32(0.04)
"""Change of velocity, per axis and step, that a full action (1) brings."""
MAX_SPEED = np.float32(0.2)
"""Top speed per axis and step: the fixed point of v = (1 - DRAG) v + ACCELERATION."""

# As arrays: NumPy takes as long to convert a number as to work through a few dozen.
_LEAST, _MOST, _KEEP, _PULL, _TOP = (
    np.array(x, np.float32) for x in (-1.0, 1.0, np.float32(1.0) - DRAG, ACCELERATION, MAX_SPEED)
)


def advance(
    position: FloatArray, velocity: FloatArray, action: FloatArray, layout: Layout
) -> tuple[FloatArray, FloatArray]:
    """Move every point by one step.

    v' = (1 - DRAG) v + ACCELERATION a and p' = p + v'. A wall zeroes the velocity component that
    runs into it and lets the other one slide. A step is shorter than half a cell on either axis,
    so it crosses at most one cell boundary per axis; the two crossings are taken in the order in
    which the straight line meets them. Hence neither that line from p to p' nor the two axis moves
    in that order cross a wall: no corner is cut.

    Args:
        position: (B, 2) float32 in free space.
        velocity: (B, 2) float32, each component within MAX_SPEED.
        action: (B, 2) float32, clipped to [-1, 1].
        layout: the walls.

    Returns:
        New position and velocity, (B, 2) float32 each, in Fortran order: all x, then all y. Input
        in that order is the fastest.
    """
    # Coordinates first: NumPy's inner loops then run over the points.
    pull = np.maximum(action.T, _LEAST, order="C")
    np.minimum(pull, _MOST, out=pull)
    pull *= _PULL
    moved = np.multiply(_KEEP, velocity.T, order="C")
    moved += pull
    np.maximum(moved, -_TOP, out=moved)
    np.minimum(moved, _TOP, out=moved)
    # float64 here: dividing by the cell must never round a point across a boundary.
    ends = np.empty((2, *moved.shape))
    ends[0] = position.T
    ends[1] = position.T + moved
    end, stopped = layout.crossings.land(ends)
    if stopped is not None:
        moved[stopped] = 0.0
    return end.astype(np.float32).T, moved.T
