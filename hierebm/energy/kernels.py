"""The graph-free forward and input-gradient pass of ``EnergyMLP``, written by hand.

What it saves over autograd: no graph; no gradient of anything but y; sines and cosines of the
forward pass serve as each other's derivative; the input normalisation and everything that depends
on the condition alone is folded into the weights once per sampling run and not once per step; every
intermediate is written into buffers that stay in the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hierebm.nn.scratch import aligned

# Rows per chunk. At width 128 and depth 3 the buffers of 512 rows take 2 MB.
CHUNK_ROWS = 512


# The fused aten kernels make one pass over memory where the formula written out makes four.
_silu_out = torch.ops.aten.silu.out
_silu_backward = torch.ops.aten.silu_backward.grad_input
_softplus_out = torch.ops.aten.softplus.out
_softplus_backward = torch.ops.aten.softplus_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class Activation:
    """An activation three ways.

    Attributes:
        function: differentiable.
        into: (pre_activation, out) -> out.
        backward: (grad, pre_activation, out) -> out, grad times the derivative; out may be grad.
    """

    function: Callable[[Tensor], Tensor]
    into: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


ACTIVATIONS: dict[str, Activation] = {
    "silu": Activation(
        F.silu,
        lambda a, out: _silu_out(a, out=out),
        lambda grad, a, out: _silu_backward(grad, a, grad_input=out),
    ),
    "tanh": Activation(
        torch.tanh,
        lambda a, out: torch.tanh(a, out=out),
        lambda grad, a, out: _tanh_backward(grad, torch.tanh(a), grad_input=out),
    ),
    "softplus": Activation(
        F.softplus,
        lambda a, out: _softplus_out(a, out=out),
        lambda grad, a, out: _softplus_backward(grad, a, 1.0, 20.0, grad_input=out),
    ),
    "relu": Activation(
        F.relu,
        lambda a, out: torch.clamp(a, min=0.0, out=out),
        lambda grad, a, out: _relu_backward(grad, a, 0.0, grad_input=out),
    ),
}


@dataclass
class Layers:
    """The weights of an energy, with the input normalisation and the condition folded in.

    With p = y @ freq + phase the first pre-activation is
    y @ y_weight + cos(p) @ cos_weight + sin(p) @ sin_weight + first_bias. Biases and phases are
    (B or 1, K or 1, size); the weights are (inputs, outputs).
    """

    freq: Tensor
    phase: Tensor
    y_weight: Tensor
    cos_weight: Tensor
    sin_weight: Tensor
    first_bias: Tensor
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    out_weight: Tensor
    out_bias: Tensor
    activation: Activation
    # Contiguous transposes: what the forward pass multiplies by is what the backward needs turned.
    freq_t: Tensor
    y_weight_t: Tensor
    cos_weight_t: Tensor
    sin_weight_t: Tensor
    weights_t: Sequence[Tensor]
    # Points of the condition that y is seen relative to: (B or 1, K or 1, A y_dim), or None.
    anchors: Tensor | None
    anchor_weight: Tensor
    inverse_std: Tensor


def anchor_features(y: Tensor, anchors: Tensor, inverse_std: Tensor) -> tuple[Tensor, Tensor]:
    """Differences (..., A, y_dim) of y to the anchors, and the features made of them (..., C).

    In normalised units. y is (..., y_dim), anchors (..., A y_dim). The features are the distances
    r_a, and with two anchors, C = 3, also twice the root of the detour r_1 + r_2 - |a_1 - a_2|:
    about the distance from the line between them, where the detour itself is flat. The smoothing,
    a thousandth of a unit, keeps all gradients finite.
    """
    points = anchors.unflatten(-1, (-1, y.shape[-1]))
    difference = (y.unsqueeze(-2) - points) * inverse_std
    distance = (difference.square().sum(-1) + 1e-6).sqrt()
    if points.shape[-2] != 2:
        return difference, distance
    apart = ((points[..., 0, :] - points[..., 1, :]) * inverse_std).norm(dim=-1)
    detour = (distance.sum(-1) - apart).clamp(min=0.0) + 1e-5
    return difference, torch.cat([distance, 2.0 * detour.sqrt().unsqueeze(-1)], dim=-1)


class Workspace:
    """Buffers kept between calls. Not shared by copies of a network, nor saved with it."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def get(self, name: str, rows: int, columns: int, like: Tensor) -> Tensor:
        """A (rows, columns) buffer of like's type and device, with what it last held."""
        buffer = self._buffers.get(name)
        if (
            buffer is None
            or buffer.shape[0] < rows
            or buffer.shape[1] != columns
            or buffer.dtype != like.dtype
            or buffer.device != like.device
        ):
            with torch.inference_mode(False):  # the buffers outlive the caller's mode
                buffer = torch.empty((rows, columns), dtype=like.dtype, device=like.device)
            self._buffers[name] = buffer
        return buffer[:rows]

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        return Workspace()

    def __getstate__(self) -> dict[str, Any]:
        return {"_buffers": {}}


