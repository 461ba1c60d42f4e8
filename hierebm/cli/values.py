"""Values as people type them, and tables as they read them."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any


def parse_settings(
    assignments: Sequence[tuple[str, str]], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Config overrides from (name, text) pairs; ``group.name`` sets one field of a group.

    Args:
        assignments: the pairs.
        before: overrides that these are added to.
    """
    overrides = copy.deepcopy(dict(before or {}))
    for name, text in assignments:
        group, dot, inner = name.partition(".")
        if dot:
            if not isinstance(overrides.setdefault(group, {}), dict):
                raise ValueError(f"{name}={text} contradicts {group}={overrides[group]}")
            overrides[group][inner] = parse_value(text)
        else:
            overrides[name] = parse_value(text)
    return overrides


def parse_value(text: str) -> Any:
    """A value from the command line: JSON where it is that, numbers as people type them, or text.

    Several numbers are a list: ``64,64``, ``(64, 64)``, ``64,``.
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    if (word := text.strip().lower()) in _WORDS:
        return _WORDS[word]
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("()", "[]"):
        inner = inner[1:-1]
    parts = [_number(part) for part in inner.removesuffix(",").split(",")]
    if None in parts:
        return text
    return parts if "," in text else parts[0]


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Config overrides in which ``group.name`` is a field of a group."""
    return parse_settings([(name, json.dumps(value)) for name, value in settings.items()])


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``3``, ``0-4`` or ``0,2,7-9``. Raises ValueError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ValueError(f"{part!r} is no seed and no range such as 0-4")
        start, end = int(first), int(last or first)
        if end < start or end - start >= 1000:
            raise ValueError(f"{part!r} is no range of up to 1000 seeds")
        seeds += range(start, end + 1)
    return list(dict.fromkeys(seeds))


_WORDS = {"true": True, "false": False, "none": None, "null": None}


def _number(text: str) -> int | float | None:
    """``10_000``, ``.5``, ``1e5``; None where it is no number."""
    # Python's own take words such as nan for numbers.
    if not set(text.strip()) <= {*"0123456789+-_.eE"}:
        return None
    for kind in (int, float):
        try:
            number: int | float = kind(text)
        except ValueError:
            continue
        return number
    return None


def format_rows(rows: Sequence[Sequence[str]]) -> str:
    """A text table; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [rows[0], rule, *rows[1:]]
    ]
    return "\n".join(line.rstrip() for line in lines)


def env_kwargs_of(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the env."""
    kwargs = dict(getattr(args, "env_args", {}))
    kwargs |= {name: parse_value(text) for name, text in args.env_arg}
    if args.layout is not None:
        kwargs["layout"] = args.layout
    return kwargs


def options_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """Options of every reset."""
    return None if args.distance is None else {"distance": tuple(args.distance)}
