"""Metrics as text: JSON lines for programs, a table on the terminal for people."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierebm.files import append_row


class JSONLinesOutput:
    """One JSON object per dump, ``{"step": ..., key: value, ...}``, without figures and arrays."""

    name = "json"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Append one line. Numbers that JSON lacks (nan, inf) become ``null``."""
        row: dict[str, Any] = {"step": step}
        for key, value in values.items():
            if isinstance(value, float):
                row[key] = value if math.isfinite(value) else None
            elif isinstance(value, str):
                row[key] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_row(self.path, row)

    def close(self) -> None:
        """Nothing is held open."""


class TableOutput:
    """A table on standard output, one section per key prefix; keeps progress bars intact."""

    name = "stdout"

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Print the numbers and strings of one dump."""
        table = format_table(values)
        if table:
            self.print(table)

    def print(self, text: str) -> None:
        """Print a text of one or more lines."""
        # tqdm.write lifts a running progress bar out of the way; without one it is a print.
        from tqdm import tqdm

        tqdm.write(text)

    def close(self) -> None:
        """Standard output stays open."""


def format_table(values: Mapping[str, Any]) -> str:
    """Numbers and strings as a boxed two-column table, grouped by what stands before the ``/``."""
    rows: list[tuple[str, str]] = []
    section = None
    for key in sorted(values):
        value = values[key]
        if not isinstance(value, (float, str)):
            continue
        prefix, _, name = key.rpartition("/")
        if prefix and prefix != section:
            rows.append((f"{prefix}/", ""))
        section = prefix
        text = _format_number(value) if isinstance(value, float) else _shorten(value, 40)
        rows.append((f"  {name}" if prefix else name, text))
    if not rows:
        return ""
    left = max(len(name) for name, _ in rows)
    right = max(len(text) for _, text in rows)
    rule = "-" * (left + right + 7)
    lines = [f"| {name:<{left}} | {text:>{right}} |" for name, text in rows]
    return "\n".join([rule, *lines, rule])


def _format_number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e12:
        return f"{int(value)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.4g}"


def _shorten(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
