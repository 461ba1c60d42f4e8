"""What environments say beside a step: one info for each, and whether it tells of success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from hierebm.goal_env.faults import EnvFault
from hierebm.types import BoolArray

SUCCESS_KEYS = ("is_success", "success")
"""Keys of an info that say whether the episode was a success."""


class Infos(Sequence[dict[str, Any]]):
    """One info dict for each of n environments, made when it is read: most are never read.

    Args:
        infos: what ``step`` returned, batched as Gymnasium's vector environments do (``_key`` is
            the mask of ``key``), or the info of a single environment.
        n: number of environments; None for the info of a single one.
        ended: (n,) in ``SAME_STEP`` mode, where an episode ended: the entries of ``final_info``
            go before those of the next episode's reset.
    """

    __slots__ = ("_ended", "_infos", "_n")

    def __init__(
        self, infos: Mapping[str, Any], n: int | None = None, ended: BoolArray | None = None
    ) -> None:
        self._infos, self._n, self._ended = infos, n, ended

    def __len__(self) -> int:
        return self._n or 1

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        rows = range(len(self))[index]
        return self._row(rows) if isinstance(rows, int) else [self._row(i) for i in rows]

    def _row(self, i: int) -> dict[str, Any]:
        if self._n is None:
            return dict(self._infos)
        row = _row(self._infos, i, self._n)
        row.pop("final_info", None)
        if self._ended is not None and self._ended[i]:
            row |= _row(self._infos.get("final_info", {}), i, self._n)
        return row

    def success(self) -> tuple[BoolArray, BoolArray]:
        """(n,) whether any success key is true, (n,) whether there is such a key at all."""
        if self._n is None:
            # Asked for at every step, and np.any takes longer than the rest of this.
            given = {key: self._infos[key] for key in SUCCESS_KEYS if key in self._infos}
            yes = any(v if isinstance(v, bool) else _truths(k, v).any() for k, v in given.items())
            return np.array([yes]), np.array([bool(given)])
        success, reported = _success(self._infos, self._n)
        if self._ended is not None and "final_info" in self._infos:
            final_success, final_reported = _success(self._infos["final_info"], self._n)
            success = np.where(self._ended, final_success, success)
            reported = np.where(self._ended, final_reported, reported)
        return success, reported

    def final_observations(self) -> dict[int, Any]:
        """In ``SAME_STEP`` mode: environment -> last observation of the episode that ended there.

        Raises:
            ValueError: if the environment does not give it.
        """
        if self._ended is None:
            return {}
        final_obs = {"": self._infos.get("final_obs")}
        rows = np.flatnonzero(self._ended).tolist()
        final = {i: _row(final_obs, i, len(self))[""] for i in rows}
        if any(observation is None for observation in final.values()):
            raise EnvFault(
                "infos that have no final_obs, though it resets in the same step (autoreset mode "
                "SAME_STEP): the last observation of the episode is lost. Let it "
                'give infos["final_obs"] and infos["final_info"] as Gymnasium\'s own vector '
                "environments do, or use another autoreset mode"
            )
        return final


def _row(infos: Mapping[str, Any], i: int, n: int) -> dict[str, Any]:
    """What environment i reported; an entry without rows belongs to all n environments."""
    row: dict[str, Any] = {}
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        mask = infos.get(f"_{key}")
        if mask is not None and not mask[i]:
            continue
        if isinstance(values, Mapping):
            row[key] = _row(values, i, n)
        else:
            row[key] = values[i] if _has_rows(values, n) else values
    return row


def _has_rows(values: Any, n: int) -> bool:
    if isinstance(values, np.ndarray):
        return values.shape[:1] == (n,)
    return isinstance(values, list | tuple) and len(values) == n


def _success(infos: Mapping[str, Any], n: int) -> tuple[BoolArray, BoolArray]:
    success = reported = None
    for key in SUCCESS_KEYS:
        if key not in infos:
            continue
        given = _truths(key, infos[key])
        if given.ndim and len(given) != n:
            raise EnvFault(f"{len(given)} values of {key!r} in infos, expected one for each of {n}")
        if given.shape != (n,):
            given = np.any(given.reshape(n, -1), axis=1) if given.ndim else np.full(n, given)
        if f"_{key}" in infos:
            mask = np.asarray(infos[f"_{key}"], np.bool_)
            if mask.shape != (n,):
                raise EnvFault(f"_{key} of the shape {mask.shape} in infos, expected ({n},)")
            given = given & mask
        else:
            mask = np.ones(n, np.bool_)
        success = given if success is None else success | given
        reported = mask if reported is None else reported | mask
    if success is None or reported is None:
        return np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    return success, reported


def _truths(key: str, values: Any) -> BoolArray:
    """What infos say under a key of success, as true and false; None is neither, and false."""
    array = np.asarray(values)
    words = array.dtype.kind in "US" or any(
        isinstance(value, str) for value in (array.flat if array.dtype.kind == "O" else ())
    )
    if words or (array.dtype.kind == "f" and np.isnan(array).any()):
        raise EnvFault(f"{values!r:.60} under {key!r} in its info, expected true or false")
    return array.astype(np.bool_)
