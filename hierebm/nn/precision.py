"""Products in bfloat16 with float32 inputs, outputs and weights, where the processor has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def bf16_products(enabled: bool = True) -> Iterator[None]:
    """Let matrix products of float32 tensors round their factors to bfloat16 meanwhile.

    Weights, activations, sums and optimisers stay float32. On processors without such products
    nothing changes. The setting is torch's own and global; it is put back at the end.
    """
    before = torch.get_float32_matmul_precision()
    if enabled:
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
