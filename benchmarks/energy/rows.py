"""Rows of the energy benchmark's table."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

Row = dict[str, Any]
KEYS = ("precision", "tv", "coverage", "logp_corr", "logp_slope", "train_s", "sample_ms")


def row(density: str, objective: str, sampler: str, **values: float) -> Row:
    """A row with every column of the table; what was not measured is nan."""
    names: Row = {"density": density, "objective": objective, "sampler": sampler}
    return names | dict.fromkeys(KEYS, math.nan) | values


def medians(runs: list[list[Row]]) -> list[Row]:
    """Row by row over the seeds: medians of numbers, texts of the first."""
    merged = []
    for same in zip(*runs, strict=True):
        new: Row = {}
        for key, first in same[0].items():
            new[key] = median(r[key] for r in same) if isinstance(first, float) else first
        merged.append(new)
    return merged


def line(values: Row) -> str:
    """A row as one line of text, for progress."""
    numbers = [f"{k} {v:.3g}" for k, v in values.items() if isinstance(v, float) and v == v]
    names = f"{values['density']:18} {values['objective']:28} {values['sampler']:18}"
    return f"{names} " + "  ".join(numbers)
