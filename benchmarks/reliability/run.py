"""Reliability: kills, interrupts, damaged files, faults, full disks, long runs, and what was lost.

Every row breaks something on purpose, many times and with a seed, and says what became of it. The
column ``losses`` counts the trials that broke a promise: something learned that is gone, a file
that was not refused in one sentence, a run that hung. All of them have to be 0.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.reliability.rows import Row

ROWS = {
    "files": "benchmarks.reliability.files",
    "faults": "benchmarks.reliability.faults",
    "kills": "benchmarks.reliability.kills",
    "interrupts": "benchmarks.reliability.interrupts",
    "signals": "benchmarks.reliability.stop_signals",
    "disks": "benchmarks.reliability.disks",
    "two processes": "benchmarks.reliability.two_processes",
    "soak": "benchmarks.reliability.soak",
}
"""Name -> a module with ``FULL`` and ``QUICK``, numbers of trials, and with
``measure(n, seed, folder)``, which yields the rows of n trials and may write into the folder.
"""


def run(quick: bool, seeds: int | None, out: Path) -> list[Row]:
    """Every row in turn, printed as it comes.

    Args:
        seeds: how many times, each with other random numbers; one by default.
    """
    rows: list[Row] = []
    for seed in range(seeds or 1):
        for module in map(import_module, ROWS.values()):
            with tempfile.TemporaryDirectory(dir=out) as folder:
                for values in module.measure(
                    module.QUICK if quick else module.FULL, seed, Path(folder)
                ):
                    print(line(values), flush=True)
                    rows.append(values | {"seed": seed})
    lost = sum(values["losses"] for values in rows)
    print(f"{len(rows)} rows, {lost} losses", flush=True)
    return rows


def line(values: Row) -> str:
    """One row as it is printed while the benchmark runs."""
    return (
        f"{values['what']:14} {values['case']:28} {values['tried']:6} tried, "
        f"{values['losses']} lost: {values['outcomes']}"
    )
