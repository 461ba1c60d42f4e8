"""What of the episode ring is in a file, and whether what is there may be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.types import LARGEST, IntArray

ROWS = (
    "observation",
    "achieved_goal",
    "goal",
    "action",
    "arc_length",
    "has_action",
    "failure",
    "episode_end",
)
"""Arrays with an entry for each row."""
TIMES = ("time", "episode_start")
"""Arrays with an entry for each environment."""
DATA = ("data_digests", "data_times")
"""Arrays with an entry for each data set that was stored."""
DIGEST_BYTES = 16


def n_written(time: IntArray, n_slots: int) -> int:
    """How many rows, from the first on, were ever written: the others are as they were made."""
    return int(min(time.max() + 1, n_slots)) * len(time)


def check_arrays(
    arrays: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, NDArray[Any]],
    n_slots: int,
    n_envs: int,
) -> None:
    """Raise ValueError unless a buffer of ``n_slots * n_envs`` rows can take these arrays.

    Args:
        wanted: the buffer's own, of whatever number of rows.
    """
    for name, mine in wanted.items():
        if name not in arrays:
            raise ValueError(f"the saved replay buffer has no array {name!r}")
        theirs = arrays[name]
        first = 0 if name in TIMES else 1
        shapes = theirs.shape[first:], mine.shape[first:]
        if theirs.ndim != mine.ndim or shapes[0] != shapes[1] or theirs.dtype != mine.dtype:
            raise ValueError(
                f"replay array {name!r} is {theirs.shape} {theirs.dtype}, this buffer needs "
                f"{mine.shape} {mine.dtype}: load it into an agent with the same spaces, "
                "buffer_size and number of environments"
            )
    for name in wanted:
        array, most = arrays[name], math.inf if name == "arc_length" else LARGEST
        # NaN compares as False.
        numbers = array.dtype.kind == "f" and array.size > 0
        if numbers and not (-most <= array.min() and array.max() <= most):
            raise ValueError(f"replay array {name!r} is not within {-most:g} and {most:g}")
    if not _agree(arrays, n_slots, n_envs):
        raise ValueError(
            "the arrays of the saved replay buffer contradict one another: it is damaged, or of "
            "another buffer_size or number of environments"
        )


def _agree(arrays: Mapping[str, NDArray[Any]], n_slots: int, n_envs: int) -> bool:
    now, begun, n = arrays["time"], arrays["episode_start"], len(arrays["has_action"])
    if not ((begun >= 0) & (now >= begun)).all():
        return False
    # Files of earlier versions hold all rows, those too that were never written.
    if not n_written(now, n_slots) <= n <= n_slots * n_envs:
        return False
    if any(len(arrays[name]) != n for name in ROWS) or len({len(arrays[k]) for k in DATA}) > 1:
        return False
    slot, env = np.divmod(np.flatnonzero(arrays["has_action"]), n_envs)
    time, end = now[env] - (now[env] - slot) % n_slots, arrays["episode_end"][slot * n_envs + env]
    # The state after it is there, in the same episode.
    last = np.where(end < 0, now[env], end)
    return bool(((time >= 0) & (end >= -1) & (time < last) & (last <= now[env])).all())
