"""Dense networks forward and back by batched products, without autograd, on any device.

The counterpart of :mod:`~hierebm.nn.kernels` for devices that are bound by the number of launches:
as few operations as possible, none of which looks at a value on the host.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hierebm.nn.capture import Beside
from hierebm.nn.layers import MLP, EnsembleLinear, EnsembleMLP

# Rows that are summed by one part of the processor, on a GPU.
SPLIT_ROWS = 256
# Rows from which on bias and ReLU go with the product, one network after the other, on a GPU.
FUSED_ROWS = 4096


class _Layer(NamedTuple):
    """Views of the parameters and gradients of M layers side by side."""

    weight: Tensor
    """(M, in, out)"""
    bias: Tensor
    """(M, 1, out)"""
    weight_grad: Tensor
    """(M, in, out), or (M, out, in) if ``is_transposed``"""
    bias_grad: Tensor
    """(M, 1, out)"""
    is_transposed: bool


class DensePass:
    """(M, B, in) -> (M, B, out) of M networks of equal shape with ReLUs between, and the way back.

    Args:
        network: whose parameters are read and whose gradients are written, in place. Its
            gradients have to be there (:func:`~hierebm.nn.flat.flat_parameters`), and both have to
            stay where they are.
        beside: where gradients of parameters are computed, while others wait for those of inputs.

    Raises:
        ValueError: another activation.
    """

    def __init__(self, network: MLP | EnsembleMLP, beside: Beside) -> None:
        if network.activation != "relu":
            raise ValueError(f"a dense pass has ReLUs, the network has {network.activation!r}")
        self.layers = [_views(layer) for layer in network.layers]
        self._inputs: list[Tensor] = []
        self._beside = beside

    def forward(self, x: Tensor) -> Tensor:
        """(M, B, in), of stride 0 where all share it, -> (M, B, out)."""
        self._inputs = [x]
        for layer in self.layers[:-1]:
            self._inputs.append(_affine_relu(self._inputs[-1], layer))
        return _affine(self._inputs[-1], self.layers[-1])

    def backward(self, grad: Tensor) -> None:
        """Write the gradients of all parameters, given that of the last outputs (M, B, out)."""
        for i in reversed(range(len(self.layers))):
            layer, x = self.layers[i], self._inputs[i]
            left, right = (grad, x) if layer.is_transposed else (x, grad)
            with self._beside():
                _product_over_rows(left, right, layer.weight_grad)
                torch.sum(grad, 1, keepdim=True, out=layer.bias_grad)
            self._beside.keep(grad)
            if i:
                grad = self._through(grad, i)
        self._beside.join()

    def input_gradient(self, grad: Tensor, columns: slice) -> Tensor:
        """(M, B, columns) of the inputs, given that of the last outputs (M, B, out)."""
        for i in reversed(range(1, len(self.layers))):
            grad = self._through(grad, i)
        return torch.bmm(grad, self.layers[0].weight[:, columns].transpose(1, 2))

    def _through(self, grad: Tensor, i: int) -> Tensor:
        """From the outputs of layer i to those of the one before, through its ReLU."""
        grad = torch.bmm(grad, self.layers[i].weight.transpose(1, 2))
        return torch.ops.aten.threshold_backward(grad, self._inputs[i], 0.0)


def _product_over_rows(left: Tensor, right: Tensor, out: Tensor) -> None:
    """(M, B, p), (M, B, q) -> (M, p, q): the sums over all rows of their outer products.

    Small matrices of long sums leave most of a GPU idle, so that parts of many rows are summed
    first.
    """
    m, rows = left.shape[:2]
    parts = rows // SPLIT_ROWS
    if parts < 2 or rows % parts:
        torch.bmm(left.transpose(1, 2), right, out=out)
        return
    left, right = (x.unflatten(1, (parts, -1)).flatten(0, 1) for x in (left, right))
    torch.sum(torch.bmm(left.transpose(1, 2), right).view(m, parts, *out.shape[1:]), 1, out=out)


def _affine(x: Tensor, layer: _Layer) -> Tensor:
    if len(layer.weight) == 1:
        # On a GPU, one operation less: the bias is not copied first.
        return torch.addmm(layer.bias[0, 0], x[0], layer.weight[0])[None]
    return torch.baddbmm(layer.bias, x, layer.weight)


def _affine_relu(x: Tensor, layer: _Layer) -> Tensor:
    if len(layer.weight) == 1 and hasattr(torch, "_addmm_activation"):
        # One operation in place of three, for a single network.
        return torch._addmm_activation(layer.bias[0, 0], x[0], layer.weight[0])[None]
    if x.shape[1] >= FUSED_ROWS and hasattr(torch, "_addmm_activation"):
        # So much work fills the device with one network, and bias and ReLU need no pass of memory.
        out = x.new_empty((*x.shape[:2], layer.weight.shape[2]))
        for bias, rows, weight, result in zip(layer.bias, x, layer.weight, out, strict=True):
            torch.ops.aten._addmm_activation.out(bias[0], rows, weight, out=result)
        return out
    return _affine(x, layer).relu_()


def _views(layer: nn.Module) -> _Layer:
    if isinstance(layer, EnsembleLinear):
        weight, bias = layer.weight, layer.bias
        assert weight.grad is not None and bias.grad is not None
        return _Layer(weight.data, bias.data, weight.grad, bias.grad, is_transposed=False)
    linear = cast("nn.Linear", layer)
    assert linear.weight.grad is not None and linear.bias.grad is not None
    return _Layer(
        linear.weight.data.t()[None],
        linear.bias.data[None, None],
        linear.weight.grad[None],
        linear.bias.grad[None, None],
        is_transposed=True,
    )
