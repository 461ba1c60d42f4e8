"""Networks from files: none that training would have stopped at."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hierebm.nn.flat import LARGEST_RMS
from hierebm.types import LARGEST


def check_network(module: nn.Module, name: str) -> None:
    """Raise ValueError unless training could have made these weights, and inputs their scales.

    Weights are as ``FlatAdam.step`` keeps them. Numbers that are not trained are finite and no
    larger than what environments return; those that a module names in ``divisors`` are positive.

    Args:
        name: of the network in the message.
    """
    weights = list(module.parameters())
    squares, n = sum(map(_square_sum, weights)), sum(p.numel() for p in weights)
    # NaN compares as False.
    if not squares <= LARGEST_RMS**2 * n:
        raise ValueError(
            f"weights of the {name} are not finite, or far larger than training leaves them "
            f"(root mean square {math.sqrt(squares / n):.3g})"
        )
    for part in module.modules():
        divisors = getattr(part, "divisors", ())
        for key, buffer in part.named_buffers(recurse=False):
            if buffer.is_floating_point():
                low = 1.0 / LARGEST if key in divisors else -LARGEST
                check_range(buffer, f"{key} of the {name}", low, LARGEST)


def check_range(tensor: Tensor, name: str, low: float, high: float) -> None:
    """Raise ValueError unless all numbers are between these, ends included."""
    if tensor.numel() and not (low <= float(tensor.min()) and float(tensor.max()) <= high):
        raise ValueError(f"{name} is not within {low:g} and {high:g}")


@torch.no_grad()
def _square_sum(weight: Tensor) -> float:
    flat = weight.reshape(-1)
    return float(torch.dot(flat, flat))
