"""Work on tensors that stay in place: recorded once as a CUDA graph, then replayed in one launch.

A small network's update is some hundred operations of a few microseconds each, and on a GPU
starting them one by one takes ten times as long as what they do.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

# Runs before the recording: libraries choose and set up their kernels in the first ones, which is
# not allowed while a graph is recorded.
WARM_UPS = 2


class Captured:
    """Calls ``work``; on CUDA as one graph.

    What is replayed are the very operations on the very memory of the call that was recorded. So
    ``work``

    * has no arguments: its inputs are tensors that the caller writes to before each call;
    * waits for nothing (``item``, ``cpu``, indexing by a mask) and moves nothing from the host;
    * draws no random numbers: the caller draws them into an input;
    * writes what it changes in place, and what it returns into a tensor made before.

    Numbers that are no tensors (a batch size, a weight) are what they were when it was recorded:
    make another object where they change. Where recording fails, a warning says so once, and every
    call runs the operations one by one.

    Args:
        work: the operations.
        changes: all tensors that ``work`` changes: the runs before the recording count for nothing.
        device: where they are.
        calls_before: that are made one by one: recording takes as long as some dozen of them.
    """

    def __init__(
        self,
        work: Callable[[], None],
        changes: Sequence[Tensor],
        device: torch.device,
        calls_before: int = 0,
    ) -> None:
        self._work, self._changes, self._device = work, list(changes), device
        self._calls_before = calls_before
        self._replay: Callable[[], None] | None = None if device.type == "cuda" else work

    def __call__(self) -> None:
        """Do the work once more."""
        if self._replay is None and self._calls_before > 0:
            self._calls_before -= 1
            self._work()
            return
        if self._replay is None:
            self._replay = self._record()
        self._replay()

    def _record(self) -> Callable[[], None]:
        with torch.cuda.device(self._device):
            # Not the default stream: its work cannot be recorded.
            side, graph = _side_stream(self._device), torch.cuda.CUDAGraph()
            self._warm_up(side)
            try:
                # Other threads (a log that is written, memory that is pinned) may go on meanwhile.
                mode = "thread_local"
                with (
                    _no_collection(),
                    torch.cuda.graph(graph, stream=side, capture_error_mode=mode),
                ):
                    self._work()
            except RuntimeError as error:
                torch.cuda.synchronize(self._device)
                warnings.warn(
                    f"no CUDA graph could be recorded ({str(error).splitlines()[0]}); training "
                    "goes on without one, several times as slow",
                    RuntimeWarning,
                    stacklevel=4,
                )
                return self._work
        return graph.replay

    def _warm_up(self, side: torch.cuda.Stream) -> None:
        """Run the work where it does not count, on another stream than what counts."""
        before = [tensor.clone() for tensor in self._changes]
        current = torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._work()
        current.wait_stream(side)
        with torch.no_grad():
            torch._foreach_copy_(self._changes, before)


class Beside:
    """Work that other work does not wait for: at the same time on CUDA, elsewhere at once.

    Small operations fill a fraction of a GPU. What the work reads has to stay as it is until
    :meth:`join`, and tensors that it reads and nobody holds are to be given to :meth:`keep`: their
    memory would be taken for others.

    Args:
        device: where.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._kept: list[Tensor] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, operations wait for those before and for none after."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def keep(self, tensor: Tensor) -> None:
        """Hold a tensor until :meth:`join`."""
        self._kept.append(tensor)

    def join(self) -> None:
        """Operations after this one wait for all that was done within."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
        self._kept.clear()


@contextmanager
def _no_collection() -> Iterator[None]:
    """No cycle of objects is collected: a graph among them cannot be freed during a recording."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all graphs: libraries keep memory for each stream that they work on."""
    return torch.cuda.Stream(device)


def product_precision() -> str:
    """How torch multiplies float32 matrices on CUDA: a constant of a graph."""
    # The older function raises where a program has used the newer attribute.
    newer = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    return newer or torch.get_float32_matmul_precision()


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device, or on the CPU its own memory; nothing is waited for."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    # Only from pinned memory the copy is made while the host goes on.
    return tensor.pin_memory().to(device, non_blocking=True)
