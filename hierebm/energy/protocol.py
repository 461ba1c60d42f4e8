"""What samplers and objectives need of an energy, and the autograd reference for its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class SamplingError(FloatingPointError):
    """An energy or its gradient is not finite while sampling."""


class EnergyModel(Protocol):
    """An energy E(y), E(y | x) or E(y | x, z) in nats, with its gradient to y.

    ``EnergyMLP`` is one; so is any other class with these two methods.
    """

    def __call__(self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        """Energies of y (..., y_dim): shape (...), over broadcast leading dimensions."""

    def energy_and_grad(
        self, y: Tensor, x: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies (...) and dE/dy (..., y_dim), without an autograd graph."""


def autograd_energy_and_grad(
    energy: Callable[[Tensor, Tensor | None, Tensor | None], Tensor],
    y: Tensor,
    x: Tensor | None = None,
    z: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Energies (...) and dE/dy (..., y_dim) of any differentiable energy, by autograd."""
    with torch.inference_mode(False), torch.enable_grad():
        # What was made in inference mode cannot take part in a graph; a copy can.
        y = _graphable(y)
        x, z = (None if t is None else _graphable(t) for t in (x, z))
        shape = torch.broadcast_shapes(*(t.shape[:-1] for t in (y, x, z) if t is not None))
        y = y.detach().expand(*shape, y.shape[-1]).clone().requires_grad_(True)
        values = energy(y, x, z)
        (grad,) = torch.autograd.grad(values.sum(), y)
    return values.detach(), grad


def _graphable(t: Tensor) -> Tensor:
    return t.clone() if t.is_inference() else t
