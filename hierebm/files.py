"""Files: what a path means, and writing that never leaves half a file behind."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows: there, runs are not told apart
    fcntl = None

# What is written to find out whether there is room: about an agent with the default networks.
TRIAL_BYTES = 1 << 20


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


def check_writable(path: str | os.PathLike[str], trial_bytes: int = TRIAL_BYTES) -> None:
    """Find out before hours of work, by writing, whether a file can be written; makes missing
    folders.

    Args:
        path: the file.
        trial_bytes: what there has to be room for.

    Raises:
        OSError: it cannot; names it.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(trial_bytes))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


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


class Claim:
    """A name that no other run writes files of, until it is released or the process has ended.

    Where another run has it, ``NAME-2`` is claimed instead, then ``NAME-3`` and so on. It is the
    lock on a hidden file beside them that counts: a process that is killed loses it.

    Args:
        folder: where the files are; made if missing.
        name: the name.
        ending: what follows the name in those files: names of other files are other names.

    Attributes:
        name: the one that was claimed.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, ending: str) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for k in count(1):
            self.name = name if k == 1 else f"{name}-{k}"
            self._path = folder / f".{self.name}{ending}.lock"
            if (locked := lock_file(self._path)) is not None:
                self._file: int | None = locked
                return

    def release(self) -> None:
        """Give the name back. Idempotent."""
        if self._file is not None:
            with suppress(OSError):
                # Still locked: whoever has opened it meanwhile sees that it is gone.
                self._path.unlink()
            os.close(self._file)
            self._file = None


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a JSON object to a file of them, one a line; nothing stays open."""
    with open(path, "a+b") as file:
        # A kill or a full disk may have left half a line, which is not to spoil this one too.
        is_torn = file.seek(0, os.SEEK_END) > 0
        if is_torn:
            file.seek(-1, os.SEEK_END)
            is_torn = file.read(1) != b"\n"
        file.write(b"\n" * is_torn + json.dumps(row).encode() + b"\n")


def lock_file(path: Path) -> int | None:
    """The lock file, opened and locked; None where another process has it.

    It is released when the descriptor is closed, or the process ends, however it ends.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass
        except OSError:
            # A file system without locks.
            return file
        # It was released, and removed, since it was opened.
        os.close(file)


def remove_stale(folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Remove what writers left that were killed; returns the files that were removed.

    Args:
        folder: where :func:`atomic_write` wrote.
        name: of the files, a regular expression; nobody may be writing one of these now.
    """
    pattern, removed = re.compile(rf"\.{name}\.\w+\.tmp"), []
    with suppress(OSError):
        for path in Path(folder).iterdir():
            if pattern.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()
                    removed.append(path)
    return removed
