"""Failed tries on the way to a goal: what repeats them is neither chased nor planned again."""

from __future__ import annotations

import numpy as np

from hierebm.planning.closed_loop_plan import Failed
from hierebm.planning.graph.subgoal_graph import ALIKE
from hierebm.types import BoolArray, FloatArray

# A plan repeats a failed try if it gets there over at most that many times the straight line.
DETOUR = 1.5
# A try repeats another one that began at the same place if the cosine of the angle between both is
# at least this, and it goes at least this share as far: against a wall, all of them fail.
SAME_WAY, AS_FAR = 0.9, 0.5


def has_failed(
    here: FloatArray,
    points: FloatArray,
    failed: Failed,
    step_scale: FloatArray,
    same_way: bool = True,
) -> BoolArray:
    """(n,) whether going from here (D,) to each of the points (n, D) repeats what failed before.

    Args:
        failed: (from, to) of the tries.
        step_scale: (D,) how far one step at full speed goes.
        same_way: False: only points that were missed, not others in the same direction.
    """
    result = np.zeros(len(points), np.bool_)
    way = (points - here) / step_scale
    length = np.linalg.norm(way, axis=-1)
    for source, missed in failed:
        tried = (missed - source) / step_scale
        far = float(np.linalg.norm(tried))
        again = same_way & (way @ tried >= SAME_WAY * length * far) & (length >= AS_FAR * far)
        again |= (np.abs(points - missed) <= ALIKE * step_scale).all(-1)
        result |= again & (np.abs(source - here) <= ALIKE * step_scale).all(-1)
    return result


def goes_again(states: FloatArray, failed: Failed, step_scale: FloatArray) -> bool:
    """Whether a plan (T, D) leads straight from where a try failed to what it missed.

    Arguments as of :func:`has_failed`.
    """
    scaled = states / step_scale
    pieces = np.linalg.norm(np.diff(scaled, axis=0), axis=1)
    travelled = np.concatenate([np.zeros(1), pieces.cumsum()])
    for source, missed in failed:
        at, to = (
            np.flatnonzero((np.abs(scaled - point / step_scale) <= ALIKE).all(1))
            for point in (source, missed)
        )
        straight = (missed - source) / step_scale
        length = float(np.linalg.norm(straight))
        way = travelled[to] - travelled[at][:, None]
        along = (scaled[to] - scaled[at][:, None]) @ straight
        # Half of it at least: near ends have states in common.
        again = (way > 0.0) & (way <= DETOUR * length) & (along >= 0.5 * length**2)
        if again.any():
            return True
    return False
