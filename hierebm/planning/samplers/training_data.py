"""What subgoal samplers learn from: triplets, stored states, pairs of one trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierebm.planning.graph.nodes import NodePool
from hierebm.replay import BetweenTriplets, EpisodeReplay, sample_between
from hierebm.types import FloatArray


@dataclass
class TrainingData:
    """Draws of everything that a sampler may learn from; nothing is drawn that is not asked for.

    Args:
        replay: trajectories.
        pool: stored states.
        stitched: triplets from shortest paths over stored states; may be empty.
        stitched_share: share of triplets taken from those (none where there are none).
        rng: source of all draws.
    """

    replay: EpisodeReplay
    pool: NodePool
    stitched: BetweenTriplets
    stitched_share: float
    rng: np.random.Generator

    def triplets(self, n: int, halfway: float = 0.0) -> BetweenTriplets:
        """n triplets (s, g, w): w is on a way from s to g, in a share of them half the way."""
        # An untrained critic may not join any two states yet.
        n_stitched = round(self.stitched_share * n) * bool(len(self.stitched.start))
        n_half = round(halfway * n_stitched)
        half = self.stitched.half
        rows = np.concatenate(
            [
                self.rng.choice(np.flatnonzero(which), size)
                for which, size in ((half, n_half), (~half, n_stitched - n_half))
                if size
            ]
            or [np.zeros(0, np.int64)]
        )
        raw = sample_between(self.replay, n - n_stitched, self.rng, halfway=halfway)
        return BetweenTriplets(
            np.concatenate([self.stitched.start[rows], raw.start]),
            np.concatenate([self.stitched.goal[rows], raw.goal]),
            np.concatenate([self.stitched.between[rows], raw.between]),
            np.concatenate([self.stitched.half[rows], raw.half]),
        )

    def states(self, *shape: int) -> FloatArray:
        """(*shape, goal_dim) achieved goals of the pool, uniformly."""
        rows = self.rng.integers(len(self.pool), size=shape)
        result: FloatArray = self.pool.achieved_goal[rows]
        return result

    def futures(self, n: int, horizon: float) -> tuple[FloatArray, FloatArray]:
        """(n, goal_dim) states and (n, goal_dim) what followed them, in ``horizon`` steps on
        average: the number of steps is geometric, cut off where the episode ends.
        """
        rows = self.replay.sample_rows(n, self.rng)
        ahead = self.rng.geometric(1.0 / horizon, size=n)
        later = self.replay.later(rows, np.minimum(ahead, self.replay.steps_left(rows)))
        return self.replay.achieved_goal[rows], self.replay.achieved_goal[later]


def newest_triplets(old: BetweenTriplets, new: BetweenTriplets, limit: int) -> BetweenTriplets:
    """The last ``limit`` of the old triplets followed by the new."""
    return BetweenTriplets(
        *(
            np.concatenate([getattr(old, name), getattr(new, name)])[-limit:]
            for name in ("start", "goal", "between", "half")
        )
    )
