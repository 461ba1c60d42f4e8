"""Checkpoints: one zip with JSON and plain tensors, written atomically, read without running code.

Members of the file, all of them optional except ``meta.json``:

- ``meta.json``: format and version of the file, versions of the writer, and the caller's entries,
- ``config.json``: the configuration,
- ``tensors.pt``: nested dicts of tensors, read with ``torch.load(weights_only=True)``,
- ``arrays/NAME.npy``: NumPy arrays, read with ``allow_pickle=False``.

Reading looks at the version first: a file of another format is refused in one sentence. It never
extracts to disk, takes only these names, compares every size that is declared with what is there
before it reads, and turns whatever is wrong with a file into one
:class:`~hierebm.errors.CheckpointError`. NaN is neither written nor read: no network recovers from
it.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from hierebm.checkpoint.archive import open_archive, read_array
from hierebm.checkpoint.tensors import read_tensors, with_nan
from hierebm.errors import CheckpointError
from hierebm.files import atomic_write, checkpoint_path

FORMAT = "hierebm-checkpoint"
FORMAT_VERSION = 2
"""Counts up whenever the members of a file or what an agent keeps in them change."""
_LAST_WRITER = {1: "0.1"}
"""Format -> the last version of hierebm that reads it."""
_MEMBERS = ("meta.json", "config.json", "tensors.pt")
_ARRAY_MEMBER = re.compile(r"arrays/(\w[\w.-]*(?:/\w[\w.-]*)*)\.npy", re.ASCII)
# We store without compression, and an honest file unpacks to its own size. The factor leaves room
# for files that were compressed later.
_MAX_RATIO = 4
# JSON may take this many bytes, or that share of a large file: as Python's objects it takes twenty
# times as much. Of no number more digits than a random generator's state has.
_JSON_BYTES, _JSON_SHARE, _DIGITS = 2 << 20, 16, 50
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        config: JSON-serialisable configuration.
        tensors: name -> tensor, or nested dicts and lists of tensors and plain values.
        arrays: name -> NumPy array.
        meta: JSON-serialisable entries of the writer, with ``format_version`` and versions.
    """

    config: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: str | os.PathLike[str] | IO[bytes],
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Path | None:
    """Write a checkpoint; equal content gives equal bytes.

    Args:
        path: file to write (``.zip`` is added to a name without suffix), or a binary stream.
        config: JSON-serialisable.
        tensors: tensors, or nested dicts and lists of tensors, numbers, strings and None.
        arrays: NumPy arrays without objects; names may hold letters, digits and ``_.-/``.
        meta: JSON-serialisable; format and version entries are added.

    Returns:
        The path written, None for a stream.

    Raises:
        TypeError, ValueError: something cannot be stored, or is NaN; the message names the entry.
        OSError: the file cannot be written. What was there before is still there.
    """
    members = {
        "meta.json": _to_json("meta", {**(meta or {}), **_versions()}),
        "config.json": _to_json("config", dict(config or {})),
    }
    if tensors:
        members["tensors.pt"] = _pack_tensors(dict(tensors))
    _check_arrays(arrays or {})

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
            _write_arrays(archive, arrays or {})

    if not isinstance(path, (str, os.PathLike)):
        write(path)
        return None
    path = checkpoint_path(path)
    with atomic_write(path) as file:
        write(file)
    return path


def load_checkpoint(path: str | os.PathLike[str] | IO[bytes]) -> Checkpoint:
    """Read a checkpoint, its tensors on the CPU. No code from the file is run.

    Args:
        path: as given to :func:`save_checkpoint`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is of another format version, damaged, not a checkpoint, or
            hostile.
    """
    with _open_archive(path) as archive:
        names = archive.namelist()
        return Checkpoint(
            config=_read_json("config.json", archive) if "config.json" in names else {},
            tensors=_read_tensors(archive) if "tensors.pt" in names else {},
            arrays=_read_arrays(archive),
            meta=_read_json("meta.json", archive),
        )


def read_meta(path: str | os.PathLike[str] | IO[bytes]) -> dict[str, Any]:
    """Only the ``meta`` of a checkpoint: cheap, and torch is not imported. Raises as above."""
    with _open_archive(path) as archive:
        return _read_json("meta.json", archive)


@contextmanager
def refused(shown: str) -> Iterator[None]:
    """Whatever is wrong with a file that is read in this block becomes one kind of error.

    Args:
        shown: the file in the message.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {shown}: {error}") from error.__cause__
    # A damaged file can make the readers of zip, JSON, pickles and arrays raise nearly anything.
    except Exception as error:
        short = " ".join(f"{error}".split())[:300] or type(error).__name__
        raise CheckpointError(
            f"cannot load {shown}: it is damaged or incomplete, or not a checkpoint of hierebm "
            f"({short}); use another copy, or save it again from the agent"
        ) from error


def shown(path: str | os.PathLike[str] | IO[bytes]) -> str:
    """A path or stream as messages name it."""
    if isinstance(path, (str, os.PathLike)):
        return repr(str(checkpoint_path(path, must_exist=True)))
    return "the stream"


@contextmanager
def _open_archive(path: str | os.PathLike[str] | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Check a file's outside and open it."""
    with ExitStack() as stack:
        stream: Any = path
        if isinstance(path, (str, os.PathLike)):
            # Errors of the disk and of permissions are no fault of the file.
            stream = stack.enter_context(checkpoint_path(path, must_exist=True).open("rb"))
        stack.enter_context(refused(shown(path)))
        yield stack.enter_context(_checked(stream))


