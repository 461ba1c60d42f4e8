"""Checkpoints: one zip with JSON and plain tensors, written atomically, read without running code.

Members of the file, all of them optional except ``meta.json``:

- ``meta.json``: format and version of the file, versions of the writer, and the caller's entries,
- ``config.json``: the configuration,
- ``tensors.pt``: nested dicts of tensors, read with ``torch.load(weights_only=True)``,
- ``arrays/NAME.npy``: NumPy arrays, read with ``allow_pickle=False``.

Reading looks at the version first: a file of another format is refused in one sentence. It never
extracts to disk, takes only these names, bounds what a member may unpack to, and turns whatever is
wrong with a file into one :class:`~hierebm.errors.CheckpointError`.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from hierebm.errors import CheckpointError
from hierebm.files import atomic_write, checkpoint_path

FORMAT = "hierebm-checkpoint"
FORMAT_VERSION = 2
"""Counts up whenever the members of a file or what an agent keeps in them change."""
_LAST_WRITER = {1: "0.1"}
"""Format -> the last version of hierebm that reads it."""
_MEMBERS = ("meta.json", "config.json", "tensors.pt")
_ARRAY_MEMBER = re.compile(r"arrays/(\w[\w.-]*(?:/\w[\w.-]*)*)\.npy", re.ASCII)
# We store without compression, so an honest file unpacks to its own size. The factor leaves room
# for files that were compressed later; the floor is for small ones.
_MAX_RATIO, _FREE_BYTES = 100, 64 << 20
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
        TypeError, ValueError: something cannot be stored; the message names the entry.
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


def load_checkpoint(
    path: str | os.PathLike[str] | IO[bytes], map_location: Any = "cpu"
) -> Checkpoint:
    """Read a checkpoint. No code from the file is run.

    Args:
        path: as given to :func:`save_checkpoint`.
        map_location: device of the tensors.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is of another format version, damaged, not a checkpoint, or
            hostile.
    """
    with _open_archive(path) as archive:
        names = archive.namelist()
        return Checkpoint(
            config=_read_json("config.json", archive) if "config.json" in names else {},
            tensors=_read_tensors(archive, map_location) if "tensors.pt" in names else {},
            arrays=_read_arrays(archive),
            meta=_read_json("meta.json", archive),
        )


def read_meta(path: str | os.PathLike[str] | IO[bytes]) -> dict[str, Any]:
    """Only the ``meta`` of a checkpoint: cheap, and torch is not imported. Raises as above."""
    with _open_archive(path) as archive:
        return _read_json("meta.json", archive)


@contextmanager
def _open_archive(path: str | os.PathLike[str] | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Check a file's outside and open it; whatever is wrong with it becomes one kind of error."""
    if hasattr(path, "read"):
        source, shown = path, "the stream"
    else:
        source = checkpoint_path(path, must_exist=True)
        shown = repr(str(source))
    try:
        with zipfile.ZipFile(source) as archive:
            _check_format(_read_version(archive))
            _check_names(archive.namelist())
            _check_size(archive, _size_of(source))
            yield archive
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {shown}: {error}") from error.__cause__
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(
            f"cannot load {shown}: it is damaged or incomplete, or not a checkpoint of hierebm "
            f"({error}); use another copy, or save it again from the agent"
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        # zipfile's words for encrypted members and unknown compression.
        raise CheckpointError(f"cannot load {shown}: {error}; it was not written here") from error


def _size_of(source: Any) -> int:
    if isinstance(source, Path):
        return source.stat().st_size
    position = source.tell()
    size = source.seek(0, os.SEEK_END)
    source.seek(position)
    return int(size)


def _read_version(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The ``meta.json`` of a file of which nothing is known yet."""
    if "meta.json" not in archive.namelist():
        raise CheckpointError(
            "it is a zip file, but not a checkpoint of hierebm (no meta.json in it); files of "
            "other libraries have to be loaded with those"
        )
    unpacked = archive.getinfo("meta.json").file_size
    if unpacked > _FREE_BYTES:
        raise CheckpointError(
            f"its meta.json claims to unpack to {unpacked} bytes; this looks like a zip bomb"
        )
    return _read_json("meta.json", archive)


def _check_names(names: list[str]) -> None:
    for name in names:
        if name not in _MEMBERS and not _ARRAY_MEMBER.fullmatch(name):
            raise CheckpointError(f"unexpected member {name!r}; it was not written here")
    if len(names) != len(set(names)):
        raise CheckpointError("a member is there twice; it was not written here")


def _check_size(archive: zipfile.ZipFile, file_size: int) -> None:
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(_FREE_BYTES, _MAX_RATIO * file_size):
        raise CheckpointError(
            f"{file_size} bytes claim to unpack to {unpacked}; this looks like a zip bomb"
        )


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
    try:
        value = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged ({error}); use another copy") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} is damaged (not an object); use another copy")
    return value


def _pack_tensors(tensors: dict[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    try:
        # Ask the reader now, not when the training that made these is over.
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(
            f"tensors may hold tensors, numbers, strings, None and dicts and lists of them: {error}"
        ) from error
    return buffer.getvalue()


def _read_tensors(archive: zipfile.ZipFile, map_location: Any) -> dict[str, Any]:
    import torch

    data = archive.read("tensors.pt")
    try:
        # A .pt file is a zip as well: it could unpack to anything before torch checks it.
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            _check_size(inner, len(data))
        tensors = torch.load(io.BytesIO(data), map_location=map_location, weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "tensors.pt holds more than tensors and plain values and might run code, so it was "
            "not read; get the file from its author again"
        ) from error
    # A damaged pickle can make the reader raise nearly anything.
    except Exception as error:
        raise CheckpointError(f"tensors.pt is damaged ({error}); use another copy") from error
    if not isinstance(tensors, dict):
        raise CheckpointError("tensors.pt is damaged (not a dict); use another copy")
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
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"arrays[{name!r}] holds Python objects; only numbers can be stored")


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    arrays = {}
    for info in archive.infolist():
        if match := _ARRAY_MEMBER.fullmatch(info.filename):
            try:
                arrays[match[1]] = _read_array(archive, info)
            except (ValueError, SyntaxError, MemoryError, KeyError) as error:
                raise CheckpointError(
                    f"{info.filename} is damaged ({error}); use another copy"
                ) from error
    return arrays


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    # The reader allocates what the header says before it looks at the data: compare them first.
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError("its header does not fit its data")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
