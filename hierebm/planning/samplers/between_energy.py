"""The high level's model: a conditional energy E(w | s, g), low where w lies on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.energy.losses import info_nce
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.resampling import importance_resample
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.nn.trusted import check_network
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.replay import BetweenTriplets
from hierebm.replay.scales import InputScales
from hierebm.types import BoolArray, FloatArray, IntArray

# Frequencies of the Fourier features: one radian per eight steps, and its neighbouring octaves.
STEPS_PER_RADIAN, OCTAVES, FREQUENCIES = 8.0, (0.5, 1.0, 2.0), 64


class BetweenMLP(EnergyMLP):
    """The default network: an MLP on w, s, g, their distances and Fourier features."""

    _drawn: tuple[Tensor, Tensor] | None = None

    def fit_scale(self, scales: InputScales) -> None:
        """Inputs to [-1, 1], Fourier frequencies to one radian per eight steps; call it once."""
        shift, scale, step = map(
            torch.from_numpy, (scales.goal_shift, scales.goal_scale, scales.step)
        )
        zero, one = shift.new_zeros(1), scale.new_ones(1)
        self.set_normalisation(
            shift, scale, torch.cat([shift, shift, zero]), torch.cat([scale, scale, one])
        )
        unit = STEPS_PER_RADIAN * step
        frequency = (scale / unit).to(self.freq_y.device)
        # Of what was drawn: where learning was interrupted here, it comes here again.
        if self._drawn is None:
            self._drawn = self.freq_y.clone(), self.freq_x.clone()
        freq_y, freq_x = self._drawn
        self.freq_y.copy_(freq_y * frequency[:, None])
        self.freq_x[:-1] = freq_x[:-1] * frequency.repeat(2)[:, None]
        self.freq_x[-1] = 0.0


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
        self.model = self.make_network(goal_dim, generator).to(self.device)
        self.optimizer = FlatAdam(flat_parameters(self.model), lr=config.energy_lr, name="energy")

    def make_network(self, goal_dim: int, generator: torch.Generator) -> nn.Module:
        """A network (w, condition) -> E; override it for an energy of your own.

        It takes w (..., m, goal_dim) and the condition (..., 1, 2 goal_dim + 1), which is s, g and
        1 where w is to be half the way, and returns (..., m). If it has a method
        ``fit_scale(scales)``, that is called before training.
        """
        return BetweenMLP(
            goal_dim,
            2 * goal_dim + 1,
            width=self.config.energy_width,
            depth=self.config.energy_depth,
            fourier_features=FREQUENCIES,
            fourier_scale=OCTAVES,
            # Distances to s and g and the detour over w as inputs: a tenth of the data will do.
            anchors=2,
            generator=generator,
        )

    def fit_scale(self, scales: InputScales) -> None:
        """Scale the network's inputs, once, before training."""
        fit_scale = getattr(self.model, "fit_scale", None)
        if fit_scale is not None:
            fit_scale(scales)

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
        self.optimizer.step(loss)
        energies = energies.detach()
        best = energies.argmin(1) == 0
        return {
            "energy/loss": float(loss.detach()),
            "energy/accuracy": float(best.float().mean()),
            "energy/gap": float(energies[:, 1:].mean() - energies[:, 0].mean()),
        }

    def look(self) -> dict[str, float]:
        """Metrics of gradient steps that :meth:`update` did not tell of: none."""
        return {}

    # ------------------------------------------------------------------- queries

    @torch.no_grad()
    def energy(
        self,
        points: FloatArray,
        start: FloatArray,
        goal: FloatArray,
        half: bool | BoolArray = False,
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

    def _condition(
        self, start: FloatArray, goal: FloatArray, half: bool | BoolArray = False
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
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
        self.model.load_state_dict(state["model"])
        check_network(self.model, "energy")
        self.optimizer.load_state_dict(state["optimizer"])
