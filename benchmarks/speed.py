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

from benchmarks import speed_loop, speed_update
from benchmarks.speed_measure import Row, line
from benchmarks.speed_peer import has_sb3, mention_sbx


def run(quick: bool, seeds: int | None, out: Path) -> list[Row]:
    """Every part in turn; draws ``speed.png`` and returns the rows."""
    torch.set_num_threads(1)
    sb3 = has_sb3()
    mention_sbx()
    seeds = seeds or (1 if quick else 3)
    parts: list[Callable[[], Iterator[Row]]] = [
        lambda: speed_update.rows(quick, sb3),
        lambda: speed_loop.rows(quick, sb3),
    ]
    rows: list[Row] = []
    for part in parts:
        for values in part():
            print(line(values), flush=True)
            rows.append(values)
    return rows
