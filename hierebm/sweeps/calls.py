"""Functions of one's own, run as the trials of a sweep are: side by side, and on after a kill."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierebm.cli.training import say
from hierebm.files import append_row
from hierebm.nn.threads import available_cores
from hierebm.sweeps.files import COMPLETE, Row, alone, read_result, write_json
from hierebm.sweeps.source import Report
from hierebm.sweeps.study import in_folders
from hierebm.sweeps.work import complain, ended, run_all

# Of a longer name, this much is in that of the folder.
_LONGEST = 80


@dataclass(frozen=True)
class Call:
    """A function with its arguments, called once, in a folder of its own.

    Attributes:
        folder: its own.
        name: what is said of it.
        function: of a module, so that another process finds it.
        args: its arguments.
    """

    folder: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, call: Sequence[Any], folder: Path) -> Call:
        """One in a folder of calls, whose name says function and arguments."""
        function, *args = call
        told = f"{function.__module__}.{function.__qualname__}{tuple(args)!r}"
        mark = hashlib.sha256(told.encode()).hexdigest()[:8]
        own = folder / f"{in_folders(name)[:_LONGEST]}-{mark}"
        return cls(str(own), name, function, tuple(args))

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self.folder)

    def run(self, report: Report) -> None:
        """Call the function, unless that was done; what it returns or raises goes to a file."""
        with alone(self.path):
            if read_result(self.path) is not None:
                return
            function = f"{self.function.__module__}.{self.function.__qualname__}"
            told = {"name": self.name, "function": function, "args": repr(self.args)}
            write_json(self.path / "call.json", told)
            append_row(self.path / "attempts.jsonl", {"pid": os.getpid(), "time": time.time()})
            ended(self.path, "call.log", self._result)

    def _result(self) -> Row:
        return {"status": COMPLETE, "returned": self.function(*self.args)}


class _Queue:
    """Hands out the calls that are not done."""

    def __init__(self, calls: Sequence[Call], folder: Path) -> None:
        self.folder = folder
        self._waiting = deque(call for call in calls if read_result(call.path) is None)
        self._n, self._done = len(calls), len(calls) - len(self._waiting)
        if self._done:
            say(f"{self._done} of {self._n} are in {folder} already")

    def next(self) -> Call | None:
        """The next one."""
        return self._waiting.popleft() if self._waiting else None

    def finished(self, call: Call) -> None:
        """Say how it ended."""
        result = read_result(call.path)
        self._done += result is not None
        status = "not done" if result is None else result["status"]
        say(f"{call.name}: {status} ({self._done} of {self._n})")


def run_calls(
    calls: Mapping[str, Sequence[Any]],
    folder: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Call functions side by side, each once; what a kill has interrupted is called again.

    Args:
        calls: name -> a function of a module, and its arguments, by whose ``repr`` a call is known
            again: with other ones it is another call. What it returns has to fit into JSON.
        folder: where results are kept.
        jobs, address: as of :func:`~hierebm.sweeps.run.sweep`.

    Returns:
        Name -> what the function returned, as JSON gives it back: lists for tuples.

    Raises:
        ImportError, RuntimeError, TimeoutError: as :func:`~hierebm.sweeps.run.sweep`.
    """
    folder = Path(folder).absolute()
    with alone(folder, patience=5.0):
        all_calls = {name: Call.of(name, call, folder) for name, call in calls.items()}
        source = _Queue(list(all_calls.values()), folder)
        run_all(source, jobs or available_cores(), address)
    results = {name: read_result(call.path) for name, call in all_calls.items()}
    complain({call.path: results[name] for name, call in all_calls.items()})
    return {name: result["returned"] for name, result in results.items() if result is not None}
