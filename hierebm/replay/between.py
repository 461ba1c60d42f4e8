"""Between-triplets (s, g, w): two states of one trajectory and a state on the way from s to g."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import BoolArray, FloatArray


@dataclass(frozen=True)
class BetweenTriplets:
    """Positives of the conditional energy E(w | s, g), in goal space, (n, goal_dim) each."""

    start: FloatArray
    goal: FloatArray
    between: FloatArray
    half: BoolArray
    """(n,) whether w was drawn to be half the way, by its length, and not anywhere on it."""

    @classmethod
    def none(cls, goal_dim: int) -> BetweenTriplets:
        """No triplets at all."""
        empty = np.zeros((0, goal_dim), np.float32)
        return cls(empty, empty, empty, np.zeros(0, np.bool_))


def sample_between(
    replay: EpisodeReplay,
    n: int,
    rng: np.random.Generator,
    *,
    max_steps: int = 100,
    halfway: float = 0.0,
) -> BetweenTriplets:
    """Draw triplets from stored trajectories, w uniformly in *arc length* between s and g.

    Drawing w uniformly in time would over-represent the regions where the system is slow: the ends
    of every path that accelerates and brakes.

    Args:
        replay: where the trajectories are stored.
        n: number of triplets.
        rng: source of all randomness.
        max_steps: longest time between s and g, at least 1; uniform up to it or to the episode's
            end.
        halfway: share of triplets, in [0, 1], with w half the way instead.

    Raises:
        ValueError: max_steps or halfway out of range.
        RuntimeError: nothing was stored yet.
    """
    if max_steps < 1 or not 0.0 <= halfway <= 1.0:
        raise ValueError(
            f"need max_steps >= 1 and halfway in [0, 1], got {max_steps} and {halfway}"
        )
    rows = replay.sample_rows(n, rng)
    span = np.minimum(replay.steps_left(rows), max_steps)
    span = np.maximum(1, np.ceil(rng.random(n) * span)).astype(np.int64)
    ends = replay.later(rows, span)
    begin, end = replay.arc_length[rows], replay.arc_length[ends]
    share = rng.random(n, dtype=np.float32)
    half = np.arange(n) < round(halfway * n)
    share[half] = 0.5
    target = begin + share * (end - begin)

    # Bisection for the last state whose arc length is at most the target.
    low, high = np.zeros_like(span), span
    while np.any(high - low > 1):
        middle = (low + high) // 2
        below = replay.arc_length[replay.later(rows, middle)] <= target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    before, after = replay.later(rows, low), replay.later(rows, high)
    step = replay.arc_length[after] - replay.arc_length[before]
    fraction = np.clip((target - replay.arc_length[before]) / np.maximum(step, 1e-9), 0.0, 1.0)
    between = replay.achieved_goal[before] + fraction[:, None] * (
        replay.achieved_goal[after] - replay.achieved_goal[before]
    )
    return BetweenTriplets(
        start=replay.achieved_goal[rows],
        goal=replay.achieved_goal[ends],
        between=between.astype(np.float32),
        half=half,
    )


def sample_pairs(
    replay: EpisodeReplay, n: int, rng: np.random.Generator, *, max_steps: int
) -> FloatArray:
    """(n, 2, goal_dim) achieved goals of one trajectory, 1 to ``max_steps`` steps apart."""
    rows = replay.sample_rows(n, rng)
    steps = np.minimum(rng.integers(1, max_steps + 1, size=n), replay.steps_left(rows))
    pair = np.stack([replay.achieved_goal[rows], replay.achieved_goal[replay.later(rows, steps)]])
    return pair.swapaxes(0, 1)
