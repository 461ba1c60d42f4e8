"""Published success in OGBench's point mazes, in %, to stand beside ours; never to rank by.

They were learned from OGBench's own files, ours from data made again by the same recipe.
"""

from __future__ import annotations

from typing import Any

METHODS = ("GCBC", "GCIVL", "GCIQL", "QRL", "CRL", "HIQL")
TABLE = {
    "pointmaze-medium-navigate-v0": ((9, 6), (63, 6), (53, 8), (82, 5), (29, 7), (79, 5)),
    "pointmaze-large-navigate-v0": ((29, 6), (45, 5), (34, 3), (86, 9), (39, 7), (58, 5)),
    "pointmaze-giant-navigate-v0": ((1, 2), (0, 0), (0, 0), (68, 7), (27, 10), (46, 9)),
    "pointmaze-medium-stitch-v0": ((23, 18), (70, 14), (21, 9), (80, 12), (0, 1), (74, 6)),
    "pointmaze-large-stitch-v0": ((7, 5), (12, 6), (31, 2), (84, 15), (0, 0), (13, 6)),
    "pointmaze-giant-stitch-v0": ((0, 0), (0, 0), (0, 0), (50, 8), (0, 0), (0, 0)),
}
"""Data set -> mean and deviation over 8 seeds of OGBench's six methods after a million updates each
(Park et al. 2025, arXiv 2410.20092), as the tables of a later paper quote them."""

LATER: dict[str, dict[str, tuple[float, float | None, float | None]]] = {
    "MCTD": {
        "pointmaze-medium-navigate-v0": (100, 0, 59.2),
        "pointmaze-large-navigate-v0": (98, 6, 174.6),
        "pointmaze-giant-navigate-v0": (100, 0, 264.2),
    },
    "Fast-MCTD": {
        "pointmaze-medium-navigate-v0": (100, 0, 3.6),
        "pointmaze-large-navigate-v0": (80, 0, 4.1),
        "pointmaze-giant-navigate-v0": (100, 0, 2.4),
    },
    "TTGS": {"pointmaze-giant-stitch-v0": (98, None, 0.69)},
}
"""Method -> data set -> mean, deviation, seconds a plan. Monte Carlo Tree Diffusion: 10 seeds, each
task once, and a controller made by hand (Yoon et al. 2025, arXiv 2506.09498, table 2). Test-Time
Graph Search: a graph of 4000 states that takes 25 s to build (Opryshko et al. 2025, arXiv
2510.07257), quoted at second hand."""


def rows() -> list[dict[str, Any]]:
    """One row a data set and method."""
    found = [
        _row(data_set, method, *figures)
        for data_set, line in TABLE.items()
        for method, figures in zip(METHODS, line, strict=True)
    ]
    return found + [
        _row(data_set, method, *figures)
        for method, line in LATER.items()
        for data_set, figures in line.items()
    ]


def _row(
    data_set: str,
    method: str,
    mean: float,
    deviation: float | None,
    plan_s: float | None = None,
) -> dict[str, Any]:
    row = {"kind": "published", "data_set": data_set, "method": method, "success": mean / 100}
    if deviation is not None:
        row["deviation"] = deviation / 100
    return row if plan_s is None else row | {"plan_ms": 1e3 * plan_s}
