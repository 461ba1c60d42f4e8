"""How many threads torch uses, and that they sleep while they wait. Imports torch only when asked.

A product of an update here takes a few tenths of a millisecond: too short to be shared. Torch's
default is one thread per core all the same, and OpenMP's default is that threads without work
*spin*. With another process on the machine (a second seed, say) each waits for threads that the
other's spinning keeps off the cores, and both become five to ten times slower. Hence two rules:

* ``OMP_WAIT_POLICY=PASSIVE``, which OpenMP reads once, when torch is loaded: it must be in the
  environment **before torch is imported** (:func:`prefer_passive_waiting`);
* as many threads as the products are worth, usually one (:func:`apply_thread_policy`). Run seeds
  side by side instead: they do not disturb each other.

Whoever sets ``OMP_NUM_THREADS`` or ``OMP_WAIT_POLICY`` has decided, and nothing is overridden.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

# Multiply-adds of one product below which a second thread costs more than it brings.
WORTH_SHARING = 2**26
MAX_THREADS = 4


def prefer_passive_waiting() -> bool:
    """Ask OpenMP not to spin, unless the environment says something already.

    Returns:
        Whether a policy is in place in time: False if torch was imported without one.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return True
    if "torch" in sys.modules:
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def recommended_threads(width: int, batch_size: int, cores: int | None = None) -> int:
    """Threads for products of (batch_size, width) with (width, width).

    One for anything near the default networks; for wide ones up to half the cores, four at most,
    so that two runs fit side by side.

    Args:
        width: widest hidden layer.
        batch_size: rows per product.
        cores: default: what this process may use.
    """
    if batch_size * width * width < WORTH_SHARING:
        return 1
    cores = available_cores() if cores is None else cores
    return max(1, min(MAX_THREADS, cores // 2))


def apply_thread_policy(
    width: int = 256,
    batch_size: int = 256,
    *,
    requested: int | None = None,
    log: Callable[[str], object] | None = None,
) -> int:
    """Set torch's thread count for this process and return it.

    Args:
        width, batch_size: see :func:`recommended_threads`.
        requested: the user's own count; it beats the policy and the environment.
        log: is told in one line when the count changes, and only then.

    Raises:
        ValueError: if ``requested`` is below 1.
    """
    import torch

    if requested is not None and requested < 1:
        raise ValueError(f"threads must be at least 1, got {requested}")
    before = torch.get_num_threads()
    if requested is not None:
        threads, why = requested, "as requested"
    elif "OMP_NUM_THREADS" in os.environ:
        return before
    else:
        threads, why = recommended_threads(width, batch_size), "OMP_NUM_THREADS overrides this"
    if threads != before:
        torch.set_num_threads(threads)
        if log is not None:
            log(f"torch uses {threads} thread{'s' * (threads > 1)} instead of {before} ({why})")
    return threads
