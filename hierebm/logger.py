"""Metrics on their way out: TensorBoard, JSON lines and a table on the terminal.

The interface is Stable-Baselines3's (``record``, ``record_mean``, ``dump``). One thing is different
on purpose: an output that fails (full disk, closed pipe, lost network mount) is reported once with
a warning and training carries on.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import re
import socket
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Two writers of one process that open in the same second need different file names.
_EVENT_FILE_COUNTER = itertools.count()


class Output(Protocol):
    """Where a dump goes. ``write`` may raise ``OSError``; the logger deals with it."""

    name: str

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Write the values of one dump: floats, strings, arrays and matplotlib figures by key."""
        ...

    def close(self) -> None:
        """Release what is open. Idempotent."""
        ...


def is_figure(value: Any) -> bool:
    """Whether a value is a matplotlib figure (without importing matplotlib)."""
    return hasattr(value, "savefig")


def figure_to_png(figure: Figure, dpi: float | None = None) -> bytes:
    """Encode a matplotlib figure as PNG with the Agg canvas, whatever backend is active."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi or figure.dpi)
    return buffer.getvalue()


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

    def _open(self) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
            f".{os.getpid()}.{next(_EVENT_FILE_COUNTER)}"
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
            if self._file is None:
                self._open()
            assert self._file is not None
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError:
            self._abandon()
            raise

    def _abandon(self) -> None:
        file, self._file, self._records = self._file, None, None
        if file is not None:
            # Closing flushes what the failed write left in the buffer, and fails the same way.
            with contextlib.suppress(OSError):
                file.close()

    def close(self) -> None:
        """Close the event file."""
        file, self._file, self._records = self._file, None, None
        if file is not None:
            file.close()


def _summary_value(key: str, value: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2

    if isinstance(value, str):
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
        shape = tensor_shape_pb2.TensorShapeProto(
            dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]
        )
        text = tensor_pb2.TensorProto(
            dtype="DT_STRING", string_val=[value.encode()], tensor_shape=shape
        )
        return summary_pb2.Summary.Value(
            tag=f"{key}/text_summary",
            metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
            tensor=text,
        )
    if is_figure(value):
        width, height = (int(side) for side in value.canvas.get_width_height())
        image = summary_pb2.Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=figure_to_png(value)
        )
        return summary_pb2.Summary.Value(tag=key, image=image)
    if isinstance(value, np.ndarray):
        return summary_pb2.Summary.Value(tag=key, histo=_histogram(value))
    return summary_pb2.Summary.Value(tag=key, simple_value=value)


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


class JSONLinesOutput:
    """One JSON object per dump, ``{"step": ..., key: value, ...}``; figures are left out."""

    name = "json"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Append one line. Numbers that JSON lacks (nan, inf) become ``null``."""
        row: dict[str, Any] = {"step": step}
        for key, value in values.items():
            if isinstance(value, float):
                row[key] = value if math.isfinite(value) else None
            elif isinstance(value, str):
                row[key] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Opened for each line: nothing stays open, and a line is either there or not.
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Nothing is held open."""


class TableOutput:
    """A table on standard output, one section per key prefix; keeps progress bars intact."""

    name = "stdout"

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Print the numbers and strings of one dump."""
        table = format_table(values)
        if table:
            # tqdm.write lifts a running progress bar out of the way; without one it is a print.
            from tqdm import tqdm

            tqdm.write(table)

    def close(self) -> None:
        """Standard output stays open."""


def format_table(values: Mapping[str, Any]) -> str:
    """Numbers and strings as a boxed two-column table, grouped by what stands before the ``/``."""
    rows: list[tuple[str, str]] = []
    section = None
    for key in sorted(values):
        value = values[key]
        if not isinstance(value, (float, str)):
            continue
        prefix, _, name = key.rpartition("/")
        if prefix and prefix != section:
            rows.append((f"{prefix}/", ""))
        section = prefix
        text = _format_number(value) if isinstance(value, float) else _shorten(value, 40)
        rows.append((f"  {name}" if prefix else name, text))
    if not rows:
        return ""
    left = max(len(name) for name, _ in rows)
    right = max(len(text) for _, text in rows)
    rule = "-" * (left + right + 7)
    lines = [f"| {name:<{left}} | {text:>{right}} |" for name, text in rows]
    return "\n".join([rule, *lines, rule])


def _format_number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e12:
        return f"{int(value)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.4g}"


