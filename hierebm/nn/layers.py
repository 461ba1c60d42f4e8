"""Networks as plain autograd modules.

Everything here is the readable reference: it runs on any device, supports custom subclasses, and
is what the hand-written kernels of :mod:`hierebm.nn.kernels` are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """Return the elementwise function called ``name``; ValueError names the choices."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


class RandomFourierFeatures(nn.Module):
    """Fixed random features ``[sin(x B), cos(x B)]`` over several octaves of frequency.

    A ReLU network on raw coordinates is too smooth to show a wall; sinusoids of random direction
    let it bend at the scale of their frequency (Rahimi & Recht 2007; Tancik et al. 2020, eq. 5,
    with the factor 2 pi absorbed in the scale).

    Args:
        in_dim: size of the last dimension of the input, expected to be scaled to about [-1, 1].
        n_features: number of frequencies F; the output has size 2 F.
        scales: standard deviations of the frequencies (radians per unit of input). The F
            frequencies are split over them as evenly as possible, the first ones getting the rest.
        generator: source of the frequencies.
    """

    frequencies: Tensor

    def __init__(
        self,
        in_dim: int,
        n_features: int,
        scales: Sequence[float] = (4.0,),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if in_dim < 1 or n_features < 1:
            raise ValueError(f"in_dim and n_features must be >= 1, got {in_dim}, {n_features}")
        if len(scales) < 1 or any(not math.isfinite(s) or s <= 0 for s in scales):
            raise ValueError(f"scales must be positive numbers, at least one, got {list(scales)}")
        if n_features < len(scales):
            raise ValueError(f"n_features={n_features} cannot cover {len(scales)} scales")
        self.in_dim, self.n_features, self.out_dim = in_dim, n_features, 2 * n_features
        share, rest = divmod(n_features, len(scales))
        column_scale = torch.cat(
            [torch.full((share + (i < rest),), float(s)) for i, s in enumerate(scales)]
        )
        directions = torch.randn(in_dim, n_features, generator=generator)
        self.register_buffer("frequencies", directions * column_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., 2 n_features)."""
        phase = x @ self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def extra_repr(self) -> str:  # noqa: D102
        return f"in_dim={self.in_dim}, n_features={self.n_features}"


def _layer_sizes(in_dim: int, hidden: Sequence[int], out_dim: int) -> list[tuple[int, int]]:
    sizes = [in_dim, *hidden, out_dim]
    if any(s < 1 for s in sizes):
        raise ValueError(f"every layer size must be >= 1, got {sizes}")
    return list(pairwise(sizes))


def _uniform_fan_in_(tensor: Tensor, fan_in: int, generator: torch.Generator | None) -> None:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of ``torch.nn.Linear``."""
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        tensor.uniform_(-bound, bound, generator=generator)


class MLP(nn.Module):
    """Fully connected network with a linear last layer.

    Args:
        in_dim: input size.
        hidden: sizes of the hidden layers; empty for a linear map.
        out_dim: output size.
        activation: "relu", "silu" or "tanh", after every hidden layer.
        generator: source of the initial parameters; the same generator state gives the same bits.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self._activate = activation_function(activation)
        self.layers = nn.ModuleList()
        for n_in, n_out in _layer_sizes(in_dim, hidden, out_dim):
            # skip_init: the constructor's own initialisation would draw from the global generator.
            linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
            _uniform_fan_in_(linear.weight, n_in, generator)
            _uniform_fan_in_(linear.bias, n_in, generator)
            self.layers.append(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self._activate(layer(x))
        return last(x)


class EnsembleLinear(nn.Module):
    """E independent linear maps in one batched product.

    ``weight`` is (E, in, out) and ``bias`` (E, 1, out), so that a layer is one ``baddbmm``.
    """

    def __init__(
        self, n_members: int, n_in: int, n_out: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_members, n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_out))
        _uniform_fan_in_(self.weight, n_in, generator)
        _uniform_fan_in_(self.bias, n_in, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (E, B, in) to (E, B, out)."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleMLP(nn.Module):
    """E independent :class:`MLP` of equal shape, evaluated together.

    Args:
        n_members: number of members E, each initialised independently.
        in_dim: input size.
        hidden: sizes of the hidden layers; empty for a linear map.
        out_dim: output size of each member.
        activation: "relu", "silu" or "tanh", after every hidden layer.
        generator: source of the initial parameters; the same generator state gives the same bits.
    """

    def __init__(
        self,
        n_members: int,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if n_members < 1:
            raise ValueError(f"n_members must be >= 1, got {n_members}")
        self.n_members = n_members
        self.activation = activation
        self._activate = activation_function(activation)
        self.layers = nn.ModuleList(
            EnsembleLinear(n_members, n_in, n_out, generator)
            for n_in, n_out in _layer_sizes(in_dim, hidden, out_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in) shared by all members, or (E, B, in), to (E, B, out)."""
        if x.dim() == 2:
            x = x.expand(self.n_members, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            x = self._activate(layer(x))
        return last(x)
