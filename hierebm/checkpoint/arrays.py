"""Arrays from files, each checked to be what it should be before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = {"numbers": "fiu", "whole numbers": "iu", "flags": "b"}


def checked(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    shape: tuple[int | None, ...],
    kind: str = "numbers",
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> NDArray[Any]:
    """One of the arrays.

    Args:
        shape: None for an axis of any length.
        kind: "numbers", "whole numbers" or "flags".
        low, high: of every number, ends included.

    Raises:
        ValueError: it is missing, or of another shape or kind, or out of the range.
    """
    if name not in arrays:
        raise ValueError(f"the array {name!r} is missing")
    array = arrays[name]
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
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"the array {name!r} holds infinity")
    return array