class BoundEnergy:
    """An energy with its condition and latent filled in: y -> E and (E, dE/dy).

    Valid until the weights change: make a new one then. Not for use by two threads at once.
    """

    def __init__(self, layers: Layers, workspace: Workspace) -> None:
        self._layers = layers
        self._workspace = workspace
        width = layers.out_weight.shape[0]
        # A device with its own memory is bound by the number of launches, not by the cache.
        on_cpu = layers.out_weight.device.type == "cpu"
        self._chunk_rows = rows = CHUNK_ROWS if on_cpu else 64 * CHUNK_ROWS
        # dE/dh of the last layer is the same row for every sample.
        self._seed = workspace.get("seed", rows, width, layers.out_weight)
        self._seed.copy_(layers.out_weight.detach().view(1, width))

    def __call__(self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        """Energies (...) of y (..., y_dim). x and z are bound already and not looked at."""
        return self._run(y, with_grad=False)[0]

    def energy_and_grad(
        self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies (...) and dE/dy (..., y_dim). x and z as above."""
        energy, grad = self._run(y, with_grad=True)
        assert grad is not None
        return energy, grad

    @torch.no_grad()
    def _run(self, y: Tensor, with_grad: bool) -> tuple[Tensor, Tensor | None]:
        net = self._layers
        dim = y.shape[-1]
        plain = net.first_bias.shape[:2] == (1, 1) == net.phase.shape[:2]
        if plain:
            lead, grid = y.shape[:-1], y.reshape(1, -1, dim)
            b, k = 1, grid.shape[1]
        else:
            lead = torch.broadcast_shapes(
                y.shape[:-1], net.first_bias.shape[:-1], net.phase.shape[:-1]
            )
            lead = lead[1:] if y.ndim == 2 and lead[0] == 1 else lead
            grid = y.reshape((1,) * (3 - y.ndim) + y.shape)
            b, k = (1, *lead)[-2:]
        energy = y.new_empty((b, k))
        grad = y.new_empty((b, k, dim)) if with_grad else None
        k_step = max(1, min(k, self._chunk_rows))
        b_step = max(1, self._chunk_rows // k_step)
        for b0 in range(0, b, b_step):
            for k0 in range(0, k, k_step):
                cut = slice(b0, b0 + b_step), slice(k0, k0 + k_step)
                self._chunk(
                    _cut(grid, cut),
                    _cut(net.phase, cut),
                    _cut(net.first_bias, cut),
                    None if net.anchors is None else _cut(net.anchors, cut),
                    energy[cut],
                    None if grad is None else grad[cut],
                )
        return energy.view(lead), None if grad is None else grad.view(*lead, dim)

    def _chunk(
        self,
        y: Tensor,
        phase_bias: Tensor,
        first_bias: Tensor,
        anchors: Tensor | None,
        energy_out: Tensor,
        grad_out: Tensor | None,
    ) -> None:
        """One block of b conditions times k candidates, n = b k rows."""
        net = self._layers
        act = net.activation
        b, k = energy_out.shape
        n, width, features = b * k, net.out_weight.shape[0], net.freq.shape[1]

        def buffer(name: str, columns: int) -> Tensor:
            return self._workspace.get(name, n, columns, y)

        difference = relative = None
        if anchors is not None:
            difference, relative = anchor_features(y, anchors, net.inverse_std)
            difference = difference.expand(b, k, *difference.shape[-2:]).flatten(0, 1)
            relative = relative.expand(b, k, relative.shape[-1]).flatten(0, 1)
        # The caller's y may be NumPy's memory, which begins anywhere.
        y = aligned(y.expand(b, k, y.shape[-1]).reshape(n, y.shape[-1]))
        hidden = buffer("hidden", width)
        pre = [buffer(f"a{i}", width) for i in range(len(net.weights) + 1)]
        _affine(pre[0], first_bias, y, net.y_weight, b, k)
        if features:
            phase = _affine(buffer("phase", features), phase_bias, y, net.freq, b, k)
            cos = torch.cos(phase, out=buffer("cos", features))
            sin = torch.sin(phase, out=phase)
            pre[0].addmm_(cos, net.cos_weight).addmm_(sin, net.sin_weight)
        if relative is not None:
            pre[0].addmm_(relative, net.anchor_weight)
        h = act.into(pre[0], hidden)
        for i, weight in enumerate(net.weights):
            torch.addmm(net.biases[i], h, weight, out=pre[i + 1])
            h = act.into(pre[i + 1], hidden)
        energy_out.copy_(torch.addmm(net.out_bias, h, net.out_weight).view(b, k))
        if grad_out is None:
            return

        grad = act.backward(self._seed[:n], pre[-1], buffer("grad_a", width))
        other = buffer("grad_b", width)
        for i in range(len(net.weights) - 1, -1, -1):
            torch.mm(grad, net.weights_t[i], out=other)
            grad, other = act.backward(other, pre[i], other), grad
        grad_y = grad @ net.y_weight_t
        if features:
            # d cos(p) / dp = -sin(p) and d sin(p) / dp = cos(p).
            grad_cos = torch.mm(grad, net.cos_weight_t, out=buffer("grad_cos", features))
            grad_sin = torch.mm(grad, net.sin_weight_t, out=buffer("grad_sin", features))
            grad_phase = grad_sin.mul_(cos).addcmul_(grad_cos, sin, value=-1.0)
            grad_y.addmm_(grad_phase, net.freq_t)
        if difference is not None and relative is not None:
            # d r_a / dy = (y - a) / r_a, and for q = 2 sqrt(detour): dq = 2 (dr_1 + dr_2) / q.
            points = difference.shape[1]
            pull = grad @ net.anchor_weight.t()
            if points == 2:
                pull[:, :2] += 2.0 * pull[:, 2:] / relative[:, 2:]
            pull = pull[:, :points] / relative[:, :points]
            grad_y.add_((pull.unsqueeze(1) @ difference).squeeze(1) * net.inverse_std)
        grad_out.copy_(grad_y.view(b, k, -1))


def _affine(out: Tensor, bias: Tensor, y: Tensor, weight: Tensor, b: int, k: int) -> Tensor:
    """out (b k, c) <- y @ weight + bias, with bias (b or 1, k or 1, c)."""
    if bias.shape[0] == bias.shape[1] == 1:
        return torch.addmm(bias.view(1, -1), y, weight, out=out)
    torch.mm(y, weight, out=out)
    out.view(b, k, -1).add_(bias)
    return out


def _cut(t: Tensor, cut: tuple[slice, slice]) -> Tensor:
    """The block of a (B or 1, K or 1, c) tensor."""
    if t.shape[0] > 1:
        t = t[cut[0]]
    return t[:, cut[1]] if t.shape[1] > 1 else t
