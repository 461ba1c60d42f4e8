"""Settings: dataclass fields that carry their meaning and range, checked before anything is built.

A config is a dataclass derived from :class:`Config` whose fields are made by :func:`setting`.
Configs are combined by inheritance; the first line of a class's docstring is the title of its group
in ``hierebm settings``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, NamedTuple

# What other libraries call it, where no name here looks like theirs.
_KNOWN_ELSEWHERE = {
    "learning_rate": ["actor_lr", "critic_lr"],
    "policy_kwargs": ["hidden_sizes"],
    "net_arch": ["hidden_sizes"],
    "gamma": ["max_distance"],
    "replay_buffer_class": ["her_future", "her_random", "buffer_size"],
    "replay_buffer_kwargs": ["her_future", "her_random", "buffer_size"],
}
_WHY = {
    "gamma": ": nothing is discounted, distances are counted in steps",
    "replay_buffer_class": ": hindsight replay is built in",
    "replay_buffer_kwargs": ": hindsight replay is built in",
}

# Of a tuple, such as the widths of layers.
MOST_ENTRIES = 32


def setting(
    default: Any,
    meaning: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a config.

    Args:
        default: also says of which type the setting is.
        meaning: one or two sentences, with the unit.
        low, high: the range of a number, or of each number of a tuple, ends included. Agents can be
            built and plan at either end: a test does it.
        choices: what a string may be; empty for any.
    """
    metadata = {"meaning": meaning, "range": (low, high), "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass
class Config:
    """Base of all configs: every field is checked when one is made."""

    def __post_init__(self) -> None:
        """Compare each field with the type of its default and its range.

        Whole floats become ints and lists tuples where the default is one.

        Raises:
            TypeError: a value of another type; names the field and what it takes.
            ValueError: a value out of its range, or none of its choices; names both.
        """
        for f in fields(self):
            value = getattr(self, f.name)
            wanted, fitting = _fitted(f, value)
            if wanted:
                raise TypeError(f"{f.name} must be {wanted}, got {value!r}")
            setattr(self, f.name, fitting)
            if f.metadata:
                _check_range(f, fitting)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; the class called with them gives the config back."""
        return asdict(self)


class SettingRow(NamedTuple):
    """One line of the table of settings."""

    group: str
    name: str
    default: Any
    meaning: str
    range: str


def setting_rows(config: Any, prefix: str = "") -> Iterator[SettingRow]:
    """All settings of a config, group by group, base classes first; nested configs are flattened.

    Args:
        config: an instance.
        prefix: of the names.
    """
    seen: set[str] = set()
    by_name = {f.name: f for f in fields(config)}
    for base in reversed(type(config).__mro__):
        group = (base.__doc__ or "").split("\n")[0].rstrip(".")
        for name in vars(base).get("__annotations__", {}):
            if name not in by_name or name in seen:
                continue
            seen.add(name)
            value = getattr(config, name)
            if is_dataclass(value):
                yield from setting_rows(value, f"{prefix}{name}.")
            else:
                metadata = by_name[name].metadata
                yield SettingRow(
                    group, prefix + name, value, metadata.get("meaning", ""), _range(metadata)
                )


def _range(metadata: Mapping[str, Any]) -> str:
    """The values that a setting takes, in words; empty for any."""
    if metadata.get("choices"):
        return ", ".join(metadata["choices"])
    low, high = metadata.get("range", (-math.inf, math.inf))
    if math.isinf(high):
        return "" if math.isinf(low) else f">= {low:g}"
    return f"<= {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


def overridden(config: Any, overrides: Mapping[str, Any]) -> Any:
    """A config with some of its fields replaced.

    Raises:
        TypeError: for an override that is no field of the config (names the nearest ones), or of
            another type than the field.
        ValueError: for a value out of its range.
    """
    known = {f.name: f for f in fields(config)}
    for name in overrides:
        if name not in known:
            near = _KNOWN_ELSEWHERE.get(name) or difflib.get_close_matches(name, known, n=3)
            near = [other for other in near if other in known]
            hint = _WHY.get(name, "") + (f"; did you mean {', '.join(near)}?" if near else "")
            raise TypeError(f"{name!r} is no setting of {type(config).__name__}{hint}")
    # A dict for a nested config changes the fields that it names.
    merged = {
        name: overridden(current, value)
        if is_dataclass(current := getattr(config, name)) and isinstance(value, Mapping)
        else value
        for name, value in overrides.items()
    }
    return replace(config, **merged)


def _fitted(f: Field[Any], value: Any) -> tuple[str, Any]:
    """(what it should have been, or nothing if it is that; the value as it is kept)."""
    default = f.default
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
        whole = all(isinstance(entry, int) for entry in default)
        if whole and not all(float(v).is_integer() for v in value):
            return "a tuple of whole numbers", value
        return "", tuple(int(v) if whole else v for v in value)
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


def _check_range(f: Field[Any], value: Any) -> None:
    choices, (low, high) = f.metadata["choices"], f.metadata["range"]
    if choices and value not in choices:
        raise ValueError(f"{f.name} must be one of {', '.join(choices)}, got {value!r}")
    numbers = value if isinstance(value, tuple) else (value,)
    if all(low <= number <= high for number in numbers if _is_number(number)):
        if isinstance(value, tuple) and len(value) > MOST_ENTRIES:
            raise ValueError(f"{f.name} may have {MOST_ENTRIES} entries, got {len(value)}")
        return
    room = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
    each = "every number of " if isinstance(value, tuple) else ""
    raise ValueError(f"{each}{f.name} must be {room}, got {value!r:.200}")
