"""Checks of large arrays, piece by piece, so that they take no memory to speak of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hierebm.types import LARGEST, BoolArray, FloatArray

# Numbers that are looked at together.
AT_ONCE = 1 << 20


def chunks(n: int, width: int) -> Iterator[slice]:
    """Slices that make up n rows of ``width`` numbers, each of about ``AT_ONCE`` numbers."""
    rows = max(1, AT_ONCE // max(1, width))
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def as_rows(name: str, values: Any, n: int | None = None) -> NDArray[Any]:
    """Numbers as (N, dim), as they are if they are an array already.

    Raises:
        ValueError: they are no numbers, have another number of axes, or not n rows.
    """
    array = _as_array(name, values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got the type {array.dtype}")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name} must be (N, dim), a row of numbers for each state, got {array.shape}; "
            f"{name}.reshape(N, -1) makes such rows"
        )
    if n is not None and len(array) != n:
        raise ValueError(
            f"{name} has {len(array)} rows and observations {n}: one row for each state, the last "
            "states of episodes included"
        )
    return array


def _as_array(name: str, values: Any) -> NDArray[Any]:
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has masked entries: leave out the episodes of these rows, or fill them"
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be one array of numbers: {error}") from error


def float32(values: NDArray[Any]) -> FloatArray:
    """The same array if it is float32; what is too large becomes infinity."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def flags(name: str, values: ArrayLike, n: int) -> BoolArray:
    """(n,) numbers as bool.

    Raises:
        ValueError: another shape, or anything but 0 and 1.
    """
    given = _as_array(name, values)
    if given.shape != (n,):
        raise ValueError(
            f"{name} must be ({n},), one flag for each row of observations, got {given.shape}"
        )
    result = np.empty(n, np.bool_)
    for part in chunks(n, 1):
        result[part] = given[part] == 1
        other = given[part][~result[part] & (given[part] != 0)]
        if other.size:
            raise ValueError(f"{name} must be 0 or 1, got {other[0]}")
    return result


def check_finite(name: str, values: NDArray[Any], where: BoolArray | None = None) -> None:
    """Raise ValueError if rows (those of ``where``) hold NaN or numbers too large to work with."""
    for part in chunks(len(values), values.shape[1]):
        # NaN compares as False.
        bad = ~(np.abs(float32(values[part])) <= LARGEST).all(1)
        if where is not None:
            bad &= where[part]
        if bad.any():
            raise ValueError(
                f"{name} has NaN, infinity or a number too large ({LARGEST:.0e}), first in row "
                f"{part.start + int(np.argmax(bad))}: leave out the episode of that row"
            )
