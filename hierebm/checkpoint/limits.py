"""Building networks by settings from a file: no larger than the file's own tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What is built is what the file holds, with gradients, and kept twice for a moment; small networks
# have room for what is not in the file.
_RATIO, _FREE_BYTES = 4, 32 << 20
# What a tensor takes besides its numbers: a network of many tiny layers is large, too.
_EACH_BYTES = 4 << 10
_SIZED = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
_RANGES = {torch.arange: 1, torch.linspace: 1, torch.eye: 2}


class AllocationLimit(TorchFunctionMode):
    """In this ``with`` block, tensors are made only while they are no larger than a file's.

    A setting of one digit more can ask for networks of ten times the size, and building them would
    take minutes and all memory before their shapes are compared.

    Args:
        tensors: nested dicts and lists of tensors, as the file holds them.
    """

    def __init__(self, tensors: Any) -> None:
        super().__init__()
        held = sum(t.numel() * t.element_size() for t in _leaves(tensors))
        self._left = float(_RATIO * held + _FREE_BYTES)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count what is about to be made, then make it."""
        kwargs = kwargs or {}
        if func in _SIZED:
            self._count(_numel(args, kwargs, func is torch.full))
        elif func in _RANGES:
            numbers = [a for a in args if isinstance(a, (int, float))]
            self._count(max((abs(float(n)) for n in numbers), default=0.0) ** _RANGES[func])
        return func(*args, **kwargs)

    def _count(self, numel: float) -> None:
        self._left -= 4 * numel + _EACH_BYTES
        if self._left < 0:
            raise ValueError(
                "its settings ask for networks that are far larger than those that it holds"
            )


def _numel(args: tuple[Any, ...], kwargs: Mapping[str, Any], has_value: bool) -> float:
    size = kwargs.get("size", args[0] if args and (has_value or not _is_int(args[0])) else args)
    return float(math.prod(size)) if not _is_int(size) else float(size)


def _is_int(value: Any) -> bool:
    return isinstance(value, int)


def _leaves(tree: Any) -> Iterator[torch.Tensor]:
    """Every tensor once: a few parts may be named a million times."""
    seen: set[int] = set()
    left = [tree]
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, torch.Tensor):
            yield part
        elif isinstance(part, (dict, list, tuple)):
            left += part.values() if isinstance(part, dict) else part
