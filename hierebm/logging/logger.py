"""A logger that collects metrics for TensorBoard, JSON lines and a table on the terminal.

The interface is Stable-Baselines3's (``record``, ``record_mean``, ``dump``). One thing is different
on purpose: an output that fails (full disk, closed pipe, lost network mount) is reported once with
a warning and training carries on.
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hierebm.logging.tensorboard import TensorBoardOutput
from hierebm.logging.text import JSONLinesOutput, TableOutput, format_table
from hierebm.logging.values import own_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "JSONLinesOutput",
    "Logger",
    "Output",
    "TableOutput",
    "TensorBoardOutput",
    "configure",
    "format_table",
    "next_run_folder",
]


class Output(Protocol):
    """Where a dump goes. ``write`` may raise ``OSError``; the logger deals with it."""

    name: str

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Write the values of one dump: by key floats, strings, arrays, matplotlib figures, and
        what is in ``hierebm/logging/values.py``."""
        ...

    def close(self) -> None:
        """Release what is open. Idempotent."""
        ...


class Logger:
    """Collects metrics until :meth:`dump` hands them to every output.

    Attributes:
        dir: the run's folder, or ``None`` when nothing is written to disk.
        name_to_value: what was recorded since the last dump.
        latest: the last dumped number of every key, for callbacks that stop training and for
            notebooks.
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
                in TensorBoard), an array (a histogram there), or an ``HParam``, ``Image``,
                ``Video`` or ``Figure``, ours or those of Stable-Baselines3.
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
        # In this order: after an interrupt in between, no mean is taken of a value that is gone.
        self._counts.clear()
        self.name_to_value.clear()
        self._exclude.clear()

    def log(self, *args: Any) -> None:
        """Print a line, if this logger prints at all."""
        for index, output in enumerate(self.outputs):
            if isinstance(output, TableOutput):
                try:
                    output.print(" ".join(str(arg) for arg in args))
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
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return float(value)
    if (own := own_value(value)) is not None:
        return own
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"cannot log {key!r}: {type(value).__name__} is not a number, a string, a matplotlib "
            "figure, an array of numbers, or an HParam, Image or Video of hierebm.logging"
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
