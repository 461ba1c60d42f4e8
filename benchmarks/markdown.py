"""Rows of a benchmark as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]


def of_kind(rows: list[Row], kind: str) -> list[Row]:
    """The rows of one kind."""
    return [row for row in rows if row.get("kind") == kind]


def grouped(rows: list[Row], *keys: str, keep_order: bool = False) -> list[tuple[Key, list[Row]]]:
    """Rows by the values of ``keys``, seeds in order; groups sorted, unless they keep theirs."""
    groups: dict[Key, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.get("seed") or 0):
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    if keep_order:
        order = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
        return [(key, groups[key]) for key in order]
    return sorted(groups.items())


def table(columns: str, lines: list[list[str]]) -> str:
    """A Markdown table without its empty columns; nothing where there are no lines."""
    if not lines:
        return ""
    names = columns.split("|")
    used = [i for i in range(len(names)) if any(i < len(line) and line[i] for line in lines)]
    rows = [names, ["---"] * len(names), *lines]
    return "\n".join("| " + " | ".join(row[i] for i in used) + " |" for row in rows)


def titled(title: str, *tables: str) -> list[str]:
    """The tables under a heading; nothing where there are none."""
    full = [table for table in tables if table]
    return [f"### {title}", *full] if full else []


def world_name(layout: str, scale: int) -> str:
    """What a layout at a scale is called."""
    return layout if scale == 1 else f"{layout}, side x{scale}"


def number(value: float | None, digits: int) -> str:
    """Significant digits, no exponent, nothing for None and NaN."""
    if value is None or math.isnan(value):
        return ""
    if value and abs(value) < 1e-3:
        return f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"


def joined(values: Iterable[float | None], decimals: int) -> str:
    """Values of several seeds side by side, with so many decimals."""
    return " / ".join("-" if value is None else f"{value:.{decimals}f}" for value in values)


def each(rows: list[Row], key: str, decimals: int) -> str:
    """The value of every seed; nothing where one has none."""
    return joined([row[key] for row in rows], decimals) if all(key in row for row in rows) else ""


def middle(values: Sequence[float], digits: int, unit: str = "") -> str:
    """The median, to so many digits."""
    return number(median(values), digits) + unit


def interval(rows: list[Row], key: str = "ci95") -> str:
    """From the lowest to the highest end of all seeds' intervals."""
    low, high = min(r[key][0] for r in rows), max(r[key][1] for r in rows)
    return f"{low:.2f} to {high:.2f}"


def first_at(curve: Sequence[Sequence[float]], rate: float) -> tuple[int, float] | None:
    """Steps and seconds at which a curve of (steps, seconds, success, ...) comes to ``rate``."""
    for steps, seconds, success, *_ in curve:
        if success >= rate:
            return int(steps), seconds
    return None
