"""One step of the point mass: pure, batched, exact at walls.

Single and vector environment both call ``advance``, so they agree bit for bit, row by row: every
operation is elementwise, and none depends on how many rows there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hierebm.envs.layouts import Layout

DRAG = np.float32(0.2)
"""Share of the velocity that is lost in a step."""
ACCELERATION = np.float32(0.04)
"""Change of velocity, per axis and step, that a full action (1) brings."""
MAX_SPEED = np.float32(0.2)
"""Top speed per axis and step: the fixed point of v = (1 - DRAG) v + ACCELERATION."""
MARGIN = np.float32(1e-4)
"""Distance kept from the faces of walls: no position is ever on one."""

Float32Array = npt.NDArray[np.float32]
_KEEP = np.float32(1.0) - DRAG


def advance(
    position: Float32Array, velocity: Float32Array, action: Float32Array, layout: Layout
) -> tuple[Float32Array, Float32Array]:
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
        New position and velocity, (B, 2) float32 each.
    """
    moved = _KEEP * velocity + ACCELERATION * _clipped(action, -1, 1)
    moved = _clipped(moved, -MAX_SPEED, MAX_SPEED)
    target = position + moved

    # float64 here: dividing by the cell must never round a point across a boundary.
    old = np.floor((position - layout.low) / layout.cell_size)
    new = np.floor((target - layout.low) / layout.cell_size)
    stopped = old != new
    if stopped.any():
        stopped = _stopped(position, target, old, new, layout)

    # Stay clear of the walls around the cell that the point ends in, and of what stopped it.
    final = np.where(stopped, old, new)
    fx, fy = (final.T + 1).astype(np.intp)
    beside_low, beside_high = layout.walls_beside
    cell = fy * layout.padded_walls.shape[1] + fx
    low = layout.low + layout.cell_size * final
    high = low + layout.cell_size - MARGIN * (stopped | beside_high[cell])
    inside = _clipped(target, low + MARGIN * (stopped | beside_low[cell]), high)
    return inside.astype(np.float32), np.where(stopped, np.float32(0.0), moved)


def _stopped(
    position: Float32Array,
    target: Float32Array,
    old: npt.NDArray[np.float64],
    new: npt.NDArray[np.float64],
    layout: Layout,
) -> npt.NDArray[np.bool_]:
    """Which axes a wall stops on the way from the cells ``old`` to ``new``: (B, 2) bool."""
    walls, width = layout.padded_walls.ravel(), layout.padded_walls.shape[1]
    # Indices into the padded map, whose border stands for the edge of the world.
    ox, oy = (old.T + 1).astype(np.intp)
    nx, ny = (new.T + 1).astype(np.intp)
    wall_beside = walls[oy * width + nx]
    wall_above = walls[ny * width + ox]
    wall_across = walls[ny * width + nx]

    # Fractions of the step at which the boundaries are met, compared without dividing.
    boundary = layout.low + layout.cell_size * np.maximum(old, new)
    gap, reach = (
        np.abs(boundary - position),
        np.abs(np.subtract(target, position, dtype=np.float64)),
    )
    x_first = gap[:, 0] * reach[:, 1] <= gap[:, 1] * reach[:, 0]
    # The later crossing starts from wherever the earlier one ended: beyond it, or stopped before.
    stopped = np.empty(old.shape, np.bool_)
    stopped[:, 0] = np.where(x_first | wall_above, wall_beside, wall_across)
    stopped[:, 1] = np.where(x_first & ~wall_beside, wall_across, wall_above)
    return stopped


def _clipped(values: npt.NDArray[Any], low: Any, high: Any) -> npt.NDArray[Any]:
    """``np.clip`` of numbers at half its price for few rows."""
    return np.minimum(np.maximum(values, low), high)
