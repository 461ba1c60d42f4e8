"""What is wrong with what an environment returned, in one sentence: which key, row, step, and why.

Nothing here runs until something went wrong: the checks themselves are where the values are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from gymnasium import spaces

from hierebm.types import LARGEST


class EnvFault(ValueError):
    """What an environment returned that is none of the five values of a step, nor the two of a
    reset."""


INTACT = "fix the environment. What was learned so far is intact: agent.save(path) still works"


def observation_fault(
    observation: Any, space: spaces.Dict, keys: Sequence[str], n: int | None = None
) -> str:
    """What is wrong with a batched Dict observation; empty if nothing is.

    Args:
        space: of one observation.
        keys: that it needs.
        n: rows; None for as many as the first key has.
    """
    if not isinstance(observation, Mapping):
        return f"is {_told(observation)}, it should be a dict with the keys {', '.join(keys)}"
    missing = [key for key in keys if key not in observation]
    if missing:
        return (
            f"lacks the key {', '.join(map(repr, missing))}, it has "
            f"{', '.join(map(repr, observation)) or 'none'}"
        )
    for key in keys:
        if fault := _values_fault(observation[key], space[key].shape or (), n):
            return f"has under {key!r} {fault}"
    return ""


def _values_fault(values: Any, shape: tuple[int, ...], n: int | None) -> str:
    expected = f"expected finite numbers of the shape {shape}"
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "fiub":
        # A row that is none makes objects, or words, of all the others.
        rows = list(values) if _is_list(values) else [values]
        for row, part in enumerate(rows):
            if not _is_numbers(part):
                return f"{_told(part)} (row {row}), {expected}"
        return f"rows of several shapes, {expected} in each"
    wanted = ((array.shape[0] if array.ndim else 0) if n is None else n, *shape)
    if array.shape[:1] != wanted[:1]:
        return (
            f"the shape {array.shape}, expected {wanted}: {wanted[0]} row(s) of the shape {shape}"
        )
    if array.size != int(np.prod(wanted)):
        return f"rows of the shape {array.shape[1:]}, {expected}"
    flat = array.reshape(len(array), -1).astype(np.float64)
    # NaN compares as False.
    bad = ~(np.abs(flat) <= LARGEST)
    if bad.any():
        row = int(bad.any(1).argmax())
        value = flat[row][bad[row]][0]
        kind = "NaN or infinity" if not np.isfinite(value) else f"more than {LARGEST:g}"
        return f"{value:g} (row {row}), {kind}; {expected}"
    return ""


def _is_list(values: Any) -> bool:
    return isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _is_numbers(values: Any) -> bool:
    try:
        return np.asarray(values).dtype.kind in "fiub"
    except ValueError:
        return False


def reward_fault(reward: Any, n: int) -> str:
    """What is wrong with the rewards of a step in n environments."""
    expected = "expected one finite number" + (f" for each of {n} environments" if n > 1 else "")
    try:
        array = np.asarray(reward)
    except ValueError:
        row = next((i for i, part in enumerate(reward) if np.shape(part)), 0)
        return f"a reward of the shape {np.shape(reward[row])} (row {row}), {expected}"
    if array.dtype.kind not in "fiub":
        rows = list(reward) if _is_list(reward) else [reward]
        row = next((i for i, part in enumerate(rows) if not _is_numbers(part)), 0)
        return f"the reward {_told(rows[row] if rows else reward)} (row {row}), {expected}"
    if array.size != n:
        return f"{array.size} rewards, {expected}"
    flat = array.reshape(-1).astype(np.float64)
    row = int(np.argmax(~(np.abs(flat) <= LARGEST)))
    return f"the reward {flat[row]:g} (row {row}), {expected}"


def flags_fault(name: str, values: Any, n: int) -> str:
    """What is wrong with what should be true or false for each of n environments."""
    rows = list(values) if _is_list(values) else [values]
    expected = "expected true or false" + (f" for each of {n} environments" if n > 1 else "")
    if len(rows) != n:
        return f"{len(rows)} values of {name}, {expected}"
    for row, value in enumerate(rows):
        if not _is_flag(value):
            what = f"{value:g}" if isinstance(value, Real) else _told(value)
            what = f"values of the shape {np.shape(value)}" if np.shape(value) else what
            return f"{what} as {name} (row {row}), {expected}"
    return ""


def _is_flag(value: Any) -> bool:
    return _is_numbers(value) and np.size(value) == 1 and bool(np.isin(value, (0, 1)).all())


def _told(value: Any) -> str:
    """A value that is none of numbers, shortly."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the string {value!r:.60}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"a {type(value).__name__}"
