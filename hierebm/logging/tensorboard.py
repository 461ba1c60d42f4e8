"""Metrics as TensorBoard events."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Two writers of one process that open in the same second need different file names, and readers
# take the files in the order of their names: the count is padded.
_EVENT_FILE_COUNTER = itertools.count()


class TensorBoardOutput:
    """Scalars, text, histograms and images as TensorBoard events, written synchronously.

    The usual asynchronous writer would raise a failed write from its thread, or swallow it. Here it
    surfaces in :meth:`write`, and the next write starts a fresh event file, so that a truncated
    record never hides what comes after it.
    """

    name = "tensorboard"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._file: BinaryIO | None = None
        self._records: Any = None
        self._has_warned = False

    def _open(self) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
            f".{os.getpid()}.{next(_EVENT_FILE_COUNTER):06d}"
        )
        self._file = open(self.folder / name, "wb")  # noqa: SIM115 - lives until close()
        self._records = RecordWriter(self._file)
        first = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
        self._records.write(first.SerializeToString())

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Append one event that holds every value."""
        from tensorboard.compat.proto import event_pb2, summary_pb2

        summary = summary_pb2.Summary(
            value=[_summary_value(key, value) for key, value in values.items()]
        )
        event = event_pb2.Event(wall_time=time.time(), step=step, summary=summary)
        try:
            if self._file is not None and not os.path.exists(self._file.name):
                # What is written to a file that was deleted goes nowhere, without an error.
                self._begin_again()
            if self._file is None:
                self._open()
            assert self._file is not None
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError:
            # Closing flushes what the failed write left in the buffer, and fails the same way.
            with contextlib.suppress(OSError):
                self.close()
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
        file, self._file, self._records = self._file, None, None
        if file is not None:
            file.close()


def _summary_value(key: str, value: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2

    if isinstance(value, str):
        return _text(key, value)
    if isinstance(value, float):
        return summary_pb2.Summary.Value(tag=key, simple_value=value)
    if isinstance(value, np.ndarray):
        return summary_pb2.Summary.Value(tag=key, histo=_histogram(value))
    return summary_pb2.Summary.Value(tag=key, image=_image(value))


def _text(key: str, text: str) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2

    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    return summary_pb2.Summary.Value(
        tag=f"{key}/text_summary",
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=tensor_pb2.TensorProto(
            dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape
        ),
    )


def _image(figure: Figure) -> Any:
    from tensorboard.compat.proto import summary_pb2

    from hierebm.plotting.drawing import figure_to_png

    width, height = (int(side) for side in figure.canvas.get_width_height())
    return summary_pb2.Summary.Image(
        width=width, height=height, colorspace=4, encoded_image_string=figure_to_png(figure)
    )


def _histogram(values: np.ndarray) -> Any:
    from tensorboard.compat.proto import summary_pb2

    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        finite = np.zeros(1)
    counts, edges = np.histogram(finite, bins=30)
    return summary_pb2.HistogramProto(
        min=finite.min(),
        max=finite.max(),
        num=finite.size,
        sum=finite.sum(),
        sum_squares=float(finite @ finite),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.astype(np.float64).tolist(),
    )
