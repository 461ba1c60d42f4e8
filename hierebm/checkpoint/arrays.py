"""Arrays from files, each checked to be what it should be before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.types import LARGEST, FloatArray

_KINDS = {"numbers": "fiu", "floats": "f", "whole numbers": "iu", "flags": "b"}


def checked(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    shape: tuple[int | None, ...],
    kind: str = "numbers",
    *,
    low: float = -LARGEST,
    high: float = LARGEST,
) -> NDArray[Any]:
    """One of the arrays.

    Args:
        shape: None for an axis of any length.
        kind: "numbers", "floats" (which come back as float32), "whole numbers" or "flags".
        low, high: of every number, ends included. NaN is within no range.

    Raises:
        ValueError: it is missing, or of another shape or kind, or out of the range.
    """
    if name not in arrays:
        raise ValueError(f"the array {name!r} is missing")
    array = arrays[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name!r} is a {type(array).__name__}, it should be an array")
    fits = array.ndim == len(shape) and all(
        wanted in (None, length) for length, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in _KINDS[kind]:
        wanted_shape = ", ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(
            f"the array {name!r} is {array.shape} {array.dtype}, it should be ({wanted_shape}) "
            f"{kind}"
        )
    if array.size and not (low <= array.min() and array.max() <= high):
        raise ValueError(
            f"the array {name!r} goes from {array.min()} to {array.max()}, it should be within "
            f"{low:g} and {high:g}"
        )
    return array.astype(_exact(array.dtype, kind), copy=False)


def _exact(given: np.dtype[Any], kind: str) -> np.dtype[Any]:
    """What to calculate with: sums of the small types of numbers overflow; floats are those that
    networks take, and no product takes two types."""
    if kind == "whole numbers":
        return np.dtype(np.int64)
    if kind == "floats":
        return np.dtype(np.float32)
    if kind == "flags" or given in (np.float32, np.float64):
        return given
    return np.dtype(np.float64)


def plain(values: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """One of the values, a number.

    Raises:
        ValueError: it is missing, no number, or not within ``low`` and ``high``, ends included.
    """
    value = values.get(name)
    if not isinstance(value, (bool, int, float)) or not low <= value <= high:
        raise ValueError(f"{name!r} is {value!r:.60}, it should be within {low:g} and {high:g}")
    return value


def rows_of(parts: Any, name: str, n: int | None, widths: Sequence[int]) -> list[FloatArray]:
    """A list of arrays, (n, width) each.

    Args:
        n: None for any number of rows, the same in all of them.

    Raises:
        ValueError: it is none, or its numbers are larger than those of any environment.
    """
    if not isinstance(parts, list) or len(parts) != len(widths):
        raise ValueError(f"{name!r} is no list of {len(widths)} arrays")
    result: list[FloatArray] = []
    for part, width in zip(parts, widths, strict=True):
        result.append(checked({name: part}, name, (n, width), "floats"))
        n = len(result[-1])
    return result
