"""Jobs of a long benchmark: what has run already need not run again."""

from __future__ import annotations

import json
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

Job = tuple[Any, ...]
"""A function of a module that gives rows, and its arguments."""


class Finished:
    """The file that rows go to as they come; what is in it need not be measured again.

    Args:
        path: one JSON object a line: the job, the rows that it gave, and the commit.
        commit: of the code; rows of another one, or of a changed working tree, stay in the file
            and count for nothing.
    """

    def __init__(self, path: Path, commit: str | None) -> None:
        self.path, self.commit = path, commit
        self._rows: dict[str, list[dict[str, Any]]] = {}
        text = path.read_text() if path.exists() else ""
        for line in [] if str(commit).endswith("+") else text.splitlines():
            try:
                known = json.loads(line)
            except json.JSONDecodeError:
                continue  # A run that was killed may have left half a line.
            if known["commit"] == commit:
                self._rows[known["job"]] = known["rows"]
        if text and not text.endswith("\n"):
            with path.open("a") as lines:
                lines.write("\n")

    def __contains__(self, job: Job) -> bool:
        return _name(job) in self._rows

    def __getitem__(self, job: Job) -> list[dict[str, Any]]:
        return self._rows[_name(job)]

    def __setitem__(self, job: Job, rows: list[dict[str, Any]]) -> None:
        self._rows[_name(job)] = rows
        line = {"job": _name(job), "commit": self.commit, "rows": rows}
        with self.path.open("a") as lines:
            lines.write(json.dumps(line) + "\n")


def _name(job: Job) -> str:
    function, *arguments = job
    return f"{function.__name__}{tuple(arguments)}"


def rows_of(
    workers: Executor, jobs: list[Job], done: Finished, what: str = "cells"
) -> list[dict[str, Any]]:
    """Rows of all jobs, in the order of the jobs; only those run that have not run yet."""
    from tqdm import tqdm

    left = [job for job in jobs if job not in done]
    if len(left) < len(jobs):
        print(f"{len(jobs) - len(left)} of {len(jobs)} {what} are in {done.path} already")
    futures = {workers.submit(*job): job for job in left}
    for future in tqdm(as_completed(futures), total=len(futures), desc=what):
        done[futures[future]] = future.result()
    return [row for job in jobs for row in done[job]]
