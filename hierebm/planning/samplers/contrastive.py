"""Contrastive composition: what follows the start and is followed by the goal is on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierebm.energy.point_selection import farthest_points
from hierebm.energy.resampling import importance_resample
from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import LearntSampler
from hierebm.planning.samplers.between_energy import EnergyConfig
from hierebm.planning.samplers.pair_score import PairScore
from hierebm.planning.samplers.training_data import BetweenData
from hierebm.types import FloatArray, IntArray


class ContrastiveSampler(LearntSampler):
    """States drawn from p(w | s, g), proportional to p(w) exp(f(s, w) + f(w, g)).

    With f(a, b) = log p(b | a) / p(b) learnt on pairs (state, later state) of trajectories, that is
    p(w | s) p(g | w) up to a constant: pairs alone are needed, and ways over states of different
    trajectories come by themselves (Eysenbach et al. 2024, arXiv 2403.04082, section 4). Candidates
    from the pool are p(w); resampling and thinning are :class:`EBMSampler`'s. The pool is encoded
    once between two rounds of training: a query costs two encodings and distances to them.

    Args:
        goal_dim, config, generator, device: as for :class:`~.pair_score.PairScore`.
        oversampling: how many are resampled for each one that is kept.
    """

    learns_from_triplets = False

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        oversampling: int = 4,
    ) -> None:
        self.config, self.oversampling = config, oversampling
        self.score = PairScore(goal_dim, config, generator, device)
        # The pool, phi and psi of its points.
        self._encoded: tuple[NodePool, FloatArray, FloatArray] | None = None

    def sample_batch(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rngs: Sequence[np.random.Generator],
        edges: EdgeRules | None = None,
    ) -> list[Nodes]:
        """See :class:`SubgoalSampler`."""
        m = min(len(pool), self.config.candidates)
        rows = [rng.choice(len(pool), size=m, replace=False) for rng in rngs]
        drawn = np.stack(rows)
        log_weight = self._log_weight(drawn, start, goal, pool)
        result = []
        for i, rng in enumerate(rngs):
            drawing, _ = importance_resample(
                torch.from_numpy(-log_weight[i : i + 1]),
                min(self.oversampling * n, m),
                torch.Generator().manual_seed(int(rng.integers(2**62))),
                replace=False,
            )
            chosen = drawing[0].numpy()
            points = pool.achieved_goal[drawn[i, chosen]]
            kept = farthest_points(points, n, first=0)
            result.append(pool.nodes_at(points[kept], -log_weight[i, chosen[kept]]))
        return result

    def _log_weight(
        self, rows: IntArray, start: FloatArray, goal: FloatArray, pool: NodePool
    ) -> FloatArray:
        """f(s, w) + f(w, g), (q, m), of the pool's rows (q, m) as w."""
        if self._encoded is None or self._encoded[0] is not pool:
            points = pool.achieved_goal
            self._encoded = pool, self.score.encode(0, points), self.score.encode(1, points)
        _, phi, psi = self._encoded
        from_start = psi[rows] - self.score.encode(0, start)[:, None]
        to_goal = phi[rows] - self.score.encode(1, goal)[:, None]
        result: FloatArray = -0.5 * (np.square(from_start) + np.square(to_goal)).sum(-1)
        return result

    def fit_scale(self, shift: Tensor, scale: Tensor, step_scale: Tensor) -> None:
        """See :class:`LearntSampler`."""
        self.score.features.fit_scale(shift, scale, step_scale)

    def train(self, data: BetweenData) -> dict[str, float]:
        """One step on pairs of a state and a later one."""
        c, self._encoded = self.config, None
        return self.score.update(*data.futures(c.energy_batch_size, c.contrastive_horizon))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LearntSampler`."""
        return self.score.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`LearntSampler`."""
        self._encoded = None
        self.score.load_state_dict(state)
