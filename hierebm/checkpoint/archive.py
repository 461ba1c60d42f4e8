"""Zip files from strangers: what they claim is compared before it is read, and bounds every read.

A zip file of a kilobyte may claim to unpack to a terabyte, list a million members, or name a
compression whose reader takes gigabytes by itself. :func:`open_archive` looks at sizes, names and
methods in the directory first; after that, ``zipfile`` never gives more of a member than was
declared there.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# Whatever the ratio, a file may unpack to this much.
FREE_BYTES = 16 << 20
# Room for a thousand members; we write some dozens.
_DIRECTORY_BYTES = 128 << 10
# The readers of the other methods unpack a block at once, whatever its size.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Measured:
    """A binary stream that refuses reads of more bytes than ``limit`` at a time.

    ``zipfile`` reads the whole directory when it opens a file, however long it says it is.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self.limit = stream, limit
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            at = self.tell()
            size = self.seek(0, os.SEEK_END) - at
            self.seek(at)
        if size > self.limit:
            raise ValueError(f"its directory claims to take {size} bytes, more than ever needed")
        return self._stream.read(size)

    def seekable(self) -> bool:
        return True


@contextmanager
def open_archive(stream: IO[bytes], max_ratio: float) -> Iterator[zipfile.ZipFile]:
    """A zip file that unpacks to no more than what is allowed, for reading.

    Args:
        stream: a binary stream that can be sought in.
        max_ratio: times its own size that it may unpack to. Small files may unpack to
            ``FREE_BYTES`` all the same, unless this is 1: nothing in it is compressed.

    Raises:
        ValueError: it claims to unpack to too much, or in a way that is not looked into.
        Exception: nearly any other for a damaged file, here and while members are read.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    measured: Any = _Measured(stream, _DIRECTORY_BYTES)
    with zipfile.ZipFile(measured) as archive:
        measured.limit = size
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(FREE_BYTES if max_ratio > 1 else 0, max_ratio * size):
            raise ValueError(
                f"{size} bytes claim to unpack to {unpacked}; this looks like a zip bomb"
            )
        if any(member.compress_type not in _METHODS for member in members):
            raise ValueError("it is compressed by a method that is not read here")
        yield archive


def read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of numbers from its ``.npy`` member.

    The reader of NumPy allocates what the header says before it looks at the data: the two are
    compared first.

    Raises:
        ValueError: header and data do not fit together, or it holds objects.
        Exception: nearly any other for a damaged header.
    """
    declared = archive.getinfo(name).file_size
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.kind not in "biufc":
            raise ValueError(f"it holds {dtype}, no numbers")
        expected = dtype.itemsize
        for length in shape:
            expected *= length
        if min(shape, default=0) < 0 or expected != declared - file.tell():
            raise ValueError("its header does not fit its data")
    with archive.open(name) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
