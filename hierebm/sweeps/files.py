"""The folder of a study: what its trials left there is the truth about how far it is.

::

    STUDY/study.json                                  the study
    STUDY/optuna.journal                              what Optuna drew, and what came of it
    STUDY/trials/VARIANT/WORLD-seed0/trial.json       what the trial is
                                     attempts.jsonl   when it began, and went on after a kill
                                     train.log        what hierebm train says
                                     curve.jsonl      its learning curve
                                     result.json      how it ended; without it, it is not done
                                     agent*.zip       checkpoints, and the agent at the end
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hierebm.files import atomic_write, lock_file

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
"""How a trial ended."""

Row = dict[str, Any]


def read_json(path: Path) -> Any:
    """What is in a file; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def read_rows(path: Path) -> list[Row]:
    """The JSON objects of a file, one a line; a line that a kill has torn is left out."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of rows whole or not at all."""
    with atomic_write(path) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def read_result(folder: Path) -> Row | None:
    """How the trial of a folder ended; None while it has not."""
    result: Row | None = read_json(folder / "result.json")
    return result


def read_curve(folder: Path) -> list[Row]:
    """The learning curve of a trial: ``env_steps``, ``seconds`` and ``success`` of each point."""
    return read_rows(folder / "curve.jsonl")


@contextmanager
def alone(folder: Path, patience: float = float("inf"), pause: float = 0.5) -> Iterator[None]:
    """Be the only process that works in a folder.

    Whoever works there is waited for: a worker may outlive the sweep that started it.

    Args:
        folder: where; made if missing.
        patience: seconds.
        pause: between two looks.

    Raises:
        TimeoutError: it is still at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    while (lock := lock_file(folder / ".lock")) is None:
        if time.monotonic() - started >= patience:
            raise TimeoutError(f"another process is at work in {folder}")
        time.sleep(pause)
    try:
        yield
    finally:
        os.close(lock)
