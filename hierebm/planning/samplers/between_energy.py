"""The high level's model: a conditional energy E(w | s, g), low where w lies on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierebm.energy.losses import info_nce
from hierebm.energy.mcmc import langevin
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.resampling import importance_resample
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray, IntArray


@dataclass
class EnergyConfig:
    """Settings of the learnt subgoal samplers: network, training, sampling."""

    energy_width: int = 128
    """Units of each hidden layer."""
    energy_depth: int = 3
    """Hidden layers."""
    energy_lr: float = 1e-3
    """Learning rate."""
    energy_batch_size: int = 128
    """Triplets (s, g, w) in a gradient step."""
    energy_negatives: int = 32
    """Stored states contrasted with each triplet's w."""
    energy_train_freq: int = 1000
    """Environment steps between two rounds of training."""
    energy_gradient_steps: int = 100
    """Gradient steps in a round."""
    stitched_share: float = 0.8
    """Share of triplets from shortest paths over stored states; the rest come from trajectories."""
    stitched_buffer: int = 120_000
    """Stitched triplets kept; the newest replace the oldest."""
    candidates: int = 1000
    """Stored states that compete to be subgoals in a query."""
    bisection: bool = False
    """Lay subgoals as a chain: the way is halved by a point of low energy, its halves by others,
    the first part first; those left over are spread along the way. Off: all are spread ("ebm")."""
    langevin_steps: int = 0
    """Refinement steps of the resampled subgoals; 0 for none."""
    detour_weight: float = 0.0
    """Nats that a subgoal loses for every step of the way through it, by the low level's own
    distances ("ebm"). Those end at ``max_distance``: in a larger world the term is flat wherever
    both start and goal are farther than that, and only bends the ends of the way."""
    straight_candidates: float = 0.0
    """Share of candidates taken from the straight line between start and goal ("ebm"), visited
    ground or not: it is the energy that has to veto those inside walls."""
    latent_dim: int = 8
    """Length of the latent code ("cvae")."""
    contrastive_dim: int = 32
    """Length of the representations ("contrastive", and the connectivity of "cvae")."""
    contrastive_horizon: float = 30.0
    """Mean number of steps from a state to the later one that it is contrasted with
    ("contrastive")."""
    connectivity_horizon: float = 4.0
    """The same for what counts as connected ("cvae")."""


class BetweenEnergy:
    """Trains E(w | s, g) by InfoNCE and draws subgoals from it.

    Negatives are stored states, so at the optimum -E = log p(w | s, g) / q(w) + c(s, g) with q the
    replay's own distribution (van den Oord et al. 2018, arXiv 1807.03748, eq. 4): candidates drawn
    from the replay and resampled by exp(-E) follow p.

    Args:
        goal_dim: length of s, g and w, all points of goal space.
        config: settings.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.model = EnergyMLP(
            goal_dim,
            2 * goal_dim + 1,
            width=config.energy_width,
            depth=config.energy_depth,
            fourier_features=64,
            fourier_scale=(0.5, 1.0, 2.0),
            # Distances to s and g and the detour over w as inputs: a tenth of the data will do.
            anchors=2,
            generator=generator,
        ).to(self.device)
        self.optimizer = FlatAdam(flat_parameters(self.model), lr=config.energy_lr)
        self.step_scale = torch.ones(goal_dim, device=self.device)

    def fit_scale(self, shift: Tensor, scale: Tensor, step_scale: Tensor) -> None:
        """Scale inputs to [-1, 1] and the Fourier frequencies to one radian per eight steps.

        Call it once, before training: (goal_dim,) middle and half range of the goal space, and how
        far a step at full speed goes.
        """
        zero, one = shift.new_zeros(1), scale.new_ones(1)
        self.model.set_normalisation(
            shift, scale, torch.cat([shift, shift, zero]), torch.cat([scale, scale, one])
        )
        frequency = (scale / (8.0 * torch.maximum(step_scale, 0.01 * scale))).to(self.device)
        self.model.freq_y *= frequency[:, None]
        self.model.freq_x[:-1] *= frequency.repeat(2)[:, None]
        self.model.freq_x[-1] = 0.0
        self.step_scale.copy_(step_scale)

    # ------------------------------------------------------------------ learning

    def update(self, positives: BetweenTriplets, negatives: FloatArray) -> dict[str, float]:
        """One gradient step of InfoNCE.

        Args:
            positives: n triplets.
            negatives: (n, k, goal_dim) stored states.

        Returns:
            ``energy/loss``, ``energy/accuracy`` (the positive has the lowest energy),
            ``energy/gap`` (mean energy of negatives minus positives, nats).
        """
        condition = self._condition(positives.start, positives.goal, positives.half)
        points = np.concatenate([positives.between[:, None], negatives], axis=1)
        energies = self.model(self._tensor(points), condition)
        loss, _ = info_nce(energies[:, 0], energies[:, 1:])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        energies = energies.detach()
        best = energies.argmin(1) == 0
        return {
            "energy/loss": float(loss.detach()),
            "energy/accuracy": float(best.float().mean()),
            "energy/gap": float(energies[:, 1:].mean() - energies[:, 0].mean()),
        }

    # ------------------------------------------------------------------- queries

    @torch.no_grad()
    def energy(
        self,
        points: FloatArray,
        start: FloatArray,
        goal: FloatArray,
        half: bool | NDArray[np.bool_] = False,
    ) -> FloatArray:
        """E(w | s, g) in nats up to a constant of (s, g), for one query or for q of them at once.

        Args:
            points: (m, goal_dim) or (q, m, goal_dim) points w.
            start, goal: (goal_dim,) or (q, goal_dim).
            half: whether w is to be half the way and not just on it, () or (q,).

        Returns:
            (m,) or (q, m) float32.
        """
        energies = self.model(self._tensor(points), self._condition(start, goal, half))
        result: FloatArray = energies.cpu().numpy()
        return result

    def draw(self, energies: FloatArray, n: int, generator: torch.Generator) -> IntArray:
        """(n,) different candidates of (m,), with probability proportional to exp(-E)."""
        chosen, _ = importance_resample(
            self._tensor(energies)[None], min(n, len(energies)), generator, replace=False
        )
        result: IntArray = chosen[0].cpu().numpy()
        return result

    def refine(
        self, points: FloatArray, start: FloatArray, goal: FloatArray, generator: torch.Generator
    ) -> FloatArray:
        """(n, goal_dim) points after a few Langevin steps of E(. | start, goal)."""
        refined = langevin(
            self.model,
            self._tensor(points)[None],
            self._condition(start, goal)[None],
            steps=self.config.langevin_steps,
            # Noise of a quarter step at full speed per update: it smooths, it does not travel.
            step_size=0.5 * (0.25 * self.step_scale).square(),
            max_move=0.5 * self.step_scale,
            generator=generator,
        )
        result: FloatArray = refined[0].cpu().numpy()
        return result

    def _condition(
        self, start: FloatArray, goal: FloatArray, half: bool | NDArray[np.bool_] = False
    ) -> Tensor:
        """(..., 1, 2 goal_dim + 1): s, g, and 1 where w is to be half the way."""
        asked = np.broadcast_to(np.asarray(half, np.float32), start.shape[:-1])
        condition = np.concatenate([start, goal, asked[..., None]], axis=-1)
        return self._tensor(condition)[..., None, :]

    def _tensor(self, array: FloatArray) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step_scale": self.step_scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_scale.copy_(state["step_scale"])