def _shorten(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Logger:
    """Collects metrics until :meth:`dump` hands them to every output.

    Attributes:
        dir: the run's folder, or ``None`` when nothing is written to disk.
        name_to_value: what was recorded since the last dump.
        latest: the last dumped number of every key, for whoever wants to look back
            (callbacks that stop training, notebooks).
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, outputs: list[Output] | None = None
    ) -> None:
        self.dir = None if folder is None else str(folder)
        self.outputs: list[Output] = list(outputs or [])
        self.name_to_value: dict[str, Any] = {}
        self.latest: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._exclude: dict[str, tuple[str, ...]] = {}
        self._failed: set[int] = set()

    def record(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        """Note a value; the last one before the dump counts.

        Args:
            key: ``"section/name"``.
            value: a number (also a 0-d array or tensor), a string, a matplotlib figure (an image
                in TensorBoard) or an array (a histogram there).
            exclude: names of outputs that shall not get it: ``"stdout"``, ``"tensorboard"``,
                ``"json"``.
        """
        self.name_to_value[key] = value
        self._counts.pop(key, None)
        self._set_exclude(key, exclude)

    def record_mean(
        self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None
    ) -> None:
        """Note a number; the mean of all that came since the last dump counts. None is skipped."""
        if value is None:
            return
        count = self._counts.get(key, 0)
        if count:
            previous = self.name_to_value[key]
            value = previous + (value - previous) / (count + 1)
        self.name_to_value[key] = value
        self._counts[key] = count + 1
        self._set_exclude(key, exclude)

    def record_dict(
        self, metrics: Mapping[str, Any], *, prefix: str = "", mean: bool = False
    ) -> None:
        """Note every entry of a dict, each key with ``prefix`` in front.

        Args:
            metrics: key -> value.
            prefix: for example ``"train/"``.
            mean: average over the calls until the next dump instead of keeping the last.
        """
        note = self.record_mean if mean else self.record
        for key, value in metrics.items():
            note(prefix + key, value)

    def record_figure(self, key: str, figure: Figure) -> None:
        """Note a matplotlib figure; TensorBoard shows it as an image."""
        self.record(key, figure)

    def dump(self, step: int = 0) -> None:
        """Hand everything noted since the last dump to the outputs, and start afresh.

        Args:
            step: environment steps so far, TensorBoard's horizontal axis.
        """
        values = {key: _plain(key, value) for key, value in self.name_to_value.items()}
        self.latest.update({k: v for k, v in values.items() if isinstance(v, float)})
        for index, output in enumerate(self.outputs):
            kept = {k: v for k, v in values.items() if output.name not in self._exclude.get(k, ())}
            if not kept:
                continue
            try:
                output.write(kept, step)
            except (OSError, ImportError) as error:
                self._warn_once(index, output, error)
        self.name_to_value.clear()
        self._counts.clear()
        self._exclude.clear()

    def log(self, *args: Any) -> None:
        """Print a line, if this logger prints at all."""
        for index, output in enumerate(self.outputs):
            if isinstance(output, TableOutput):
                from tqdm import tqdm

                try:
                    tqdm.write(" ".join(str(arg) for arg in args))
                except OSError as error:
                    self._warn_once(index, output, error)

    info = log

    def get_dir(self) -> str | None:
        """The run's folder, or None when nothing is written to disk."""
        return self.dir

    def close(self) -> None:
        """Close the outputs. Recording and dumping afterwards is allowed and reopens them."""
        for index, output in enumerate(self.outputs):
            try:
                output.close()
            except OSError as error:
                self._warn_once(index, output, error)

    def _set_exclude(self, key: str, exclude: str | tuple[str, ...] | None) -> None:
        if exclude is None:
            self._exclude.pop(key, None)
        else:
            self._exclude[key] = (exclude,) if isinstance(exclude, str) else tuple(exclude)

    def _warn_once(self, index: int, output: Output, error: Exception) -> None:
        if index not in self._failed:
            self._failed.add(index)
            warnings.warn(
                f"the {output.name} log cannot be written ({error}); training goes on, "
                "log entries are lost while this lasts",
                RuntimeWarning,
                stacklevel=3,
            )


def _plain(key: str, value: Any) -> Any:
    """Numbers of any kind as float, arrays and tensors as NumPy arrays."""
    if isinstance(value, str) or is_figure(value):
        return value
    if isinstance(value, (bool, int, float)):
        return float(value)
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"cannot log {key!r}: {type(value).__name__} is not a number, a string, a matplotlib "
            "figure or an array of numbers"
        )
    return float(array.item()) if array.size == 1 else array


def next_run_folder(root: str | os.PathLike[str], name: str, *, reset: bool = True) -> Path:
    """Create and return ``root/NAME_k``.

    Args:
        root: the folder that holds the runs.
        name: the runs' common name.
        reset: a new run (k one above the highest) or the continuation of the latest one.

    Raises:
        OSError: the folder cannot be created.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(name) + r"_(\d+)")
    matches = (pattern.fullmatch(entry.name) for entry in root.iterdir())
    latest = max((int(match[1]) for match in matches if match), default=0)
    if not reset:
        folder = root / f"{name}_{max(latest, 1)}"
        folder.mkdir(exist_ok=True)
        return folder
    # Another process may take the same number between the look and the mkdir.
    for number in itertools.count(latest + 1):
        folder = root / f"{name}_{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


def configure(
    tensorboard_log: str | os.PathLike[str] | None = None,
    tb_log_name: str = "run",
    reset_num_timesteps: bool = True,
    verbose: int = 0,
) -> Logger:
    """Make the logger of one call of ``learn``.

    Args:
        tensorboard_log: folder of runs; the run gets ``tensorboard_log/NAME_1``, ``NAME_2``, ...
            with TensorBoard events and ``progress.jsonl``. None writes nothing to disk.
        tb_log_name: NAME.
        reset_num_timesteps: False continues in the latest run's folder.
        verbose: 1 and more prints the tables.
    """
    outputs: list[Output] = [TableOutput()] if verbose >= 1 else []
    folder: Path | None = None
    if tensorboard_log is not None:
        try:
            folder = next_run_folder(tensorboard_log, tb_log_name, reset=reset_num_timesteps)
        except OSError as error:
            warnings.warn(
                f"no log is written: tensorboard_log={str(tensorboard_log)!r} cannot hold a run "
                f"folder ({error})",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            outputs += [TensorBoardOutput(folder), JSONLinesOutput(folder / "progress.jsonl")]
    logger = Logger(folder, outputs)
    if folder is not None:
        logger.log(f"Logging to {folder}")
    return logger
