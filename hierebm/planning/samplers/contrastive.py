"""Contrastive composition: what follows the start and is followed by the goal is on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hierebm.energy.point_selection import farthest_points
from hierebm.energy.resampling import importance_resample
from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import (
    CANDIDATES,
    OVERSAMPLING,
    LearnedSampler,
)
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.pair_score import PairScore
from hierebm.planning.samplers.training_data import TrainingData
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray, IntArray

# Mean number of steps from a state to the later one that it is contrasted with.
HORIZON = 30.0


class ContrastiveSampler(LearnedSampler):
    """States drawn from p(w | s, g), proportional to p(w) exp(f(s, w) + f(w, g)).

    With f(a, b) = log p(b | a) / p(b) learned on pairs (state, later state) of trajectories, this
    is p(w | s) p(g | w) up to a constant: pairs alone are needed, and ways over states of different
    trajectories come by themselves (Eysenbach et al. 2024, arXiv 2403.04082, section 4). Candidates
    from the pool are p(w); resampling and thinning are :class:`EBMSampler`'s. The pool is encoded
    once between two rounds of training: a query costs two encodings and distances to them.

    Args:
        goal_dim, config, generator, device: as for :class:`~.pair_score.PairScore`.
    """

    learns_from_triplets = False

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.score = PairScore(goal_dim, config, generator, device)
        # The pool, phi and psi of its points.
        self._encoded: tuple[NodePool, FloatArray, FloatArray] | None = None

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """See :class:`SubgoalSampler`."""
        m = min(len(pool), CANDIDATES)
        drawn = rng.choice(len(pool), size=m, replace=False)
        log_weight = self._log_weight(drawn, start, goal, pool)
        drawing, _ = importance_resample(
            torch.from_numpy(-log_weight)[None],
            min(OVERSAMPLING * n, m),
            torch.Generator().manual_seed(int(rng.integers(2**62))),
            replace=False,
        )
        chosen = drawing[0].numpy()
        points = pool.achieved_goal[drawn[chosen]]
        kept = farthest_points(points, n, first=0)
        return pool.nodes_at(points[kept], -log_weight[chosen[kept]])

    def _log_weight(
        self, rows: IntArray, start: FloatArray, goal: FloatArray, pool: NodePool
    ) -> FloatArray:
        """f(s, w) + f(w, g) of the pool's rows (m,) as w: (m,)."""
        if self._encoded is None or self._encoded[0] is not pool:
            points = pool.achieved_goal
            self._encoded = pool, self.score.encode(0, points), self.score.encode(1, points)
        _, phi, psi = self._encoded
        from_start = psi[rows] - self.score.encode(0, start[None])
        to_goal = phi[rows] - self.score.encode(1, goal[None])
        result: FloatArray = -0.5 * (np.square(from_start) + np.square(to_goal)).sum(-1)
        return result

    def fit_scale(self, scales: InputScales) -> None:
        """See :class:`LearnedSampler`."""
        self.score.features.fit_scale(scales)

    def train(self, data: TrainingData) -> dict[str, float]:
        """One step on pairs of a state and a later one."""
        c, self._encoded = self.config, None
        return self.score.update(*data.futures(c.energy_batch_size, HORIZON))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LearnedSampler`."""
        return self.score.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`LearnedSampler`."""
        self._encoded = None
        self.score.load_state_dict(state)
