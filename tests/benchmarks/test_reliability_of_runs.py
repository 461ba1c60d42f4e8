"""Small versions of the rows of runs that are killed, stopped, interrupted and starved."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

# Trials of each row; the benchmark makes many more. Killed sweeps: tests/sweeps/test_sweep.py.
TRIALS = {
    "kills": 2,
    "interrupts": 4,
    "stop_signals": 3,
    "disks": 3,
    "two_processes": 1,
    "soak": 2000,
}


@pytest.mark.parametrize("module", TRIALS)
def test_nothing_is_lost(module: str, tmp_path: Path) -> None:
    rows = list(
        import_module(f"benchmarks.reliability.{module}").measure(TRIALS[module], 1, tmp_path)
    )
    assert rows and all(row["losses"] == 0 for row in rows), rows
    if module != "soak":
        assert sum(row["tried"] for row in rows) >= min(TRIALS[module], 2)
