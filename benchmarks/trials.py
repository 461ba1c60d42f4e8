"""The runs of a benchmark as trials of a sweep: side by side, and not again after a kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.installed import installed
from benchmarks.provenance import commit
from hierebm.nn.threads import available_cores
from hierebm.sweeps.calls import run_calls

Job = tuple[Any, ...]
"""A function of a module that gives rows, and its arguments."""


def folder_of(out: Path, benchmark: str) -> Path:
    """Where its trials are: one folder for each commit, as other code gives other rows.

    Of a changed working tree nobody knows what it was: its trials are removed.
    """
    measured = commit()
    folder = out / benchmark / str(measured)
    if measured is None or measured.endswith("+"):
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def side_by_side() -> int:
    """How many trials at a time, each on one thread: one on every core."""
    import torch

    # What trials start reads the first; in this process torch is there already.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if not installed("ray"):
        print("one run at a time: pip install 'hierebm[sweep]' for one on every core")
        return 1
    return available_cores()


def named(jobs: Sequence[Job]) -> dict[str, Job]:
    """Jobs by names that tell functions and arguments."""
    return {
        ", ".join([function.__name__, *(str(getattr(a, "name", a)) for a in args)]): (
            function,
            *args,
        )
        for function, *args in jobs
    }


def rows_of(jobs: Mapping[str, Job], folder: Path, at_once: int | None = None) -> dict[str, Any]:
    """What all jobs return, by their names; only those run that have not run yet."""
    return run_calls(jobs, folder, jobs=at_once or side_by_side())
