"""The energy's sampler: states that are likely to lie between start and goal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierebm.energy.point_selection import farthest_points
from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import LearntSampler
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.planning.samplers.recursive_bisection import recursive_bisection
from hierebm.planning.samplers.training_data import BetweenData
from hierebm.types import FloatArray

# Hops of a chain may take this many times ``safe_edge``.
HOP = 1.5
# Parts of the way that experience does not support are halved down to this many steps. What still
# leads nowhere would use up all nodes.
SHORT = 4.0


class EBMSampler(LearntSampler):
    """States of low energy E(w | s, g): likely to lie between start and goal.

    First a chain is laid from start to goal (:func:`recursive_bisection`).
    What is left of the n goes to candidates from the pool, resampled by exp(-E), on request refined
    by a few Langevin steps (kept only where they stay on visited ground), and thinned by
    farthest-point selection, because a graph gains nothing from two nodes at one place.

    Args:
        energy: the trained model; its config says how to sample.
        oversampling: how many are resampled for each one that is kept.
    """

    def __init__(self, energy: BetweenEnergy, oversampling: int = 4) -> None:
        self.energy, self.oversampling = energy, oversampling

    def sample_batch(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rngs: Sequence[np.random.Generator],
        edges: EdgeRules | None = None,
    ) -> list[Nodes]:
        """See :class:`SubgoalSampler`; without ``edges`` there is no chain.

        Raises:
            ValueError: a ``detour_weight`` without ``edges``.
        """
        if self.energy.config.detour_weight and edges is None:
            raise ValueError(
                "detour_weight needs distances: hand the sampler edges=EdgeRules(...), "
                "or set detour_weight=0"
            )
        m = min(len(pool), self.energy.config.candidates)
        rows = [rng.choice(len(pool), size=m, replace=False) for rng in rngs]
        candidates = pool.achieved_goal[np.stack(rows)]
        self._propose_straight(candidates, start, goal, rngs)
        chosen, in_order = [], []
        for i, rng in enumerate(rngs):
            query = start[i], goal[i]
            chain = self._chain(*query, min(n, m), candidates[i], pool, edges, rng)
            spread = chain
            if len(chain) < min(n, m):
                spread = self._spread(*query, min(n, m), candidates[i], pool, edges, chain, rng)
            chosen.append(spread)
            in_order.append(len(chain))
        energies = self.energy.energy(np.stack(chosen), start, goal)
        return list(map(pool.nodes_at, chosen, energies, in_order))

    def _chain(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        candidates: FloatArray,
        pool: NodePool,
        edges: EdgeRules | None,
        rng: np.random.Generator,
    ) -> FloatArray:
        """(at most n, goal_dim) candidates, from start to goal."""
        if edges is None or not self.energy.config.bisection:
            return candidates[:0]

        def too_long(source: FloatArray, target: FloatArray) -> NDArray[np.bool_]:
            long = ~edges.is_candidate(source, target)
            near = np.flatnonzero(~long)
            if near.size:
                here = pool.nodes_at(source[near])
                steps, verified = edges.verify(here.observation, here.achieved_goal, target[near])
                off = np.abs(target[near] - source[near]) > SHORT * edges.step_scale
                long[near] = (~verified & off.any(-1)) | (steps > HOP * edges.config.safe_edge)
            return long

        halfway = partial(self.energy.energy, half=True)
        return recursive_bisection(start, goal, n, candidates, halfway, too_long, rng)

    def _spread(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        candidates: FloatArray,
        pool: NodePool,
        edges: EdgeRules | None,
        chain: FloatArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        """(n, goal_dim): the chain and, far from it and from one another, draws from exp(-E)."""
        energies = self.energy.energy(candidates, start, goal)
        if edges is not None and self.energy.config.detour_weight:
            energies = energies + self._detour(candidates, start, goal, pool, edges)
        generator = torch.Generator(self.energy.device).manual_seed(int(rng.integers(2**62)))
        drawn = self.energy.draw(energies, self.oversampling * n, generator)
        points = candidates[drawn]
        if self.energy.config.langevin_steps:
            refined = self.energy.refine(points, start, goal, generator)
            # A refined point far from everything visited may be inside a wall.
            ground = pool.on_visited_ground(refined)
            points = np.where(ground[:, None], refined, points)
        points = np.concatenate([chain, points])
        return points[farthest_points(points, n, first=range(max(len(chain), 1)))]

    def _propose_straight(
        self,
        candidates: FloatArray,
        start: FloatArray,
        goal: FloatArray,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        """Replace the first of the candidates (q, m, goal_dim) by points of the straight lines."""
        k = round(self.energy.config.straight_candidates * candidates.shape[1])
        if k:
            along = np.stack([rng.random((k, 1), dtype=np.float32) for rng in rngs])
            candidates[:, :k] = start[:, None] + along * (goal - start)[:, None]

    def _detour(
        self,
        candidates: FloatArray,
        start: FloatArray,
        goal: FloatArray,
        pool: NodePool,
        edges: EdgeRules,
    ) -> FloatArray:
        """(m,) nats for the way from start to goal through each of the candidates."""
        here, via = pool.nodes_at(start[None]), pool.nodes_at(candidates)
        starts, goals = (np.tile(end, (len(candidates), 1)) for end in (start, goal))
        observations = np.tile(here.observation, (len(candidates), 1))
        to = edges.model.distance(observations, starts, via.achieved_goal)
        onwards = edges.model.distance(via.observation, via.achieved_goal, goals)
        nats: FloatArray = self.energy.config.detour_weight * (to + onwards)
        return nats

    # ------------------------------------------------------------------- learning

    def fit_scale(self, shift: Tensor, scale: Tensor, step_scale: Tensor) -> None:
        """See :class:`LearntSampler`."""
        self.energy.fit_scale(shift, scale, step_scale)

    def train(self, data: BetweenData) -> dict[str, float]:
        """One step of InfoNCE against places of the pool."""
        c = self.energy.config
        triplets = data.triplets(c.energy_batch_size, halfway=0.5)
        return self.energy.update(triplets, data.nodes(c.energy_batch_size, c.energy_negatives))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LearntSampler`."""
        return self.energy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`LearntSampler`."""
        self.energy.load_state_dict(state)
