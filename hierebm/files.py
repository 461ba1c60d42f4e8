"""Files: what a path means, and writing that never leaves half a file behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def checkpoint_path(path: str | os.PathLike[str], *, must_exist: bool = False) -> Path:
    """The file that a path means: ``.zip`` is added to a name without suffix.

    Args:
        path: as the user gave it.
        must_exist: for reading; an existing file of exactly this name goes first.

    Raises:
        FileNotFoundError: with ``must_exist``, if there is no such file.
        IsADirectoryError: the path is only a folder.
    """
    path = Path(path).expanduser()
    if not path.name:
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file in it")
    named = path if path.suffix else path.with_name(path.name + ".zip")
    if not must_exist:
        return named
    # "model_0.5" has a suffix by accident.
    for candidate in (path, named, path.with_name(path.name + ".zip")):
        if candidate.is_file():
            return candidate
    also = "" if named == path else f" (nor {named.name})"
    raise FileNotFoundError(f"there is no checkpoint at {str(path)!r}{also}")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before hours of work whether a file can be written; makes missing folders.

    Raises:
        OSError: it cannot.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` when the block ends without error.

    Whatever happens, ``path`` holds either the complete old content or the complete new one.
    Missing folders are made.

    Raises:
        OSError: the file cannot be written; ``path`` is as before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the owner can read; give it what open() would have given.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
