"""The data sets of OGBench (Park et al. 2025, arXiv 2410.20092), read from their files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from hierebm.checkpoint.archive import open_archive, read_array
from hierebm.data.dataset import OfflineDataset
from hierebm.data.goals import GoalOf
from hierebm.errors import DatasetError

KEYS = ("observations", "actions", "terminals")
# Lengths of the observations of OGBench's point and ant: x and y of the maze come first.
MAZE_OBS_DIMS = (2, 29)
# OGBench compresses its files: images of plain mazes to a twentieth.
MAX_RATIO = 32


def load_ogbench(path: str | os.PathLike[str], *, goal: GoalOf | None = None) -> OfflineDataset:
    """Read one of OGBench's ``.npz`` files, such as ``pointmaze-giant-navigate-v0.npz``.

    Each episode of T steps is T + 1 rows, ``terminals`` is 1 at the last of them. Other arrays of
    the file (``qpos``, ``qvel``, ``button_states``) are not read. No code from the file is run.

    Args:
        path: the file. ``ogbench.download_datasets([name])`` gets it; the one that ends in
            ``-val.npz`` holds episodes to compare with.
        goal: what of an observation is the achieved goal, as in
            :meth:`OfflineDataset.from_arrays`; by default x and y in the mazes of point and ant.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is damaged or holds something else; the message says what to do.
        ValueError: another robot or world, and no ``goal``.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no data set at {str(path)!r}: name an .npz file of OGBench, "
            "ogbench.download_datasets([name]) gets it"
        )
    with path.open("rb") as stream:
        arrays = _read(stream, path)
    shape = arrays["observations"].shape
    if goal is None:
        if len(shape) == 2 and shape[1] not in MAZE_OBS_DIMS:
            raise ValueError(
                f"{str(path)!r} has observations of {shape[1]} numbers: pass goal=, the axes of "
                "the observation (or a function of it) that are the achieved goal; only in the "
                "mazes of point and ant (2 and 29 numbers) they are known to be the first two"
            )
        goal = (0, 1)
    try:
        return OfflineDataset.from_arrays(*(arrays[key] for key in KEYS), goal=goal)
    except ValueError as error:
        raise DatasetError(
            f"cannot load {str(path)!r}: {error}. If the file is not OGBench's own, mend the "
            "arrays of np.load and give them to OfflineDataset.from_arrays"
        ) from error


def _read(stream: BinaryIO, path: Path) -> dict[str, NDArray[Any]]:
    try:
        # What is no zip file might be an array, or a pickle, for NumPy.
        with open_archive(stream, MAX_RATIO) as archive:
            names = archive.namelist()
            if all(f"{key}.npy" in names for key in KEYS):
                return {key: read_array(archive, f"{key}.npy") for key in KEYS}
    except MemoryError as error:
        raise DatasetError(
            f"cannot load {str(path)!r}: it needs more memory than is free ({error}); use a larger "
            "machine, or download it again if it should not be so large"
        ) from error
    # A damaged file can make the reader raise nearly anything.
    except Exception as error:
        raise DatasetError(
            f"cannot load {str(path)!r}: it is damaged or incomplete, or not an .npz file of "
            f"OGBench ({error}); download it again"
        ) from error
    found = ", ".join(sorted(name.removesuffix(".npy") for name in names)) or "nothing"
    raise DatasetError(
        f"cannot load {str(path)!r}: a data set of OGBench has the arrays {', '.join(KEYS)}, this "
        f"file has {found}; read other files with np.load and OfflineDataset.from_arrays"
    )
