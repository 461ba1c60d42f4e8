"""A conditional VAE that imagines states between start and goal, as a baseline for the energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.energy.point_selection import farthest_points
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.nn.layers import MLP
from hierebm.nn.trusted import check_network
from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.base import OVERSAMPLING, LearnedSampler
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.pair_score import PairScore, PointFeatures
from hierebm.planning.samplers.training_data import TrainingData
from hierebm.replay import BetweenTriplets
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

# Length of the latent code.
LATENT_DIM = 8
# Mean number of steps from a state to what counts as connected with it.
CONNECTIVITY_HORIZON = 4.0


class BetweenVAE(nn.Module):
    """p(w | s, g) = integral N(w; mu(z, s, g), sigma^2) N(z; 0, I) dz, with encoder q(z | w, s, g).

    Sohn et al. 2015. sigma is one step at full speed: points are wanted to within a step. A learned
    sigma (Rybkin et al. 2021, arXiv 2006.13202) first grows to the width of the data, the code is
    then ignored for good, and all samples are the middle of the way.
    """

    sigma: Tensor

    # Buffers that inputs are divided by: positive in every file.
    divisors: ClassVar[tuple[str, ...]] = ("sigma",)

    def __init__(self, goal_dim: int, config: EnergyConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.features = PointFeatures(goal_dim, generator)
        hidden, latent = [config.energy_width] * config.energy_depth, LATENT_DIM
        n = self.features.out_dim
        self.encoder = MLP(3 * n, hidden, 2 * latent, "silu", generator)
        self.decoder = MLP(latent + 2 * n, hidden, goal_dim, "silu", generator)
        # In half ranges of the goal space, as are all points in here.
        self.register_buffer("sigma", torch.full((goal_dim,), 0.05))

    def fit_scale(self, scales: InputScales) -> None:
        """Take the scales of the goal space; called once, before training."""
        self.features.fit_scale(scales)
        self.sigma.copy_(torch.from_numpy(scales.step / scales.goal_scale))

    def loss(self, start: Tensor, goal: Tensor, between: Tensor, noise: Tensor) -> Tensor:
        """Negative evidence bound in nats, up to a constant: (n,) for (n, goal_dim) each.

        Args:
            start, goal, between: the triplets.
            noise: (n, latent) standard normal.
        """
        condition = self._condition(start, goal)
        mean, log_sigma = self.encoder(
            torch.cat([self.features(between), condition], dim=-1)
        ).chunk(2, dim=-1)
        log_sigma = log_sigma.clamp(-7.0, 3.0)
        z = mean + log_sigma.exp() * noise
        target = (between - self.features.shift) / self.features.scale
        error = (self.decoder(torch.cat([z, condition], dim=-1)) - target) / self.sigma
        divergence = 0.5 * (mean.square() + (2 * log_sigma).exp() - 1) - log_sigma
        return 0.5 * error.square().sum(-1) + divergence.sum(-1)

    def decode(self, z: Tensor, start: Tensor, goal: Tensor) -> Tensor:
        """mu for latents (q, m, latent), start and goal (q, goal_dim): (q, m, goal_dim)."""
        condition = self._condition(start, goal)[:, None].expand(*z.shape[:2], -1)
        scaled = self.decoder(torch.cat([z, condition], dim=-1))
        return scaled * self.features.scale + self.features.shift

    def _condition(self, start: Tensor, goal: Tensor) -> Tensor:
        return torch.cat([self.features(start), self.features(goal)], dim=-1)


class CVAESampler(LearnedSampler):
    """Imagined states, those that connect to the others preferred.

    After Hallucinative Topological Memory (Liu et al. 2020, arXiv 2002.12336): a conditional VAE
    proposes points, a contrastive score of pairs that follow one another within a few steps says
    which of them are connected. Here the proposals are trained on the same triplets as the energy
    and conditioned on start and goal; the quarter with the weakest connection to any other is
    dropped, and the rest thinned as :class:`EBMSampler` does. Edges keep the low level's distances;
    :class:`EdgeRules` take ``connectivity`` as ``verifier`` where the score is to check them.

    Args:
        goal_dim: length of s, g and w, all points of goal space.
        config: size of the networks, learning rate.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.vae = BetweenVAE(goal_dim, config, generator).to(self.device)
        self.connectivity = PairScore(goal_dim, config, generator, device)
        self.optimizer = FlatAdam(
            flat_parameters(self.vae), lr=config.energy_lr, name="conditional VAE"
        )

    @torch.no_grad()
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
        z = rng.standard_normal((OVERSAMPLING * n, LATENT_DIM), np.float32)
        imagined = self.vae.decode(*(self._tensor(array[None]) for array in (z, start, goal)))
        points: FloatArray = imagined[0].cpu().numpy()
        connected = points[self._connected(points)]
        return pool.nodes_at(connected[farthest_points(connected, n, first=0)])

    def _connected(self, points: FloatArray) -> FloatArray:
        """(m,) bool: all but the quarter of the points with the weakest best link to another."""
        links = self.connectivity.score(points[:, None], points[None])
        links = np.minimum(links, links.T)
        np.fill_diagonal(links, -np.inf)
        best = links.max(0)
        result: FloatArray = best >= np.quantile(best, 0.25)
        return result

    # ------------------------------------------------------------------- learning

    def fit_scale(self, scales: InputScales) -> None:
        """See :class:`LearnedSampler`."""
        self.vae.fit_scale(scales)
        self.connectivity.features.fit_scale(scales)

    def train(self, data: TrainingData) -> dict[str, float]:
        """One step of the evidence bound and one of the connectivity."""
        c = self.config
        triplets = data.triplets(c.energy_batch_size)
        noise = data.rng.standard_normal((c.energy_batch_size, LATENT_DIM), np.float32)
        metrics = self.connectivity.update(*data.futures(c.energy_batch_size, CONNECTIVITY_HORIZON))
        return {
            "energy/loss": self._update(triplets, noise),
            "energy/connectivity_loss": metrics["energy/loss"],
        }

    def _update(self, triplets: BetweenTriplets, noise: FloatArray) -> float:
        loss = self.vae.loss(
            self._tensor(triplets.start),
            self._tensor(triplets.goal),
            self._tensor(triplets.between),
            self._tensor(noise),
        ).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step(loss)
        return float(loss.detach())

    def _tensor(self, array: FloatArray) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`LearnedSampler`."""
        parts = ("vae", "connectivity", "optimizer")
        return {name: getattr(self, name).state_dict() for name in parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`LearnedSampler`."""
        for name in ("vae", "connectivity", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        check_network(self.vae, "conditional VAE")
