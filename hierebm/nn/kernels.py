"""Forward and backward passes by hand, into buffers that are allocated once.

Autograd spends up to half of a small network's update on what is not arithmetic: building the
graph, fetching fresh memory for every activation, zeroing gradients, and computing gradients that
are never read. :class:`DenseKernel` does the same products as :class:`hierebm.nn.layers.MLP` and
``EnsembleMLP`` with ``out=`` everywhere, **overwrites** gradients (nothing to zero first) and
computes only those asked for. The modules remain the reference: the gradients equal autograd's to
rounding in any dtype.

An update reads top-down::

    critic = DenseKernel(module)                         # module's parameters were flattened
    logits = critic.forward(x)                           # (E, B, N), a buffer
    loss = cross_entropy_(logits, target, grad=critic.output_grad, weight=1.0 / B)
    critic.backward()                                    # flat.grad now holds the gradient
    optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hierebm.nn.layers import MLP, EnsembleLinear, EnsembleMLP
from hierebm.nn.scratch import Scratch, aligned, padded

# The overloads themselves: looking them up on every call costs as much as the arithmetic.
_relu_grad = torch.ops.aten.threshold_backward.grad_input
_silu_out = torch.ops.aten.silu.out
_silu_grad = torch.ops.aten.silu_backward.grad_input
_tanh_grad = torch.ops.aten.tanh_backward.grad_input


def _relu_backward(grad: Tensor, value: Tensor) -> None:
    _relu_grad(grad, value, 0, grad_input=grad)


def _silu_backward(grad: Tensor, value: Tensor) -> None:
    _silu_grad(grad, value, grad_input=grad)


def _tanh_backward(grad: Tensor, value: Tensor) -> None:
    _tanh_grad(grad, value, grad_input=grad)


def _relu(z: Tensor, h: Tensor) -> None:
    z.relu_()


def _silu(z: Tensor, h: Tensor) -> None:
    _silu_out(z, out=h)


def _tanh(z: Tensor, h: Tensor) -> None:
    z.tanh_()


class _Activation(NamedTuple):
    forward: Callable[[Tensor, Tensor], None]
    """(z, h): write h."""
    backward: Callable[[Tensor, Tensor], None]
    """(dL/dh, z): turn it into dL/dz, in place."""
    keeps_z: bool
    """relu and tanh know their slope from their value, so that h may overwrite z; silu does not."""


_ACTIVATIONS: dict[str, _Activation] = {
    "relu": _Activation(_relu, _relu_backward, keeps_z=False),
    "silu": _Activation(_silu, _silu_backward, keeps_z=True),
    "tanh": _Activation(_tanh, _tanh_backward, keeps_z=False),
}


class _Views(NamedTuple):
    """Buffers of one member: (B, width) per layer in ``z``, per hidden layer in the others."""

    z: list[Tensor]
    h: list[Tensor]
    h_t: list[Tensor]
    delta: list[Tensor]
    ones: Tensor
    """(1, B)."""


class _Member:
    """Passes of one network: weights (in, out), biases (out,), everything two-dimensional.

    The owner provides the buffers, so that members of an ensemble can share scratch memory.
    """

    def __init__(
        self,
        weights: list[Tensor],
        biases: list[Tensor],
        weight_grads: list[Tensor],
        bias_grads: list[Tensor],
        activation: str,
    ) -> None:
        self._weights, self._biases = weights, biases
        self._weight_grads, self._bias_grads = weight_grads, bias_grads
        # Views are made once: making one costs as much as an elementwise pass over a layer.
        self._weights_t = [w.t() for w in weights]
        self._activation = _ACTIVATIONS[activation]

    def use(self, views: _Views) -> None:
        """Work in these buffers."""
        self._z, self._h, self._h_t, self._delta, self._ones = views

    def forward(self, x: Tensor) -> None:
        """Fill ``z`` and ``h`` for the input ``x`` (B, in)."""
        self._input = x
        for i, h in enumerate(self._h):
            torch.addmm(self._biases[i], x, self._weights[i], out=self._z[i])
            self._activation.forward(self._z[i], h)
            x = h
        torch.addmm(self._biases[-1], x, self._weights[-1], out=self._z[-1])

    def backward(self, delta: Tensor, parameters: bool) -> Tensor:
        """Take dL/dz of the last layer down to the first, and return that (B, width)."""
        for i in range(len(self._weights) - 1, -1, -1):
            if parameters:
                h_t = self._h_t[i - 1] if i > 0 else self._input.t()
                torch.mm(h_t, delta, out=self._weight_grads[i])
                torch.mm(self._ones, delta, out=self._bias_grads[i])
            if i > 0:
                below = self._delta[i - 1]
                torch.mm(delta, self._weights_t[i], out=below)
                self._activation.backward(below, self._z[i - 1])
                delta = below
        return delta

    def input_grad(self, delta: Tensor, columns: slice) -> Tensor:
        """dL/dx of the wanted columns from dL/dz of the first layer, (B, columns)."""
        return torch.mm(delta, self._weights_t[0][:, columns])


class DenseKernel:
    """Hand-written passes through an :class:`MLP` (then E = 1) or an :class:`EnsembleMLP`.

    It reads the module's parameters and writes their ``.grad`` in place, so the module, its
    ``state_dict`` and an optimiser on its flat tensor all see the same memory. Buffers grow to the
    largest batch seen; what ``forward`` and ``backward`` return lives in them until the next call.

    The same numbers give the same bits, wherever input and output gradient lie, whatever the
    buffers were used for before, and in any process, on one machine with one version of torch. A
    row among other rows, or more of them, is only the same to rounding.

    An ensemble is worked through member by member: a member's weights and activations stay in the
    second-level cache from its first product to its last, which is faster than batched products.

    Args:
        module: network with every ``parameter.grad`` allocated
            (:func:`hierebm.nn.flat.flat_parameters`), unless ``trainable`` is False.
        trainable: False for a target network: forward and input gradients only.
        scratch: shared by kernels that take turns. With it, a kernel that is not trainable keeps
            nothing of a forward pass but its output: it cannot go backward.

    Raises:
        TypeError: if ``module`` is exactly neither of the two classes (a subclass may compute
            something else: custom networks take the autograd path).
        ValueError: if a gradient buffer is missing.
    """

    def __init__(
        self,
        module: MLP | EnsembleMLP,
        *,
        trainable: bool = True,
        scratch: Scratch | None = None,
    ) -> None:
        if type(module) not in (MLP, EnsembleMLP):
            raise TypeError(
                f"kernels know MLP and EnsembleMLP, not {type(module).__name__}: "
                "use the autograd reference for custom networks"
            )
        self.trainable = trainable
        self._scratch = Scratch() if scratch is None else scratch
        self._forward_only = scratch is not None and not trainable
        self.n_members = module.n_members if isinstance(module, EnsembleMLP) else 1
        layers = [cast("nn.Linear | EnsembleLinear", layer) for layer in module.layers]
        if trainable and any(p.grad is None for p in module.parameters()):
            raise ValueError(
                "the module has no gradient buffers: call flat_parameters(module) first"
            )

        def of_member(tensor: Tensor | None, e: int) -> Tensor:
            # nn.Linear stores (out, in) and (out,), EnsembleLinear (E, in, out) and (E, 1, out).
            assert tensor is not None
            if isinstance(module, MLP):
                return tensor.detach().t()
            return tensor.detach()[e]

        self._members = [
            _Member(
                [of_member(layer.weight, e) for layer in layers],
                [of_member(layer.bias, e).view(-1) for layer in layers],
                [of_member(layer.weight.grad, e) for layer in layers] if trainable else [],
                [of_member(layer.bias.grad, e).view(1, -1) for layer in layers]
                if trainable
                else [],
                module.activation,
            )
            for e in range(self.n_members)
        ]
        self._like = layers[0].weight.detach()
        self._widths = [layer.bias.shape[-1] for layer in layers]
        self.in_dim = of_member(layers[0].weight, 0).shape[0]
        self._keep_z = _ACTIVATIONS[module.activation].keeps_z
        self._input_shared = True
        self._batch = self._capacity = -1
        self._views: dict[int, tuple[Tensor, Tensor, list[_Views]]] = {}

    @torch.inference_mode(False)  # the buffers outlive the caller's mode
    def _resize(self, batch: int) -> None:
        """Point the working views at ``batch`` rows, growing the memory behind if it is short.

        Memory is kept when the batch shrinks: fresh pages cost more than the arithmetic of a
        small network, and queries come in batches of many sizes. So are the views of each size:
        making them costs as much as a query of twenty rows.
        """
        # No size until the end: after an interrupt in between, the next pass comes here again.
        self._batch = -1
        if batch > self._capacity:
            *hidden, out = self._widths
            outputs = self.n_members * batch * out
            per_member, like = sum(padded(batch * w) for w in hidden), self._like
            if self._forward_only:
                # z, and h if it needs memory of its own; one member's overwrites another's.
                window = self._scratch.window(per_member * (1 + self._keep_z), like)
                self._z_memory = window[:per_member].expand(self.n_members, -1)
                self._h_memory = window[per_member * self._keep_z :].expand(self.n_members, -1)
                self._delta_memory = window[:per_member]
            else:
                self._z_memory = like.new_empty(self.n_members, per_member)
                self._h_memory = (
                    torch.empty_like(self._z_memory) if self._keep_z else self._z_memory
                )
                self._delta_memory = self._scratch.window(per_member, like)
            self._out_memory = like.new_empty(outputs), like.new_empty(outputs)
            self._ones_memory = like.new_ones(batch)
            self._views.clear()
            self._capacity = batch
        if batch not in self._views:
            self._views[batch] = self._make_views(batch)
        self._output, self.output_grad, of_members = self._views[batch]
        for member, views in zip(self._members, of_members, strict=True):
            member.use(views)
        self._batch = batch

    def _make_views(self, batch: int) -> tuple[Tensor, Tensor, list[_Views]]:
        """Outputs and their gradient (E, B, out), and the buffers of each member."""
        *hidden, out = self._widths
        # Positions in the memory follow from this batch alone, each at the start of a cache line.
        sizes, outputs = [padded(batch * w) for w in hidden], self.n_members * batch * out

        def per_layer(memory: Tensor) -> list[Tensor]:
            parts = memory[: sum(sizes)].split(sizes)
            return [part[: batch * w].view(batch, w) for part, w in zip(parts, hidden, strict=True)]

        output, grad = (m[:outputs].view(self.n_members, batch, out) for m in self._out_memory)
        ones, delta = self._ones_memory[:batch].view(1, batch), per_layer(self._delta_memory)
        of_members = []
        for e in range(self.n_members):
            z, h = per_layer(self._z_memory[e]), per_layer(self._h_memory[e])
            of_members.append(_Views([*z, output[e]], h, [h_i.t() for h_i in h], delta, ones))
        return output, grad, of_members

    output_grad: Tensor
    """(E, B, out) buffer to write dL/d(output) of the last ``forward`` into."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (E, B, out) for ``x`` (B, in), shared, or (E, B, in).

        ``x`` may be kept by reference for ``backward`` and must not change in between.

        Raises:
            ValueError: if ``x`` has another shape.
        """
        if x.shape[-1:] != (self.in_dim,) or not (
            x.dim() == 2 or (x.dim() == 3 and x.shape[0] == self.n_members)
        ):
            raise ValueError(
                f"input must be (B, {self.in_dim}) or ({self.n_members}, B, {self.in_dim}), "
                f"got {tuple(x.shape)}"
            )
        self._input_shared, x = x.dim() == 2, aligned(x)
        if x.shape[-2] != self._batch:
            self._resize(x.shape[-2])
        for e, member in enumerate(self._members):
            member.forward(x if self._input_shared else x[e])
        return self._output

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

        Raises:
            ValueError: before any ``forward``, or where nothing was kept to go backward with.
        """
        if parameters and not self.trainable:
            raise ValueError("this kernel was made with trainable=False")
        if self._forward_only:
            raise ValueError("this kernel shares its scratch and kept nothing to go backward with")
        if self._batch < 0:
            raise ValueError("nothing to go backward from: call forward(x) first")
        grad = self.output_grad if grad is None else aligned(grad)
        grad_inputs = []
        for e, member in enumerate(self._members):
            delta = member.backward(grad[e], parameters)
            if input_columns is not None:
                grad_inputs.append(member.input_grad(delta, input_columns))
        if input_columns is None:
            return None
        stacked = torch.stack(grad_inputs)
        return stacked.sum(0) if self._input_shared else stacked
