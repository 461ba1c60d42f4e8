"""The transition energy with its constants folded, for the many small batches of a plan.

The readable twin is :meth:`TransitionEnergy.forward`; a test holds the two together. A batch has
some hundred transitions, where time goes with the number of operations: all that is linear in the
two states (units, midpoint, difference, phases of the waves) becomes one product, a cosine is a
sine a quarter of a turn on, and the slopes of the hidden layers are fused. What is not a product of
matrices is NumPy's, whose operations on small arrays cost a third.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hierebm.planning.sequence.transition_energy import WAYPOINTS, TransitionEnergy

AnyFloats = NDArray[np.floating]

_slope = torch.ops.aten.silu_backward


class FoldedEnergy:
    """A :class:`TransitionEnergy` as it was when it was folded.

    Transitions are pairs (N, 2 D), a state and the next one, in units: divided by the
    ``step_scale`` of the energy.

    Args:
        energy: its parameters are not looked at again.
    """

    @torch.no_grad()
    def __init__(self, energy: TransitionEnergy) -> None:
        dim, n = energy.state_dim, energy.fourier.n_features
        self._parabola = energy.parabola
        unit, scale, centre = energy.step_scale, energy.state_scale, energy.centre
        eye = torch.eye(dim, dtype=unit.dtype)
        # From pairs: d, m, and the origin that waves are counted from.
        to_d = torch.cat([-eye, eye])
        to_m = torch.cat([0.5 * eye, 0.5 * eye]) * (unit / scale)
        to_origin = torch.cat([eye, 0.0 * eye])
        waves = [(to_origin + part * to_d) @ energy.fourier.frequencies for part in WAYPOINTS]
        to_phase = torch.cat(waves, 1)
        # All sines, then all cosines.
        self._to_phase = torch.cat([to_phase, to_phase], 1)
        shift = (-(centre / unit) @ energy.fourier.frequencies).repeat(len(WAYPOINTS))
        self._phase_bias = torch.cat([shift, shift + 0.5 * math.pi])
        first, *rest = (layer for layer in energy.mlp.layers if isinstance(layer, nn.Linear))
        weight = first.weight.t()
        # Inputs are m, d, and sine and cosine of each wave in turn.
        plain, waved = weight[: 2 * dim], weight[2 * dim :].view(len(WAYPOINTS), 2, n, -1)
        self._to_first = to_m @ plain[:dim] + to_d @ plain[dim:]
        self._first_bias = first.bias - (centre / scale) @ plain[:dim]
        self._waved = waved.transpose(0, 1).reshape(-1, weight.shape[1])
        self._layers = [(_transposed(layer.weight), layer.bias.detach().clone()) for layer in rest]
        # For the way back.
        self._from_first = _transposed(self._to_first)
        self._from_phase = _transposed(self._to_phase)
        self._from_waved = _transposed(self._waved)
        self._back = [_transposed(weight) for weight, _ in self._layers]

    def energy(self, pairs: AnyFloats) -> AnyFloats:
        """Energies (N,) of transitions (N, 2 D)."""
        energy: AnyFloats = self._forward(torch.from_numpy(pairs))[0].numpy()
        if self._parabola:
            energy += 0.5 * self._parabola * squares(steps_of(pairs))
        return energy

    def energy_and_grad(self, pairs: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
        """As :meth:`energy`, with the gradient (N, 2 D) per unit.

        The chain rule by hand, without an autograd graph.
        """
        energies, phase, inputs = self._forward(torch.from_numpy(pairs))
        g = _slope(self._back[-1].expand(len(pairs), -1), inputs[-1])
        for weights, below in zip(self._back[-2::-1], inputs[-2::-1], strict=True):
            g = _slope(g @ weights, below)
        to_phase = (g @ self._from_waved).mul_(phase.cos())
        gradients = (to_phase @ self._from_phase).addmm_(g, self._from_first)
        energy, gradient = energies.numpy(), gradients.numpy()
        if self._parabola:
            steps = steps_of(pairs)
            energy += 0.5 * self._parabola * squares(steps)
            pull(gradient, steps, self._parabola)
        return energy, gradient

    def _forward(self, pairs: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Energies but for the parabola, phases, and what goes into each activation."""
        phase = torch.addmm(self._phase_bias, pairs, self._to_phase)
        a = torch.addmm(self._first_bias, pairs, self._to_first).addmm_(phase.sin(), self._waved)
        inputs = [a]
        for weights, biases in self._layers[:-1]:
            a = torch.addmm(biases, F.silu(a), weights)
            inputs.append(a)
        weight, bias = self._layers[-1]
        return torch.addmm(bias, F.silu(a), weight).view(-1), phase, inputs


def _transposed(matrix: Tensor) -> Tensor:
    """A copy: training goes on."""
    return matrix.detach().t().clone(memory_format=torch.contiguous_format)


def steps_of(pairs: AnyFloats) -> AnyFloats:
    """(N, 2 D) -> (N, D) from each first state to the second."""
    dim = pairs.shape[1] // 2
    return pairs[:, dim:] - pairs[:, :dim]


def squares(steps: AnyFloats) -> AnyFloats:
    """(N, D) -> (N,) squared lengths."""
    result: AnyFloats = np.einsum("ij,ij->i", steps, steps)
    return result


def pull(gradient: AnyFloats, steps: AnyFloats, weight: float) -> None:
    """Add the gradient (N, 2 D) of weight * |d|^2 / 2 in place, d being steps (N, D)."""
    dim = steps.shape[1]
    pulled = weight * steps
    gradient[:, :dim] -= pulled
    gradient[:, dim:] += pulled
