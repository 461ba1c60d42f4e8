"""The transition energy with its constants folded, for the many small batches of a plan.

The readable twin is :meth:`TransitionEnergy.forward`; a test holds the two together. A batch has
some hundred transitions, where time goes with the number of operations: all that is linear in the
two states (units, midpoint, difference, phases of the waves) becomes one product, a cosine is a
sine a quarter of a turn on, and the slopes of the hidden layers are fused.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierebm.planning.sequence.transition_energy import WAYPOINTS, TransitionEnergy

_slope = torch.ops.aten.silu_backward


class FoldedEnergy:
    """A :class:`TransitionEnergy` as it was when it was folded.

    Transitions are pairs (N, 2 D), a state and the next one, in units: divided by ``unit``, the
    ``step_scale`` of the energy.

    Args:
        energy: its parameters are not looked at again.
    """

    @torch.no_grad()
    def __init__(self, energy: TransitionEnergy) -> None:
        dim, n = energy.state_dim, energy.fourier.n_features
        self._parabola, self.unit = energy.parabola, energy.step_scale.clone()
        unit, scale, centre = energy.step_scale, energy.state_scale, energy.centre
        eye = torch.eye(dim, dtype=unit.dtype)
        # From pairs: d, m, and the origin that waves are counted from.
        self._to_d = torch.cat([-eye, eye])
        to_m = torch.cat([0.5 * eye, 0.5 * eye]) * (unit / scale)
        to_origin = torch.cat([eye, 0.0 * eye])
        waves = [(to_origin + part * self._to_d) @ energy.fourier.frequencies for part in WAYPOINTS]
        to_phase = torch.cat(waves, 1)
        # All sines, then all cosines.
        self._to_phase = torch.cat([to_phase, to_phase], 1)
        shift = (-(centre / unit) @ energy.fourier.frequencies).repeat(len(WAYPOINTS))
        self._phase_bias = torch.cat([shift, shift + 0.5 * math.pi])
        first, *rest = (layer for layer in energy.mlp.layers if isinstance(layer, nn.Linear))
        weight = first.weight.t()
        # Inputs are m, d, and sine and cosine of each wave in turn.
        plain, waved = weight[: 2 * dim], weight[2 * dim :].view(len(WAYPOINTS), 2, n, -1)
        self._to_first = to_m @ plain[:dim] + self._to_d @ plain[dim:]
        self._first_bias = first.bias - (centre / scale) @ plain[:dim]
        self._waved = waved.transpose(0, 1).reshape(-1, weight.shape[1])
        self._layers = [(layer.weight.clone(), layer.bias.clone()) for layer in rest]

    def steps(self, pairs: Tensor) -> Tensor:
        """(N, 2 D) -> (N, D) from each first state to the second, in units."""
        return pairs @ self._to_d

    def energy(self, pairs: Tensor, steps: Tensor) -> Tensor:
        """Energies (N,) of transitions (N, 2 D).

        Args:
            pairs: in units.
            steps: of :meth:`steps`.
        """
        return self._forward(pairs, steps)[0]

    def _forward(self, pairs: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Energies, phases, and what goes into each activation."""
        phase = torch.addmm(self._phase_bias, pairs, self._to_phase)
        a = torch.addmm(self._first_bias, pairs, self._to_first).addmm_(phase.sin(), self._waved)
        inputs = [a]
        *hidden, (weight, bias) = self._layers
        for weights, biases in hidden:
            a = torch.addmm(biases, F.silu(a), weights.t())
            inputs.append(a)
        energy = torch.addmm(bias, F.silu(a), weight.t()).squeeze(1)
        if self._parabola:
            energy.add_(steps.square().sum(1), alpha=0.5 * self._parabola)
        return energy, phase, inputs

    def energy_and_grad(self, pairs: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`energy`, with the gradient (N, 2 D) in units.

        The chain rule by hand, without an autograd graph.
        """
        energy, phase, inputs = self._forward(pairs, steps)
        *hidden, (weight, _) = self._layers
        g = _slope(weight.expand(len(pairs), -1), inputs[-1])
        for (weights, _), below in zip(reversed(hidden), reversed(inputs[:-1]), strict=True):
            g = _slope(g @ weights, below)
        to_phase = (g @ self._waved.t()).mul_(phase.cos())
        gradient = (to_phase @ self._to_phase.t()).addmm_(g, self._to_first.t())
        if self._parabola:
            gradient.addmm_(steps, self._to_d.t(), alpha=self._parabola)
        return energy, gradient
