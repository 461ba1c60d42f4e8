"""What a sweep hands out: pieces of work, each of which has a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hierebm.sweeps.files import Row

Report = Callable[[Row], None]


class Work(Protocol):
    """One piece of it, which has to be able to travel to another process (pickle)."""

    @property
    def path(self) -> Path:
        """Its folder."""

    def run(self, report: Report) -> None:
        """Do it, unless its folder says that it was done.

        Args:
            report: gets what there is to tell meanwhile.
        """


class Source(Protocol):
    """Hands out what is not done."""

    @property
    def folder(self) -> Path:
        """Where all of it is."""

    def next(self) -> Work | None:
        """The next piece; None: there will be no more."""

    def finished(self, work: Any) -> None:
        """A piece has ended: look at what it left."""
