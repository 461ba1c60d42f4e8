"""Metrics as TensorBoard events."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hierebm.files import check_writable
from hierebm.logging.summaries import summary_values


class TensorBoardOutput:
    """Scalars, text, histograms, images and hyperparameters as TensorBoard events.

    Written by TensorBoard's own ``EventFileWriter``, which W&B and others hook into, but at once:
    its thread would swallow a failed write. Here that surfaces in :meth:`write`, and the next write
    starts a fresh event file, so that a truncated record never hides what comes after it.
    """

    name = "tensorboard"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._writer: Any = None
        self._path = self.folder
        self._has_warned = False

    def _open(self) -> None:
        # By its module: whoever hooks in has replaced the class there.
        from tensorboard.summary.writer import event_file_writer

        # Before its thread finds out.
        check_writable(self.folder / "events", trial_bytes=1 << 12)
        while True:
            writer = event_file_writer.EventFileWriter(str(self.folder))
            self._path = Path(writer._file_name)
            writer._async_writer = _AtOnce(writer._async_writer)
            self._writer = writer
            if not self._is_before_older_ones():
                return
            self.close()
            self._path.unlink()
            time.sleep(0.2)

    def _is_before_older_ones(self) -> bool:
        """Whether readers, who sort files by their names, would take an older one for newer.

        Names end with a count: the tenth writer of a process comes before the ninth one where both
        were opened within a second.
        """
        own, _ = self._path.name.rsplit(".", 1)
        return any(path.name > self._path.name for path in self.folder.glob(f"{own}.*"))

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Append one event that holds every value."""
        from tensorboard.compat.proto import event_pb2, summary_pb2

        entries = [entry for item in values.items() for entry in summary_values(*item)]
        event = event_pb2.Event(
            wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=entries)
        )
        try:
            if self._writer is not None and not self._path.exists():
                # What is written to a file that was deleted goes nowhere, or has no beginning.
                self._begin_again()
            if self._writer is None:
                self._open()
            self._writer.add_event(event)
            self._writer.flush()
        except Exception as error:
            # Closing flushes what the failed write left in the buffer, and fails the same way.
            with suppress(Exception):
                self.close()
            # Where TensorFlow is installed, files are its own, and so are the errors.
            if type(error).__module__.startswith("tensorflow"):
                raise OSError(str(error)) from error
            raise

    def _begin_again(self) -> None:
        """The event file was deleted: say so, once, and write another one."""
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self.folder} was deleted, or its event file, while a run is logged there: it is "
                "made again, what was logged until now is gone",
                RuntimeWarning,
                stacklevel=4,
            )
        self.close()

    def close(self) -> None:
        """Close the event file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class _AtOnce:
    """Writes in the caller's thread, in place of TensorBoard's asynchronous writer.

    Args:
        replaced: that writer; its thread is stopped.
    """

    def __init__(self, replaced: Any) -> None:
        self._records = replaced._writer
        replaced._worker.stop()

    def write(self, record: bytes) -> None:
        self._records.write(record)

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()
