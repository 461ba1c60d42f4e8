"""Subgoal samplers: where the nodes of the graph between a state and a goal come from."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hierebm.planning.between_energy import BetweenEnergy
from hierebm.planning.places import PlacePool, Places
from hierebm.replay.episodes import FloatArray, IntArray


class SubgoalSampler(Protocol):
    """Draws n places that may serve as subgoals on the way from a state to a goal."""

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: PlacePool,
        rng: np.random.Generator,
    ) -> Places:
        """(goal_dim,), (goal_dim,) -> n places (fewer only if the pool holds fewer)."""


class ReplaySampler:
    """Stored states drawn uniformly, wherever start and goal are.

    Search on the replay buffer (Eysenbach et al. 2019, arXiv 1906.05253).
    """

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: PlacePool,
        rng: np.random.Generator,
    ) -> Places:
        """See :class:`SubgoalSampler`."""
        rows = rng.choice(len(pool), size=min(n, len(pool)), replace=False)
        return pool.places_at(pool.achieved_goal[rows])


class FarthestPointSampler:
    """Stored states spread evenly over everything visited, wherever start and goal are."""

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: PlacePool,
        rng: np.random.Generator,
    ) -> Places:
        """See :class:`SubgoalSampler`."""
        first = int(rng.integers(len(pool)))
        return pool.places_at(pool.achieved_goal[farthest_points(pool.achieved_goal, n, first)])


class EBMSampler:
    """States of low energy E(w | s, g): likely to lie between start and goal.

    Candidates from the pool are resampled by exp(-E), refined by a few Langevin steps (kept only
    where they stay on visited ground), and thinned by farthest-point selection, because a graph
    gains nothing from two nodes at one place.

    Args:
        energy: the trained model.
        oversampling: how many are resampled for each one that is kept.
    """

    def __init__(self, energy: BetweenEnergy, oversampling: int = 4) -> None:
        self.energy, self.oversampling = energy, oversampling

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: PlacePool,
        rng: np.random.Generator,
    ) -> Places:
        """See :class:`SubgoalSampler`."""
        m = min(len(pool), self.energy.config.candidates)
        candidates = pool.achieved_goal[rng.choice(len(pool), size=m, replace=False)]
        drawn, refined = self.energy.resample(
            candidates, start, goal, self.oversampling * n, seed=int(rng.integers(2**62))
        )
        # A refined point far from everything visited may be inside a wall.
        ground = pool.on_visited_ground(refined)
        points = np.where(ground[:, None], refined, drawn)
        points = points[farthest_points(points, n, first=0)]
        return pool.places_at(points, self.energy.energy(points, start, goal))


def farthest_points(points: FloatArray, n: int, first: int) -> IntArray:
    """Indices of n points, each the farthest from those before it (Gonzalez 1985).

    Args:
        points: (m, dim).
        n: how many, at most m.
        first: index to begin with.
    """
    n = min(n, len(points))
    chosen = np.empty(n, np.int64)
    chosen[0] = first
    gap = np.full(len(points), np.inf, np.float32)
    for k in range(1, n):
        np.minimum(gap, np.square(points - points[chosen[k - 1]]).sum(-1), out=gap)
        chosen[k] = int(gap.argmax())
    return chosen