@contextmanager
def _checked(stream: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    with open_archive(stream, _MAX_RATIO) as archive:
        names = archive.namelist()
        if "meta.json" not in names:
            raise CheckpointError(
                "it is a zip file, but not a checkpoint of hierebm (no meta.json in it); files of "
                "other libraries have to be loaded with those"
            )
        _check_format(_read_json("meta.json", archive))
        for name in names:
            if name not in _MEMBERS and not _ARRAY_MEMBER.fullmatch(name):
                raise CheckpointError(f"unexpected member {name!r}; it was not written here")
        if len(names) != len(set(names)):
            raise CheckpointError("a member is there twice; it was not written here")
        yield archive


def _check_format(meta: dict[str, Any]) -> None:
    if meta.get("format") != FORMAT:
        raise CheckpointError("it is not a checkpoint of hierebm (format entry missing)")
    version = meta.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"its format_version {version!r} is not valid; it is damaged")
    writer = f"it was written by hierebm {meta.get('hierebm_version')} in format {version}"
    if version < FORMAT_VERSION:
        raise CheckpointError(
            f"{writer}, this version reads format {FORMAT_VERSION}: load it with hierebm "
            f"{_LAST_WRITER[version]} or train again"
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{writer}, this version reads format {FORMAT_VERSION}: upgrade with "
            "`pip install -U hierebm`"
        )


def _versions() -> dict[str, Any]:
    import torch

    from hierebm import __version__

    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hierebm_version": __version__,
        "torch_version": str(torch.__version__),
        "numpy_version": np.__version__,
    }


def _to_json(what: str, value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} cannot be stored as JSON: {error}") from error


def _read_json(name: str, archive: zipfile.ZipFile) -> dict[str, Any]:
    info, unpacked = archive.getinfo(name), sum(i.file_size for i in archive.infolist())
    if info.file_size > max(_JSON_BYTES, unpacked // _JSON_SHARE):
        raise CheckpointError(
            f"{name} takes {info.file_size} bytes, more than any settings do; it was not written "
            "here"
        )
    try:
        value = json.loads(archive.read(name), parse_int=_whole, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged ({error}); use another copy") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} is damaged (not an object); use another copy")
    return value


def _whole(digits: str) -> int:
    # Time grows with the square of their number.
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _pack_tensors(tensors: dict[str, Any]) -> bytes:
    import torch

    if bad := next(with_nan(tensors), None):
        raise ValueError(f"tensors[{bad!r}] holds NaN, which no training recovers from")
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    data = buffer.getvalue()
    try:
        # Ask the reader now, not when the training that made these is over.
        read_tensors(data)
    except pickle.UnpicklingError as error:
        raise TypeError(
            f"tensors may hold tensors, numbers, strings, None and dicts and lists of them: {error}"
        ) from error
    return data


def _read_tensors(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        tensors = read_tensors(archive.read("tensors.pt"))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"tensors.pt holds more than tensors and plain values and might run code ({error}), so "
            "it was not read; get the file from its author again"
        ) from error
    # A damaged description can make the reader raise nearly anything.
    except Exception as error:
        raise CheckpointError(f"tensors.pt is damaged ({error}); use another copy") from error
    if not isinstance(tensors, dict):
        raise CheckpointError("tensors.pt is damaged (not a dict); use another copy")
    if bad := next(with_nan(tensors), None):
        raise CheckpointError(f"tensors.pt holds NaN in {bad!r}; use another copy")
    return tensors


def _write_arrays(archive: zipfile.ZipFile, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        # Streamed: a replay buffer should not be in memory twice.
        info = zipfile.ZipInfo(_array_member(name), _EPOCH)
        with archive.open(info, "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _array_member(name: str) -> str:
    return f"arrays/{name}.npy"


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not _ARRAY_MEMBER.fullmatch(_array_member(name)):
            raise ValueError(f"arrays[{name!r}]: names are letters, digits, '_', '.', '-' and '/'")
        if np.asarray(array).dtype.kind not in "biufc":
            raise TypeError(f"arrays[{name!r}] holds Python objects; only numbers can be stored")
        if _has_nan(np.asarray(array)):
            raise ValueError(f"arrays[{name!r}] holds NaN")


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    arrays = {}
    for name in archive.namelist():
        if match := _ARRAY_MEMBER.fullmatch(name):
            try:
                array = arrays[match[1]] = read_array(archive, name)
            # The reader of headers is a part of Python's own parser.
            except Exception as error:
                raise CheckpointError(f"{name} is damaged ({error}); use another copy") from error
            if _has_nan(array):
                raise CheckpointError(f"{name} holds NaN; use another copy")
    return arrays


def _has_nan(array: np.ndarray) -> bool:
    # Row by row where it is large: no second array of its size.
    parts = np.array_split(array, 1 + array.nbytes // (64 << 20)) if array.ndim else [array]
    return array.dtype.kind in "fc" and any(bool(np.isnan(part).any()) for part in parts)
