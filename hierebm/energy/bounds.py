"""The box that samples stay in."""

from __future__ import annotations

import torch
from torch import Tensor

Bounds = tuple[Tensor, Tensor]
"""Lower and upper corner, each finite and (y_dim,) or broadcastable to y (..., y_dim)."""


def inside(y: Tensor, bounds: Bounds) -> Tensor:
    """Whether points y (..., y_dim) lie in the box, walls included: (...) bool."""
    low, high = bounds
    return ((y >= low) & (y <= high)).all(-1)


def reflect(y: Tensor, bounds: Bounds) -> Tensor:
    """Fold y (..., y_dim) back into the box as if its walls were mirrors (any number of times)."""
    low, high = bounds
    # A coordinate in which the box has no width is a constant, not a division by zero.
    span = (high - low).clamp(min=torch.finfo(y.dtype).tiny)
    folded = torch.remainder(y - low, 2.0 * span)
    return low + torch.minimum(folded, 2.0 * span - folded)
