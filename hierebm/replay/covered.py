"""The ground that a data set covers: drawn evenly, however often the data goes to a part of it."""

from __future__ import annotations

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import FloatArray, IntArray

# Share of the draws that are even over the ground; the others are even over the states.
EVEN = 0.5
# Of the success tolerance: within this of a goal, learning counts it as reached, so that an actor
# that stops a little too early has still reached it; and this far from where the data went are
# goals that it never reached, most of which count as reached from there.
WITHIN, AROUND = 0.85, 0.77


class CoveredGround:
    """Rows and goals for learning from a buffer that no one adds to.

    An agent that explores goes where it has been least, and learns of the goals that it missed. A
    data set is as it is: a corridor that one trajectory in a hundred enters has a thousandth of its
    states, and no state may be in the corner of a cell.

    Args:
        replay: the data.
        tolerance: (goal_dim,) success tolerance of each axis; a cell of the ground is as long.

    Raises:
        RuntimeError: nothing was stored yet.
    """

    def __init__(self, replay: EpisodeReplay, tolerance: FloatArray) -> None:
        self._replay, self._rows = replay, np.flatnonzero(replay.has_action)
        if not self._rows.size:
            raise RuntimeError("the replay buffer holds no transitions yet; collect some first")
        achieved = replay.achieved_goal[self._rows]
        # An environment's tolerance is measured, up to rounding; cells are to be the same.
        tolerance = np.array([float(f"{axis:.4g}") for axis in tolerance], np.float32)
        # On an axis that the reward does not look at it may be endless, elsewhere nothing.
        self._tolerance = np.minimum(tolerance, np.ptp(achieved, axis=0))
        finest = np.spacing(np.abs(achieved).max(0)) + np.finfo(np.float32).tiny
        cells = np.floor(achieved / np.maximum(self._tolerance, finest)).astype(np.int64)
        # Cells that come out alike by chance count as one.
        primes = np.random.default_rng(0).integers(2**62, size=len(tolerance)) | 1
        _, cell, visits = np.unique(cells @ primes, return_inverse=True, return_counts=True)
        self._up_to = np.cumsum(1.0 / visits[cell])

    def sample_rows(self, n: int, rng: np.random.Generator) -> IntArray:
        """(n,) rows that have an action, with replacement, in random order: about half of them
        drawn evenly over cells and then over the states in a cell."""
        rows = self._replay.sample_rows(n, rng)
        even = np.flatnonzero(rng.random(n) < EVEN)
        at = np.searchsorted(self._up_to, rng.random(even.size) * self._up_to[-1], side="right")
        rows[even] = self._rows[np.minimum(at, len(self._rows) - 1)]
        return rows

    def around(self, goals: FloatArray, rng: np.random.Generator) -> FloatArray:
        """(n, goal_dim) goals -> as many, each drawn evenly from a ball around one of them."""
        n, dim = goals.shape
        offset = rng.standard_normal((n, dim))
        offset *= rng.random((n, 1)) ** (1.0 / dim) / np.linalg.norm(offset, axis=1, keepdims=True)
        return (goals + AROUND * self._tolerance * offset).astype(np.float32)

    @staticmethod
    def overshot(achieved_goal: FloatArray, goal: FloatArray) -> FloatArray:
        """(n, goal_dim) achieved goals as much farther from the goal (n, goal_dim) as makes those
        within ``WITHIN`` of the success tolerance count as reached, and no others."""
        return goal + (achieved_goal - goal) / np.float32(WITHIN)
