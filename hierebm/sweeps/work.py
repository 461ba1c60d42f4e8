"""Work that is done once, each in a folder of its own: here, or side by side with Ray Tune."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from hierebm.cli.training import say
from hierebm.sweeps.files import FAILED, Row, write_json
from hierebm.sweeps.source import Source


def run_all(
    source: Source, jobs: int, address: str | None, cpus: float = 1.0, gpus: float = 0.0
) -> None:
    """Do what is left: in this process if it is one at a time, else with Ray.

    Args:
        source: of it.
        jobs: pieces at the same time, on this machine.
        address: of a Ray cluster instead.
        cpus, gpus: what a piece takes up.

    Raises:
        ImportError: Ray is needed and missing; says what to do.
        RuntimeError: Ray did not start; says why.
    """
    try:
        if jobs > 1 or address is not None:
            from hierebm.sweeps import ray_tune

            ray_tune.run_all(source, jobs, address, cpus, gpus)
            return
        while (work := source.next()) is not None:
            work.run(lambda row: None)
            source.finished(work)
    except KeyboardInterrupt:
        say("stopped; the same command goes on")
        raise


def ended(folder: Path, told: str, work: Callable[[], Row]) -> Row:
    """Do something whose end, an error too, is the ``result.json`` of its folder.

    Args:
        folder: where.
        told: file for what it prints.
        work: returns the result.
    """
    result: Mapping[str, Any]
    try:
        with (folder / told).open("a", encoding="utf-8") as log, redirect_stdout(log):
            result = work()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        result = {"status": FAILED, "error": said, "traceback": traceback.format_exc()}
    write_json(folder / "result.json", result)
    return dict(result)


def complain(folders: Mapping[Path, Row | None]) -> None:
    """Raise RuntimeError where something has failed or is not done.

    Args:
        folders: each with its result, None without one.
    """
    failed = [(f, r["error"]) for f, r in folders.items() if r and r["status"] == FAILED]
    if failed:
        folder, error = failed[0]
        raise RuntimeError(
            f"{len(failed)} trial(s) failed: {folder} ({error}); to try one again, remove its "
            "result.json"
        )
    if missing := sum(result is None for result in folders.values()):
        raise RuntimeError(
            f"{missing} trial(s) are not done, because the sweep was stopped or workers died: run "
            "it again"
        )
