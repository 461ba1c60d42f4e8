"""Whether what counts as reached can be told without asking the environment.

A device cannot call ``compute_reward``. Nearly every goal environment counts a goal as reached
within a distance, and that can be found out by asking.
"""

from __future__ import annotations

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import FloatArray, ReachedFn

# Pairs that are asked for, of each kind.
ASKED = 2000
# How far from a goal, in units of the tolerance, an environment is asked about: not nearer to 1
# than float32 tells apart far from the origin.
AROUND = (0.3, 0.95, 1.05, 2.0)


def ellipsoid_of(
    reached: ReachedFn, replay: EpisodeReplay, tolerance: FloatArray, farthest: FloatArray
) -> FloatArray | None:
    """Half axes (goal_dim,) of the ellipsoid around every goal in which it counts as reached.

    Infinite where an axis does not matter. None where the environment says otherwise of any of
    some thousand pairs: stored states and goals, and points just inside and just outside.

    Args:
        reached: says whether an achieved goal reaches a goal.
        replay: experience.
        tolerance: (goal_dim,) how far from a goal, along each axis, it counts as reached.
        farthest: (goal_dim,) as far as that was looked for.
    """
    rng = np.random.default_rng(0)
    rows = replay.newest_rows(ASKED)
    achieved, goal = replay.achieved_goal[rows], replay.goal[rows]
    later = replay.achieved_goal[replay.later(rows, 1)]
    shuffled = rng.permutation(len(rows))
    pairs = [(achieved, goal), (achieved, later), (achieved, achieved[shuffled])]
    axes = np.where(tolerance < 0.999 * farthest, tolerance, np.inf).astype(np.float32)
    for centers in (achieved[shuffled], goal):
        offset = rng.standard_normal(centers.shape)
        offset /= np.linalg.norm(offset, axis=1, keepdims=True)
        # Only a part of the axes, now and then.
        offset *= rng.random(offset.shape) < 0.8
        length = np.linalg.norm(np.where(np.isfinite(axes), offset, 0.0), axis=1, keepdims=True)
        share = rng.choice(AROUND, (len(offset), 1))
        offset *= np.where(length > 0.0, share / np.maximum(length, 1e-6), share)
        size = np.where(np.isfinite(axes), axes, np.minimum(farthest, 1.0))
        pairs.append(((centers + np.clip(offset, -4.0, 4.0) * size).astype(np.float32), centers))
    points, goals = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    smallest = np.maximum(axes, np.finfo(np.float32).tiny)
    distance = np.square((points - goals) / smallest).sum(-1)
    # At the very border, float32 decides.
    clear = np.abs(distance - 1.0) > 1e-3
    try:
        said = reached(points, goals)
    except Exception:  # whatever an environment raises where it knows no such goal
        return None
    return axes if np.array_equal(said[clear], distance[clear] <= 1.0) else None
