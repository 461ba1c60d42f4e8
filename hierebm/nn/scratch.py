"""Memory whose address decides no rounding, and memory shared by kernels that take turns.

Products and dot products round by where their operands begin within a cache line: the library adds
up in another order from an odd address. Hence what kernels read and write begins at a multiple of
64 bytes, whatever was allocated before. Torch's own allocations do; windows of them may not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CACHE_LINE = 64  # bytes
# Elements; numbers of two bytes or more fill whole cache lines.
_STEP = 32


def padded(size: int) -> int:
    """The smallest number of elements from ``size`` up whose end may be another window's start."""
    return -(-size // _STEP) * _STEP


def aligned(tensor: Tensor) -> Tensor:
    """``tensor`` itself if it is contiguous and begins at a cache line, else a copy that does."""
    if tensor.is_contiguous() and tensor.data_ptr() % CACHE_LINE == 0:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def zeros_when_written(like: Tensor) -> Tensor:
    """Zeros of the shape (P,) of ``like``, from a cache line on; on the CPU they take memory only
    once they are written: a network that is loaded and never trained needs half as much.
    """
    if like.device.type != "cpu" or like.dtype != torch.float32:
        return torch.zeros_like(like)
    n, spare = like.numel(), CACHE_LINE // like.element_size()
    memory = np.zeros(n + spare, np.float32)
    start = -memory.ctypes.data % CACHE_LINE // like.element_size()
    return torch.from_numpy(memory[start : start + n])


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
