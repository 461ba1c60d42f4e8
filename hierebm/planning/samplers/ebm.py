"""The energy's sampler: states that are likely to lie between start and goal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from hierebm.energy.point_selection import farthest_points
from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import (
    CANDIDATES,
    OVERSAMPLING,
    LearnedSampler,
)
from hierebm.planning.samplers.between_captured import CapturedBetweenEnergy
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.planning.samplers.between_kernels import FastBetweenEnergy
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.recursive_bisection import recursive_bisection
from hierebm.planning.samplers.training_data import TrainingData
from hierebm.replay.scales import InputScales
from hierebm.types import BoolArray, FloatArray, IntArray

# Bisection stops at segments of at most this many times ``safe_edge``.
LONGEST_HOP = 1.5
# Segments that experience does not verify are bisected down to this many steps: one that leads
# nowhere would use up all nodes.
SHORTEST_UNVERIFIED = 4.0


class EBMSampler(LearnedSampler):
    """States of low energy E(w | s, g): likely to lie between start and goal.

    Candidates from the pool are resampled by exp(-E) and thinned by farthest-point selection,
    because a graph gains nothing from two nodes that lie together. With ``config.bisection``, the
    nodes are laid out by recursive bisection first, and only those left over are resampled.

    Args:
        goal_dim: length of a point of goal space.
        config: settings of the energy.
        generator: source of its initial parameters.
        device: where its network lives.
    """

    energy_class: ClassVar[type[BetweenEnergy]] = BetweenEnergy
    """Override it for an energy of your own."""

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        energy_class = self.energy_class
        if energy_class is BetweenEnergy:
            kinds = {"cpu": FastBetweenEnergy, "cuda": CapturedBetweenEnergy}
            energy_class = kinds.get(torch.device(device).type, BetweenEnergy)
        self.energy = energy_class(goal_dim, config, generator, device)

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`; without ``edges`` there is no bisection."""
        return self._sample(start, goal, n, pool, rng, edges if self.config.bisection else None)

    def lay_out(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`: by bisection, set or not."""
        return self._sample(start, goal, n, pool, rng, edges)

    def _sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None,
    ) -> Nodes:
        """Nodes laid out by bisection, but without ``edges``, and others."""
        m = min(len(pool), CANDIDATES)
        n = min(n, m)
        candidates = pool.achieved_goal[rng.choice(len(pool), size=m, replace=False)]
        if edges is not None:
            chain = self._bisect(start, goal, n, candidates, pool, edges, rng)
        else:
            chain = candidates[:0]
        points = np.concatenate([chain, candidates]) if len(chain) < n else chain
        energies = self.energy.energy(points, start, goal)
        if len(chain) < n:
            chosen = self._spread(points, energies, n, len(chain), rng)
            points, energies = points[chosen], energies[chosen]
        return pool.nodes_at(points, energies, in_order=len(chain))

    def _bisect(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        candidates: FloatArray,
        pool: NodePool,
        edges: EdgeRules,
        rng: np.random.Generator,
    ) -> FloatArray:
        """(at most n, goal_dim) candidates, in order from start to goal."""

        def too_long(source: FloatArray, target: FloatArray) -> BoolArray:
            long = ~edges.is_candidate(source, target)
            near = np.flatnonzero(~long)
            if near.size:
                here = pool.nodes_at(source[near])
                steps, is_verified = edges.evaluate(
                    here.observation, here.achieved_goal, target[near]
                )
                apart = np.abs(target[near] - source[near]) > SHORTEST_UNVERIFIED * edges.step_scale
                long[near] = (~is_verified & apart.any(-1)) | (
                    steps > LONGEST_HOP * edges.config.safe_edge
                )
            return long

        ends = np.stack([start, goal])
        known = np.isfinite(edges.least_steps(ends, ends).diagonal())
        # Nothing verifies a segment from or to a point where no trajectory was: it would use up the
        # nodes. The way begins and ends at the stored states nearest to such points.
        a, b = np.where(known[:, None], ends, pool.nearest(ends, 1)[:, 0])
        halfway = partial(self.energy.energy, half=True)
        between = recursive_bisection(
            a, b, n - int((~known).sum()), candidates, halfway, too_long, edges.least_steps, rng
        )
        way = np.concatenate([a[None], between, b[None]])
        result: FloatArray = way[int(known[0]) : len(way) - int(known[1])][:n]
        return result

    def _spread(
        self, points: FloatArray, energies: FloatArray, n: int, kept: int, rng: np.random.Generator
    ) -> IntArray:
        """Indices (n,) of points (m, goal_dim) of energies (m,): those kept, which are the first,
        and, far from them and from one another, draws from exp(-E)."""
        generator = torch.Generator(self.energy.device).manual_seed(int(rng.integers(2**62)))
        drawn = kept + self.energy.draw(energies[kept:], OVERSAMPLING * n, generator)
        choice = np.concatenate([np.arange(kept), drawn])
        return choice[farthest_points(points[choice], n, first=range(max(kept, 1)))]

    # ------------------------------------------------------------------- learning

    def fit_scale(self, scales: InputScales) -> None:
        """See :class:`LearnedSampler`."""
        self.energy.fit_scale(scales)

    def train(self, data: TrainingData) -> dict[str, float]:
        """One step of InfoNCE against states of the pool."""
        c = self.config
        triplets = data.triplets(c.energy_batch_size, halfway=0.5)
        return self.energy.update(triplets, data.states(c.energy_batch_size, c.energy_negatives))

    def look(self) -> dict[str, float]:
        """See :class:`LearnedSampler`."""
        return self.energy.look()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LearnedSampler`."""
        return self.energy.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`LearnedSampler`."""
        self.energy.load_state_dict(state)
