"""The high level's model: a conditional energy E(w | s, g), low where w lies on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import info_nce
from hierebm.energy.samplers import importance_resample, langevin
from hierebm.nn.modules import FlatAdam, flat_parameters
from hierebm.replay import BetweenTriplets
from hierebm.replay.episodes import FloatArray


@dataclass
class EnergyConfig:
    """Settings of the between-energy: network, training, sampling."""

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
    stitched_buffer: int = 60_000
    """Stitched triplets kept; the newest replace the oldest."""
    candidates: int = 1500
    """Stored states that compete to be subgoals in a query."""
    langevin_steps: int = 5
    """Refinement steps of the resampled subgoals; 0 for none."""


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
            2 * goal_dim,
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
        self.model.set_normalisation(shift, scale, shift.repeat(2), scale.repeat(2))
        frequency = (scale / (8.0 * torch.maximum(step_scale, 0.01 * scale))).to(self.device)
        self.model.freq_y *= frequency[:, None]
        self.model.freq_x *= frequency.repeat(2)[:, None]
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
        condition = self._condition(positives.start, positives.goal)
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
    def energy(self, points: FloatArray, start: FloatArray, goal: FloatArray) -> FloatArray:
        """E(w | s, g) in nats up to a constant of (s, g).

        Args:
            points: (m, goal_dim) points w.
            start, goal: (goal_dim,).

        Returns:
            (m,) float32.
        """
        condition = self._condition(start[None], goal[None])[:, 0]
        result: FloatArray = self.model(self._tensor(points), condition).cpu().numpy()
        return result

    def resample(
        self,
        candidates: FloatArray,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        seed: int,
    ) -> tuple[FloatArray, FloatArray]:
        """Draw n different candidates with probability proportional to exp(-E), then refine.

        Args:
            candidates: (m, goal_dim) stored states, drawn from q.
            start, goal: (goal_dim,).
            n: how many.
            seed: of the draw and of the Langevin noise.

        Returns:
            (n, goal_dim) resampled candidates and (n, goal_dim) the same after Langevin steps.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        energies = self._tensor(self.energy(candidates, start, goal))
        n = min(n, len(candidates))
        chosen, _ = importance_resample(energies[None], n, generator, replace=False)
        drawn = candidates[chosen[0].cpu().numpy()]
        if not self.config.langevin_steps:
            return drawn, drawn
        refined = langevin(
            self.model,
            self._tensor(drawn)[None],
            self._condition(start[None], goal[None]),
            steps=self.config.langevin_steps,
            # Noise of a quarter step at full speed per update: it smooths, it does not travel.
            step_size=0.5 * (0.25 * self.step_scale).square(),
            max_move=0.5 * self.step_scale,
            generator=generator,
        )
        return drawn, refined[0].cpu().numpy()

    def _condition(self, start: FloatArray, goal: FloatArray) -> Tensor:
        return self._tensor(np.concatenate([start, goal], axis=-1))[:, None]

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
