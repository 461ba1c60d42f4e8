"""Reliability: kills, interrupts, damaged files, faults, full disks, long runs, and what was lost.

Every row breaks something on purpose, many times and with a seed, and says what became of it. The
column ``losses`` counts the trials that broke a promise: something learned that is gone, a file
that was not refused in one sentence, a run that hung. All of them have to be 0.
"""

from __future__ import annotations

import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks.reliability.rows import Row
from benchmarks.trials import folder_of, rows_of

ROWS = {
    "files": "benchmarks.reliability.files",
    "faults": "benchmarks.reliability.faults",
    "kills": "benchmarks.reliability.kills",
    "interrupts": "benchmarks.reliability.interrupts",
    "signals": "benchmarks.reliability.stop_signals",
    "disks": "benchmarks.reliability.disks",
    "two processes": "benchmarks.reliability.two_processes",
    "sweeps": "benchmarks.reliability.sweeps",
    "soak": "benchmarks.reliability.soak",
}
"""Name -> a module with ``FULL`` and ``QUICK``, numbers of trials, and with
``measure(n, seed, folder)``, which yields the rows of n trials and may write into the folder.
"""


def run(quick: bool, seeds: int | None, out: Path) -> list[Row]:
    """Every row in turn, printed when it is there; those of this commit are not measured again.

    Args:
        seeds: how many times, each with other random numbers; one by default.
    """
    rows: list[Row] = []
    folder = folder_of(out, "reliability")
    for seed in range(seeds or 1):
        for name in ROWS:
            # One after the other: each needs the machine, and starts processes of its own.
            done = rows_of({f"{name}, seed {seed}": (measured, name, quick, seed, out)}, folder, 1)
            for values in [row for of_name in done.values() for row in of_name]:
                rows.append(values)
                print(line(values), flush=True)
    lost = sum(values["losses"] for values in rows)
    print(f"{len(rows)} rows, {lost} losses", flush=True)
    return rows


def measured(name: str, quick: bool, seed: int, out: Path) -> list[Row]:
    """The cases of one row, told as they come; each with the seconds that it took."""
    module, rows = import_module(ROWS[name]), []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for values in module.measure(module.QUICK if quick else module.FULL, seed, Path(folder)):
            now = time.perf_counter()
            rows.append(values | {"seed": seed, "wall_s": round(now - began, 1)})
            began = now
            print(line(rows[-1]), flush=True)
    return rows


def line(values: Row) -> str:
    """One row as it is printed while the benchmark runs."""
    return (
        f"{values['what']:14} {values['case']:28} {values['tried']:6} tried, "
        f"{values['losses']} lost: {values['outcomes']}"
    )
