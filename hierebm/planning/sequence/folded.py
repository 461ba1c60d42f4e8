"""The transition energy with its constants folded, for the many small batches of a plan.

The readable twin is :meth:`TransitionEnergy.forward`; a test holds the two together. A batch has
some hundred transitions, where time goes with the number of operations: all that is linear in the
two states (units, midpoint, difference, phases of the waves) becomes one product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hierebm.planning.sequence.transition_energy import WAYPOINTS, TransitionEnergy


class FoldedEnergy:
    """A :class:`TransitionEnergy` as it was when it was folded.

    Args:
        energy: its parameters are not looked at again.
    """

    @torch.no_grad()
    def __init__(self, energy: TransitionEnergy) -> None:
        dim, n = energy.state_dim, energy.fourier.n_features
        self._dim, self._parabola = dim, energy.parabola
        unit, scale, centre = energy.step_scale, energy.state_scale, energy.centre
        eye = torch.eye(dim, dtype=unit.dtype)
        # From x = (s, s'), (2 D) long: d, m, and the origin that waves are counted from.
        self._to_d = torch.cat([-eye, eye]) / unit
        to_m = torch.cat([0.5 * eye, 0.5 * eye]) / scale
        to_origin = torch.cat([eye, 0.0 * eye]) / unit
        waves = [(to_origin + part * self._to_d) @ energy.fourier.frequencies for part in WAYPOINTS]
        self._to_phase = torch.cat(waves, 1)
        shift = -(centre / unit) @ energy.fourier.frequencies
        self._phase_bias = shift.repeat(len(WAYPOINTS))
        first, *rest = (layer for layer in energy.mlp.layers if isinstance(layer, nn.Linear))
        weight = first.weight.t()
        # Inputs are m, d, and sine and cosine of each wave in turn.
        plain, waved = weight[: 2 * dim], weight[2 * dim :].view(len(WAYPOINTS), 2, n, -1)
        self._to_first = to_m @ plain[:dim] + self._to_d @ plain[dim:]
        self._first_bias = first.bias - (centre / scale) @ plain[:dim]
        self._waved = waved.transpose(0, 1).reshape(-1, weight.shape[1])
        self._layers = [(layer.weight.clone(), layer.bias.clone()) for layer in rest]

    @torch.no_grad()
    def energy_and_grad(self, s: Tensor, s_next: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (N,) of transitions (N, D), (N, D) and their gradients to both states, (N, D).

        The chain rule by hand, without an autograd graph.
        """
        x = torch.cat([s, s_next], 1)
        phase = torch.addmm(self._phase_bias, x, self._to_phase)
        sin, cos = phase.sin(), phase.cos()
        a = torch.addmm(self._first_bias, x, self._to_first)
        a.addmm_(torch.cat([sin, cos], 1), self._waved)
        slopes = []
        *hidden, (weight, bias) = self._layers
        for weights, biases in hidden:
            h, slope = _silu(a)
            slopes.append(slope)
            a = torch.addmm(biases, h, weights.t())
        h, slope = _silu(a)
        energy = torch.addmm(bias, h, weight.t()).squeeze(1)

        g = slope * weight
        for (weights, _), below in zip(reversed(hidden), reversed(slopes), strict=True):
            g = (g @ weights).mul_(below)
        to_sin, to_cos = (g @ self._waved.t()).chunk(2, 1)
        to_phase = (to_sin * cos).sub_(to_cos * sin)
        gradient = (to_phase @ self._to_phase.t()).addmm_(g, self._to_first.t())
        if self._parabola:
            d = x @ self._to_d
            energy.add_(d.square().sum(1), alpha=0.5 * self._parabola)
            gradient.addmm_(d, self._to_d.t(), alpha=self._parabola)
        return energy, gradient[:, : self._dim], gradient[:, self._dim :]


def _silu(a: Tensor) -> tuple[Tensor, Tensor]:
    """silu(a), and its derivative sigmoid(a) (1 + a (1 - sigmoid(a)))."""
    gate = a.sigmoid()
    h = a * gate
    return h, torch.addcmul(gate, h, 1.0 - gate)
