"""Contrastive composition: what follows the start and is followed by the goal is on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierebm.planning.between_data import BetweenData
from hierebm.planning.between_energy import EnergyConfig
from hierebm.planning.pair_score import PairScore
from hierebm.planning.places import PlacePool, Places
from hierebm.planning.samplers_base import LearntSampler, farthest_points, resample
from hierebm.replay.episodes import FloatArray


class ContrastiveSampler(LearntSampler):
    """States drawn from p(w | s, g), proportional to p(w) exp(f(s, w) + f(w, g)).

    With f(a, b) = log p(b | a) / p(b) learnt on pairs (state, later state) of trajectories, that is
    p(w | s) p(g | w) up to a constant: pairs alone are needed, and ways over states of different
    trajectories come by themselves (Eysenbach et al. 2024, arXiv 2403.04082, section 4). Candidates
    from the pool are p(w); resampling and thinning are :class:`EBMSampler`'s.

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

    def sample_batch(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: PlacePool,
        rngs: Sequence[np.random.Generator],
    ) -> list[Places]:
        """See :class:`SubgoalSampler`."""
        m = min(len(pool), self.config.candidates)
        rows = [rng.choice(len(pool), size=m, replace=False) for rng in rngs]
        candidates = pool.achieved_goal[np.stack(rows)]
        log_weight = self.score.score(start[:, None], candidates)
        log_weight = log_weight + self.score.score(candidates, goal[:, None])
        chosen = resample(log_weight, self.oversampling * n, rngs)
        result = []
        for i, rows_i in enumerate(chosen):
            kept = rows_i[farthest_points(candidates[i, rows_i], n, first=0)]
            result.append(pool.places_at(candidates[i, kept], -log_weight[i, kept]))
        return result

    def fit_scale(self, shift: Tensor, scale: Tensor, step_scale: Tensor) -> None:
        """See :class:`LearntSampler`."""
        self.score.features.fit_scale(shift, scale, step_scale)

    def train(self, data: BetweenData) -> dict[str, float]:
        """One step on pairs of a state and a later one."""
        c = self.config
        return self.score.update(*data.futures(c.energy_batch_size, c.contrastive_horizon))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LearntSampler`."""
        return self.score.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`LearntSampler`."""
        self.score.load_state_dict(state)
