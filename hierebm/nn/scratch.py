"""Memory shared by kernels that take turns."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Memory for what no kernel needs once its pass is over.

    A small network's update is half made of fetching memory from beyond the second-level cache:
    what is overwritten in place stays there.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    @torch.inference_mode(False)
    def window(self, size: int, like: Tensor) -> Tensor:
        """(size,) of dtype and device of ``like``; whoever holds an older window keeps it."""
        memory = self._memory
        if size > memory.numel() or memory.dtype != like.dtype or memory.device != like.device:
            self._memory = like.new_empty(size)
        return self._memory[:size]
