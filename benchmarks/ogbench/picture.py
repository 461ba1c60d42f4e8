"""Success by data set: ours by variant, and what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def draw(rows: list[Row], path: Path) -> None:
    """Bars of means over seeds with lines from the lowest to the highest; published ones gray."""
    from matplotlib.figure import Figure

    data_sets = list(dict.fromkeys(row["data_set"] for row in rows if row["kind"] != "published"))
    ours = list(dict.fromkeys(row["kind"] for row in rows if row["kind"] != "published"))
    theirs = list(dict.fromkeys(row["method"] for row in rows if row["kind"] == "published"))
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    ax = figure.subplots()
    width = 0.85 / (len(ours) + len(theirs))
    for i, name in enumerate([*theirs, *ours]):
        published = i < len(theirs)
        key = "method" if published else "kind"
        color = str(0.45 + 0.45 * i / len(theirs)) if published else f"C{i - len(theirs)}"
        at, center, low, high = [], [], [], []
        for j, data_set in enumerate(data_sets):
            values = [
                row["success"]
                for row in rows
                if (row["data_set"], row.get(key)) == (data_set, name)
            ]
            if values:
                at.append(j + (i + 0.5) * width - 0.425)
                center.append(float(np.mean(values)))
                low.append(center[-1] - min(values))
                high.append(max(values) - center[-1])
        ax.bar(at, center, 0.9 * width, yerr=[low, high], color=color, label=name)
    names = [name.removeprefix("pointmaze-").removesuffix("-v0") for name in data_sets]
    ax.set_xticks(range(len(names)), names)
    ax.set_ylabel("success rate")
    ax.set_ylim(0.0, 1.02)
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(path, dpi=110)
