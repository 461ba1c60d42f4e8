"""What a CUDA graph does not allow, and what must not leave a device, held on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

# They give the host a value, or a tensor whose shape depends on values.
WAITING = {
    "item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__",
    "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "equal",
    "allclose", "repeat_interleave", "__contains__", "histc",
}  # fmt: skip
# They make a tensor of what the host has.
SENDING = {"tensor", "as_tensor", "from_numpy", "cuda", "pin_memory", "new_tensor"}
# They take a generator's next numbers: a replay would take the same ones again.
DRAWING = {
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "uniform_", "normal_",
    "random_", "bernoulli", "bernoulli_", "multinomial", "exponential_", "geometric_", "dropout",
}  # fmt: skip


class GraphRules(TorchFunctionMode):
    """Fails where a call cannot be recorded in a CUDA graph and replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        assert name not in WAITING | SENDING | DRAWING, f"{name} cannot be recorded"
        if name == "to":
            targets = [*args[1:], *kwargs.values()]
            assert all(isinstance(t, torch.dtype) for t in targets), "moved to a device"
        if name == "where":
            assert len(args) == 3, "where of a mask alone cannot be recorded"
        if name in ("__getitem__", "__setitem__"):
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            for index in indices:
                assert not isinstance(index, list), "an index of the host cannot be recorded"
                mask = isinstance(index, torch.Tensor) and index.dtype == torch.bool
                assert not mask, "an index by a mask cannot be recorded"
        self.n_calls += 1
        return func(*args, **kwargs)


class StaysOn(TorchFunctionMode):
    """Fails where a call takes or gives a tensor that is on another device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.n_calls = torch.device(device), 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor):
                name = getattr(func, "__name__", str(func))
                assert value.device == self.device, f"{name} has a tensor on {value.device}"
        self.n_calls += 1
        return result
