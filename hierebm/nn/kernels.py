"""Forward and backward passes by hand, into buffers that are allocated once.

Autograd spends up to half of a small network's update on what is not arithmetic: building the
graph, fetching fresh memory for every activation, zeroing gradients, and computing gradients that
nobody reads. :class:`DenseKernel` does the same products as :class:`hierebm.nn.modules.MLP` and
``EnsembleMLP`` with ``out=`` everywhere, **overwrites** gradients (nothing to zero first) and
computes only those asked for. The modules remain the reference: the gradients equal autograd's to
rounding in any dtype.

An update reads top-down::

    critic = DenseKernel(module)                         # module's parameters were flattened
    logits = critic.forward(x)                           # (E, B, N), a buffer
    loss = cross_entropy_(logits, target, grad=critic.output_grad)
    critic.backward()                                    # flat.grad now holds the gradient
    optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from hierebm.nn.modules import MLP, EnsembleLinear, EnsembleMLP

_aten = torch.ops.aten


def _relu_backward(grad: Tensor, value: Tensor) -> None:
    _aten.threshold_backward.grad_input(grad, value, 0, grad_input=grad)


def _silu_backward(grad: Tensor, value: Tensor) -> None:
    _aten.silu_backward.grad_input(grad, value, grad_input=grad)


def _tanh_backward(grad: Tensor, value: Tensor) -> None:
    _aten.tanh_backward.grad_input(grad, value, grad_input=grad)


def _relu(z: Tensor, h: Tensor) -> None:
    z.relu_()


def _silu(z: Tensor, h: Tensor) -> None:
    _aten.silu.out(z, out=h)


def _tanh(z: Tensor, h: Tensor) -> None:
    z.tanh_()


# (forward z -> h, backward dL/dh -> dL/dz in place, whether z is needed beside h).
# relu and tanh know their slope from their value, so that h may overwrite z; silu does not.
_ACTIVATIONS: dict[
    str, tuple[Callable[[Tensor, Tensor], None], Callable[[Tensor, Tensor], None], bool]
] = {
    "relu": (_relu, _relu_backward, False),
    "silu": (_silu, _silu_backward, True),
    "tanh": (_tanh, _tanh_backward, False),
}


class DenseKernel:
    """Hand-written passes through an :class:`MLP` (then E = 1) or an :class:`EnsembleMLP`.

    It reads the module's parameters and writes their ``.grad`` in place, so the module, its
    ``state_dict`` and an optimiser on its flat tensor all see the same memory. Buffers grow to the
    largest batch seen; what ``forward`` and ``backward`` return lives in them until the next call.

    Args:
        module: network with every ``parameter.grad`` allocated
            (:func:`hierebm.nn.modules.flat_parameters`), unless ``trainable`` is False.
        trainable: False for a target network: forward and input gradients only.

    Raises:
        TypeError: if ``module`` is exactly neither of the two classes (a subclass may compute
            something else: custom networks take the autograd path).
        ValueError: if a gradient buffer is missing.
    """

    def __init__(self, module: MLP | EnsembleMLP, *, trainable: bool = True) -> None:
        if type(module) not in (MLP, EnsembleMLP):
            raise TypeError(
                f"kernels know MLP and EnsembleMLP, not {type(module).__name__}: "
                "use the autograd reference for custom networks"
            )
        self.trainable = trainable
        self.n_members = module.n_members if isinstance(module, EnsembleMLP) else 1
        # nn.Linear stores (out, in), the ensemble (E, in, out).
        self._transposed = isinstance(module, MLP)
        self._weights: list[Tensor] = []
        self._biases: list[Tensor] = []
        self._weight_grads: list[Tensor] = []
        self._bias_grads: list[Tensor] = []
        for child in module.layers:
            layer = cast("nn.Linear | EnsembleLinear", child)
            weight, bias = layer.weight.detach(), layer.bias.detach()
            if self._transposed:
                weight, bias = weight.t().unsqueeze(0), bias.view(1, 1, -1)
            self._weights.append(weight)
            self._biases.append(bias)
            if trainable:
                if layer.weight.grad is None or layer.bias.grad is None:
                    raise ValueError(
                        "the module has no gradient buffers: call flat_parameters(module) first"
                    )
                weight_grad = layer.weight.grad
                self._weight_grads.append(
                    weight_grad.unsqueeze(0) if self._transposed else weight_grad
                )
                self._bias_grads.append(layer.bias.grad.view_as(bias))
        self.in_dim, self.out_dim = self._weights[0].shape[1], self._weights[-1].shape[2]
        self._activate, self._activation_backward, self._keep_z = _ACTIVATIONS[module.activation]
        self._input = torch.empty(0)
        self._input_shared = True
        self._batch = self._capacity = -1

    def _resize(self, batch: int) -> None:
        """Point the working views at ``batch`` rows, growing the memory behind if it is short.

        Memory is kept when the batch shrinks: fresh pages cost more than the arithmetic of a
        small network, and queries come in batches of many sizes.
        """
        widths = [w.shape[2] for w in self._weights]
        if batch > self._capacity:
            self._capacity = batch
            sizes = [self.n_members * batch * w for w in widths]
            like = self._weights[0]
            self._z_memory = [like.new_empty(n) for n in sizes]
            if self._keep_z:
                self._h_memory = [like.new_empty(n) for n in sizes[:-1]]
            self._delta_memory = [like.new_empty(n) for n in sizes]
            self._ones_memory = like.new_ones(self.n_members * batch)

        def views(memory: list[Tensor]) -> list[Tensor]:
            return [
                m[: self.n_members * batch * w].view(self.n_members, batch, w)
                for m, w in zip(memory, widths, strict=False)
            ]

        self._batch = batch
        self._z = views(self._z_memory)
        self._h = views(self._h_memory) if self._keep_z else self._z[:-1]
        self._delta = views(self._delta_memory)
        self._ones = self._ones_memory[: self.n_members * batch].view(self.n_members, 1, batch)

    @property
    def output_grad(self) -> Tensor:
        """(E, B, out) buffer to write dL/d(output) of the last ``forward`` into."""
        return self._delta[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (E, B, out) for ``x`` (B, in), shared, or (E, B, in).

        ``x`` is kept by reference for ``backward`` and must not change in between.
        """
        if x.shape[-1:] != (self.in_dim,) or not (
            x.dim() == 2 or (x.dim() == 3 and x.shape[0] == self.n_members)
        ):
            raise ValueError(
                f"input must be (B, {self.in_dim}) or ({self.n_members}, B, {self.in_dim}), "
                f"got {tuple(x.shape)}"
            )
        self._input_shared = x.dim() == 2
        if x.shape[-2] != self._batch:
            self._resize(x.shape[-2])
        h = self._input = x.expand(self.n_members, -1, -1) if self._input_shared else x
        last = len(self._weights) - 1
        for i, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            torch.baddbmm(bias, h, weight, out=self._z[i])
            if i < last:
                self._activate(self._z[i], self._h[i])
                h = self._h[i]
        return self._z[last]

    def backward(
        self,
        grad: Tensor | None = None,
        *,
        parameters: bool = True,
        input_columns: slice | None = None,
    ) -> Tensor | None:
        """Propagate dL/d(output) of the last ``forward``.

        Args:
            grad: (E, B, out); default: what was written into :attr:`output_grad`. Either way it
                is left as it is.
            parameters: overwrite the gradients of all parameters. False skips these products:
                an actor needs dQ/da through the critic and nothing else.
            input_columns: columns of the input whose gradient is wanted.

        Returns:
            The input gradient, (B, columns) summed over members for a shared input, else
            (E, B, columns); None without ``input_columns``.
        """
        if parameters and not self.trainable:
            raise ValueError("this kernel was made with trainable=False")
        delta = self._delta[-1] if grad is None else grad
        for i in range(len(self._weights) - 1, -1, -1):
            if parameters:
                self._parameter_gradients(i, delta)
            if i > 0:
                torch.bmm(delta, self._weights[i].transpose(1, 2), out=self._delta[i - 1])
                delta = self._delta[i - 1]
                self._activation_backward(delta, self._z[i - 1])
        if input_columns is None:
            return None
        grad_input = torch.bmm(delta, self._weights[0][:, input_columns].transpose(1, 2))
        return grad_input.sum(0) if self._input_shared else grad_input

    def _parameter_gradients(self, i: int, delta: Tensor) -> None:
        h = self._input if i == 0 else self._h[i - 1]
        if self._transposed:
            torch.bmm(delta.transpose(1, 2), h, out=self._weight_grads[i])
        else:
            torch.bmm(h.transpose(1, 2), delta, out=self._weight_grads[i])
        torch.bmm(self._ones, delta, out=self._bias_grads[i])


