"""What a CUDA graph does not allow, held on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# They give the host a value, or a tensor whose shape depends on values.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "repeat_interleave", "is_nonzero", "equal", "item",
}  # fmt: skip
# They take a generator's next numbers: a replay would take the same ones again.
DRAWING = {
    "rand", "randn", "randint", "randperm", "uniform_", "normal_", "random_", "bernoulli_",
    "multinomial", "exponential_", "geometric_", "dropout", "native_dropout",
}  # fmt: skip


class GraphRules(TorchDispatchMode):
    """Fails where an operation cannot be recorded in a CUDA graph and replayed.

    An index with a mask is "nonzero" inside of an operation that is allowed with numbers: masks
    among indices are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITING | DRAWING, f"{name} cannot be recorded"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, f"{name} by a mask cannot be recorded"
        assert name != "lift_fresh", "a tensor of the host's values cannot be recorded"
        kwargs = kwargs or {}
        assert not (name == "_to_copy" and kwargs.get("device") is not None), "moved to a device"
        self.n_operations += 1
        return func(*args, **kwargs)
