"""The gradient step of :class:`~hierebm.planning.samplers.between_energy.BetweenEnergy` by hand.

Same maths and same random numbers, so that both learn the same within rounding. What is saved: the
graph, fresh memory for every activation, and products with weights that lie the wrong way round.
"""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.energy.kernels import ACTIVATIONS
from hierebm.nn.scratch import aligned
from hierebm.planning.samplers.between_energy import BetweenEnergy, BetweenMLP
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray

# Rows that go forward and back together at most: their buffers take 40 MB at width 128 and depth 3.
# Fewer would stay in a nearer cache, which is worth less than the calls that they take.
CHUNK_ROWS = 8192


class InfoNCEPass:
    """Gradients of InfoNCE for a :class:`BetweenMLP`, without autograd.

    Args:
        model: whose gradients are written, in place: they have to be there
            (:func:`~hierebm.nn.flat.flat_parameters`), and to stay where they are.
    """

    def __init__(self, model: BetweenMLP) -> None:
        self._model, self._act = model, ACTIVATIONS["silu"]
        self._hidden = cast("list[nn.Linear]", list(model.hidden))
        self._buffers: dict[str, Tensor] = {}

    def gradients(self, points: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Write the gradients of the mean loss; of each triplet's points the first is the positive.

        With p = softmax(-E) over the points of a triplet, the loss is -log p_0, and its slope
        dL/dE_j = (j = 0) - p_j (van den Oord et al. 2018, arXiv 1807.03748, eq. 4).

        Args:
            points: (B, m, goal_dim).
            condition: (B, 2 goal_dim + 1) start, goal, and whether half the way is meant.

        Returns:
            Energies (B, m), and the losses (B,) in nats.
        """
        model, (n, m, _) = self._model, points.shape
        x = (condition - model.x_mean) / model.x_std
        y = (points - model.y_mean) / model.y_std
        phase, first = x @ model.freq_x, nn.functional.linear(x, self._x_in.weight, self._y_in.bias)
        relative = _distances(points, condition, 1.0 / model.y_std)
        # Lying this way round, products of the forward pass take three quarters of the time.
        self._turned = [layer.weight.t().contiguous() for layer in (self._y_in, *self._hidden)]
        energies, slopes = points.new_empty(n, m), points.new_empty(n, self._y_in.out_features)
        losses = points.new_empty(n)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()
        step = max(1, CHUNK_ROWS // m)
        for start in range(0, n, step):
            part = slice(start, min(start + step, n))
            energy = self._forward(y[part], phase[part], first[part], relative[part])
            energies[part] = energy
            log_p = torch.log_softmax(-energy, 1)
            torch.neg(log_p[:, 0], out=losses[part])
            slope = log_p.exp_().neg_()
            slope[:, 0] += 1.0
            self._backward(slope.div_(n).view(-1, 1), m, slopes[part])
        weight = self._x_in.weight.grad
        assert weight is not None
        torch.mm(slopes.t(), x, out=weight)
        return energies, losses

    @property
    def _y_in(self) -> nn.Linear:
        return self._model.y_in

    @property
    def _x_in(self) -> nn.Linear:
        return cast("nn.Linear", self._model.x_in)

    def _buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """(rows, columns) with what it last held."""
        memory = self._buffers.get(name)
        if memory is None or memory.shape[0] < rows or memory.shape[1] != columns:
            with torch.inference_mode(False):  # the buffers outlive the caller's mode
                memory = self._buffers[name] = torch.empty(rows, columns)
        return memory[:rows]

    def _forward(self, y: Tensor, phase: Tensor, first: Tensor, relative: Tensor) -> Tensor:
        """Energies (b, m) of points y (b, m, goal_dim); keeps what the way back needs."""
        (b, m, dim), model = y.shape, self._model
        rows, n_waves = b * m, phase.shape[1]
        inputs = self._buffer("inputs", rows, self._y_in.in_features)
        own, cos, sin, distances = inputs.split([dim, n_waves, n_waves, relative.shape[2]], 1)
        own.copy_(y.reshape(rows, dim))
        distances.copy_(relative.reshape(rows, -1))
        angle = torch.mm(own, model.freq_y, out=self._buffer("angle", rows, n_waves))
        angle.view(b, m, -1).add_(phase[:, None])
        torch.cos(angle, out=cos)
        torch.sin(angle, out=sin)
        width = self._y_in.out_features
        before = torch.mm(inputs, self._turned[0], out=self._buffer("a0", rows, width))
        before.view(b, m, -1).add_(first[:, None])
        h = self._act.into(before, self._buffer("h0", rows, width))
        self._kept = [inputs, before, h]
        for i, layer in enumerate(self._hidden, start=1):
            before = self._buffer(f"a{i}", rows, width)
            torch.addmm(layer.bias, h, self._turned[i], out=before)
            h = self._act.into(before, self._buffer(f"h{i}", rows, width))
            self._kept += [before, h]
        return torch.addmm(model.out.bias, h, model.out.weight.t()).view(b, m)

    def _backward(self, slope: Tensor, m: int, first_slope: Tensor) -> None:
        """Add to the gradients, from dL/dE (b m, 1); what the conditions got goes to (b, width)."""
        out, ones = self._model.out, slope.new_ones(len(slope))
        *kept, before, h = self._kept
        _add_gradients(out, slope, h, ones)
        grad = torch.mm(slope, out.weight, out=self._buffer("grad_a", len(slope), h.shape[1]))
        other = self._buffer("grad_b", *grad.shape)
        for layer in reversed(self._hidden):
            grad = self._act.backward(grad, before, grad)
            *kept, before, h = kept
            _add_gradients(layer, grad, h, ones)
            grad, other = torch.mm(grad, layer.weight, out=other), grad
        grad = self._act.backward(grad, before, grad)
        _add_gradients(self._y_in, grad, kept[0], ones)
        torch.sum(grad.view(-1, m, grad.shape[1]), 1, out=first_slope)


def _add_gradients(layer: nn.Linear, grad: Tensor, inputs: Tensor, ones: Tensor) -> None:
    """Of dL/d(output) (rows, out) of a layer with these inputs (rows, in)."""
    weight, bias = layer.weight.grad, layer.bias.grad
    assert weight is not None and bias is not None
    weight.addmm_(grad.t(), inputs)
    bias.addmv_(grad.t(), ones)


def _distances(points: Tensor, condition: Tensor, inverse_std: Tensor) -> Tensor:
    """(B, m, 3): :func:`~hierebm.energy.kernels.anchor_features`, axis by axis: axes are few."""
    dim = points.shape[2]
    ends = condition[:, : 2 * dim].view(-1, 2, dim)
    squares = points.new_zeros(2, *points.shape[:2])
    for axis in range(dim):
        for i in range(2):
            apart = (points[:, :, axis] - ends[:, i, None, axis]).mul_(inverse_std[axis])
            squares[i].addcmul_(apart, apart)
    distance = squares.add_(1e-6).sqrt_()
    apart = ((ends[:, 0] - ends[:, 1]) * inverse_std).norm(dim=-1)
    detour = (distance[0] + distance[1] - apart[:, None]).clamp_(min=0.0).add_(1e-5)
    return torch.stack([distance[0], distance[1], detour.sqrt_().mul_(2.0)], -1)


class FastBetweenEnergy(BetweenEnergy):
    """:class:`BetweenEnergy` with the gradient step of this module, for the CPU.

    A network of your own takes the parent's step.
    """

    @cached_property
    def _pass(self) -> InfoNCEPass | None:
        return InfoNCEPass(self.model) if type(self.model) is BetweenMLP else None

    @torch.no_grad()
    def update(self, positives: BetweenTriplets, negatives: FloatArray) -> dict[str, float]:
        """One gradient step of InfoNCE; see the parent."""
        if self._pass is None:
            with torch.enable_grad():
                return super().update(positives, negatives)
        condition = self._condition(positives.start, positives.goal, positives.half)[:, 0]
        points = np.concatenate([positives.between[:, None], negatives], axis=1)
        energies, losses = self._pass.gradients(aligned(self._tensor(points)), condition)
        loss = losses.mean()
        self.optimizer.step(loss)
        best = energies.argmin(1) == 0
        return {
            "energy/loss": float(loss),
            "energy/accuracy": float(best.float().mean()),
            "energy/gap": float(energies[:, 1:].mean() - energies[:, 0].mean()),
        }
