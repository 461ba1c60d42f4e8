"""Doubt of what trajectories once joined: where tries are missed again and again, a way is closed.

Experience is never wrong about what was, and may be wrong about what is: a door that closed was
open once. So each missed try is evidence against the ways that lead past the point where it ended,
as surprising as misses are elsewhere; a trajectory that goes there again ends all doubt.
"""

from __future__ import annotations

import numpy as np

from hierebm.types import BoolArray, FloatArray

# Doubt, in nats, from which on a way counts as closed: a thousand to one.
CLOSED = 7.0
# Landmarks' spacings past the point where a try was missed that are surely farther than it got: as
# far as the landmark of the point may be from it.
BEYOND = 1.0


def leads_past(
    point: FloatArray, target: FloatArray, source: FloatArray, end: FloatArray
) -> BoolArray:
    """Whether ways lead past a point, on towards a target.

    Args:
        point, target: (goal_dim,) where a try was missed, and what it was for, in spacings.
        source, end: (n, goal_dim) where ways between two landmarks begin and end, in spacings.

    Returns:
        (n,) whether each goes by within one spacing of the point, and on to beyond it.
    """
    ahead = (target - point) / max(float(np.linalg.norm(target - point)), 1e-6)
    source, end = source - point, end - point
    way = end - source
    share = -(source * way).sum(1) / np.maximum((way**2).sum(1), 1e-6)
    nearest = source + np.clip(share, 0.0, 1.0)[:, None] * way
    on = (source @ ahead < BEYOND) & (end @ ahead >= BEYOND)
    result: BoolArray = on & (np.linalg.norm(nearest, axis=1) <= 1.0)
    return result
