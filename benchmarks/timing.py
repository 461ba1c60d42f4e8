"""How long a call takes, on a machine that other processes use as well."""

from __future__ import annotations

import time
from collections.abc import Callable


def processor_ms(function: Callable[[], object], repeats: int = 20) -> float:
    """Median processor milliseconds of a call, after two calls to warm up."""
    function()
    function()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return 1e3 * sorted(times)[len(times) // 2]
