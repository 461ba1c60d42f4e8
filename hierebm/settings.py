"""Settings by name: taken from users, checked before anything is built or learnt."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from numbers import Integral, Real
from typing import Any

# What other libraries call it, where no name here looks like theirs.
_KNOWN_ELSEWHERE = {
    "learning_rate": ["actor_lr", "critic_lr"],
    "policy_kwargs": ["hidden_sizes"],
    "net_arch": ["hidden_sizes"],
}


def overridden(config: Any, overrides: Mapping[str, Any]) -> Any:
    """A config with some of its fields replaced.

    Raises:
        TypeError: for an override that is no field of the config (names the nearest ones), or of
            another type than the field.
    """
    known = {field.name: field for field in fields(config)}
    for name in overrides:
        if name not in known:
            near = _KNOWN_ELSEWHERE.get(name) or difflib.get_close_matches(name, known, n=3)
            near = [other for other in near if other in known]
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise TypeError(f"{name!r} is no setting of {type(config).__name__}{hint}")
    return replace(config, **{name: _checked(known[name], v) for name, v in overrides.items()})


def check_types(config: Any) -> None:
    """Compare each field with the type of its default; whole floats become ints, lists tuples.

    Raises:
        TypeError: a value of another type; names the field and what it takes.
    """
    for field in fields(config):
        setattr(config, field.name, _checked(field, getattr(config, field.name)))


def _checked(field: Field[Any], value: Any) -> Any:
    wanted, fitting = _fitted(field, value)
    if wanted:
        raise TypeError(f"{field.name} must be {wanted}, got {value!r}")
    return fitting


def _fitted(field: Field[Any], value: Any) -> tuple[str, Any]:
    """(what it should have been, or nothing if it is that; the value as it is kept)."""
    default = field.default
    if default is MISSING:
        return "", value
    if default is None or isinstance(default, bool):
        allowed = (None, True, False) if default is None else (True, False)
        return ("" if value in allowed else " or ".join(map(str, allowed))), value
    if isinstance(default, str):
        return ("" if isinstance(value, str) else "a string"), value
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or not all(_is_number(v) for v in value):
            return "a tuple of numbers", value
        return "", tuple(value)
    if not _is_number(value) or math.isnan(value):
        return ("a whole number" if isinstance(default, int) else "a number"), value
    if isinstance(default, int):
        # 1e6 is how people write it.
        if not isinstance(value, Integral) and not float(value).is_integer():
            return "a whole number", value
        return "", value if type(value) is int else int(value)
    return "", value if isinstance(value, (int, float)) else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_ranges(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Compare fields with their (lowest, highest) sensible values.

    Raises:
        ValueError: a value outside; names the field and the range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            room = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
            raise ValueError(f"{name} must be {room}, got {value!r}")