# Heads: each writes dL/d(output) into ``grad`` and returns the loss, without a graph. ``weight``
# multiplies the loss: pass 1/B for a mean over the batch, and so on.


def cross_entropy_(logits: Tensor, target: Tensor, *, grad: Tensor, weight: float) -> Tensor:
    """Cross-entropy of softmax(logits) against soft targets.

    Args:
        logits: (..., N); unchanged.
        target: (..., N) probabilities that sum to 1.
        grad: (..., N) buffer for weight * (softmax(logits) - target).
        weight: factor of the loss.

    Returns:
        -weight * sum(target * log softmax(logits)), a scalar.
    """
    # sum(target) = 1, so that -sum(target * log p) = sum over rows of lse - target . logits.
    loss = torch.logsumexp(logits, -1).sum() - torch.dot(target.reshape(-1), logits.reshape(-1))
    torch.softmax(logits, -1, out=grad)
    grad.sub_(target).mul_(weight)
    return loss.mul_(weight)


def squared_error_(value: Tensor, target: Tensor, *, grad: Tensor, weight: float) -> Tensor:
    """Squared error weight * sum((value - target)^2); ``grad`` gets 2 weight (value - target)."""
    torch.sub(value, target, out=grad)
    loss = torch.dot(grad.reshape(-1), grad.reshape(-1)).mul_(weight)
    grad.mul_(2.0 * weight)
    return loss


def expected_value_(logits: Tensor, support: Tensor, *, grad: Tensor, weight: float) -> Tensor:
    """Mean of a categorical distribution, and the gradient of its weighted sum.

    Args:
        logits: (..., N); unchanged.
        support: (N,) values of the atoms.
        grad: (..., N) buffer for weight * p * (support - mean), the gradient of
            weight * sum(mean).
        weight: factor of the sum.

    Returns:
        (...,) means softmax(logits) . support.
    """
    torch.softmax(logits, -1, out=grad)
    mean = torch.mv(grad.view(-1, support.shape[0]), support).view(logits.shape[:-1])
    # d mean / d logit_k = p_k (support_k - mean)
    grad.mul_((support - mean.unsqueeze(-1)).mul_(weight))
    return mean
