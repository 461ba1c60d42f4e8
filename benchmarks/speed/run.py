"""Speed against Stable-Baselines3, against plain modules, and against the arithmetic itself.

Ours and the peer work in turns, block by block, on one thread and with equal networks and batches;
a ratio is taken within each block, and its median, smallest and largest value are given. Times are
processor times of this process (``time.process_time``): with one thread they equal wall-clock time
on a quiet machine, and a neighbour disturbs them less. ``wall_ratio`` is the same median on the
wall clock. ``floor`` is what the matrix products alone would take at the rate that products of
256x256 matrices reach in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.speed import device as on_device
from benchmarks.speed import loop, planning, processes, time_to_success, update, world_size
from benchmarks.speed.measure import Row, line
from benchmarks.speed.peer import has_sb3, has_sbx


def run(quick: bool, seeds: int | None, out: Path, device: str = "cpu") -> list[Row]:
    """Every part in turn; draws ``speed.png`` and returns the rows.

    Args:
        seeds: of the time to success; the other rows have their blocks.
        device: elsewhere than on the CPU, the rows are those of :mod:`benchmarks.speed.device`, and
            nothing is drawn.
    """
    torch.set_num_threads(1)
    if device != "cpu":
        return _on_device(quick, device)
    sb3, sbx = has_sb3(), has_sbx()
    parts: list[Callable[[], Iterator[Row]]] = [
        lambda: update.rows(quick, sb3, sbx),
        lambda: loop.rows(quick, sb3),
        lambda: planning.rows(quick),
        lambda: world_size.rows(quick),
        lambda: processes.rows(quick),
        lambda: time_to_success.rows(quick, seeds or (1 if quick else 3), sb3),
    ]
    rows: list[Row] = []
    for part in parts:
        for values in part():
            print(line(values), flush=True)
            rows.append(values)
    draw(rows, out / "speed.png")
    return rows


def _on_device(quick: bool, device: str) -> list[Row]:
    on_device.check_device(device)
    rows = []
    for values in on_device.rows(
        on_device.QUICK if quick else on_device.Sizes(), has_sb3(), has_sbx(), device
    ):
        print(line(values), flush=True)
        rows.append(values)
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """Ratios with their spread and targets; planning time against nodes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    compared = [row for row in rows if row["peer"] and row["ratio"] and is_speed(row)]
    for y, row in enumerate(reversed(compared)):
        color = {True: "C2", False: "C3", None: "C7"}[row["met"]]
        left.barh(y, row["ratio"], color=color, alpha=0.7)
        left.plot([row["ratio_min"], row["ratio_max"]], [y, y], color="black", linewidth=1.5)
        if row["target"]:
            target = float(row["target"].strip(">= x"))
            left.plot([target, target], [y - 0.4, y + 0.4], color="black", linestyle=":")
    left.set_yticks(
        range(len(compared)),
        [_two_lines(row) for row in reversed(compared)],
        fontsize="small",
    )
    left.set_xscale("log")
    left.axvline(1.0, color="grey", linewidth=0.8)
    left.set_xlabel("times as fast; line: smallest to largest block; dotted: target")
    planning = [row for row in rows if row["what"] == "planning time"]
    right.loglog([row["nodes"] for row in planning], [row["ours"] for row in planning], "o-")
    exponent = [row["ours"] for row in rows if row["unit"] == "exponent"]
    right.set_title("".join(f"planning time ~ nodes^{value:.2f}" for value in exponent))
    for axis, ticks in (
        (right.xaxis, [16, 32, 64, 128, 256, 512]),
        (right.yaxis, [10, 20, 50, 100]),
    ):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    right.set_xlabel("nodes")
    right.set_ylabel("ms")
    right.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=130)


def is_speed(row: Row) -> bool:
    """Whether the row's ratio says how many times faster something is, not how much dearer."""
    return row["target"] is None or row["target"].startswith(">=")


def _two_lines(row: Row) -> str:
    return f"{row['what'].split(' (')[0]}\nagainst {row['against'].split(' (')[0]}"
