"""Measuring for the speed benchmark: blocks in turns, ratios block by block, arithmetic floor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Row = dict[str, Any]
Work = Callable[[], object]
"""One block of work."""

GEMM_SIZE = 256


@dataclass(frozen=True)
class Times:
    """Milliseconds per unit of work, (n_functions, n_blocks) on each clock."""

    cpu: NDArray[np.float64]
    wall: NDArray[np.float64]


def interleave(works: Sequence[Work], units: Sequence[int], blocks: int) -> Times:
    """Run a block of each work in turns, the order reversed every time.

    A slow minute of the machine then hits all of them, and ratios are taken within a block.

    Args:
        works: each call is one block.
        units: how many units of work a block of each holds.
        blocks: how often each is run, after one run that does not count.
    """
    for work in works:
        work()
    cpu, wall = (np.zeros((len(works), blocks)) for _ in range(2))
    for block in range(blocks):
        order = range(len(works)) if block % 2 == 0 else reversed(range(len(works)))
        for i in order:
            cpu_before, wall_before = time.process_time(), time.perf_counter()
            works[i]()
            cpu[i, block] = 1e3 * (time.process_time() - cpu_before) / units[i]
            wall[i, block] = 1e3 * (time.perf_counter() - wall_before) / units[i]
    return Times(cpu, wall)


def ratio_statistics(
    ours: NDArray[np.float64], peer: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Median, smallest and largest of ``peer / ours`` (n_blocks,) over the blocks."""
    ratios = peer / ours
    return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def compare(
    what: str,
    against: str,
    times: Times,
    *,
    unit: str,
    target: float | None = None,
    floor: float | None = None,
    peer: int = 1,
) -> Row:
    """A row that says how many times faster works[0] was than works[peer].

    Args:
        unit: of the columns ours, peer and floor.
        target: the ratio to be reached.
        floor: what the arithmetic alone would take, in ``unit``.
    """
    ratio, low, high = ratio_statistics(times.cpu[0], times.cpu[peer])
    wall, _, _ = ratio_statistics(times.wall[0], times.wall[peer])
    return row(
        what,
        against=against,
        ours=float(np.median(times.cpu[0])),
        peer=float(np.median(times.cpu[peer])),
        ratio=ratio,
        ratio_min=low,
        ratio_max=high,
        unit=unit,
        floor=floor,
        target=None if target is None else f">= {target:g}x",
        met=None if target is None else ratio >= target,
        wall_ratio=wall,
    )


def limit(what: str, value: float, most: float, unit: str, **more: Any) -> Row:
    """A row that says whether a figure of ours stays within a limit."""
    return row(what, ours=value, unit=unit, target=f"<= {most:g}", met=value <= most, **more)


def growth(what: str, against: str, times: Times, most: float, unit: str) -> Row:
    """A row that says how many times *more* works[0] cost than works[1], at most ``most``."""
    ratio, low, high = ratio_statistics(times.cpu[1], times.cpu[0])
    wall, _, _ = ratio_statistics(times.wall[1], times.wall[0])
    return row(
        what,
        against=against,
        ours=float(np.median(times.cpu[0])),
        peer=float(np.median(times.cpu[1])),
        ratio=ratio,
        ratio_min=low,
        ratio_max=high,
        unit=unit,
        target=f"<= {most:g}x",
        met=ratio <= most,
        wall_ratio=wall,
    )


COLUMNS = (
    "what", "against", "ours", "peer", "ratio", "ratio_min", "ratio_max", "unit", "floor",
    "of_floor", "target", "met", "wall_ratio", "nodes",
)  # fmt: skip


def row(what: str, **values: Any) -> Row:
    """A row with every column of the table; ``of_floor`` is ours over the floor."""
    unknown = values.keys() - set(COLUMNS)
    if unknown:
        raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
    whole: Row = dict.fromkeys(COLUMNS) | {"what": what} | values
    if whole["floor"]:
        whole["of_floor"] = whole["ours"] / whole["floor"]
    return whole


def line(values: Row) -> str:
    """A row as one line of text, for progress."""
    parts = [str(values["what"])]
    for key in COLUMNS[1:]:
        value = values[key]
        if value is not None:
            parts.append(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}")
    return "  ".join(parts)


# ------------------------------------------------------------------------------ the floor


def gemm() -> tuple[Work, float]:
    """Products of (256, 256) matrices into one place, and the Gflop of a block of them."""
    repeats = 20
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(GEMM_SIZE, GEMM_SIZE, generator=generator) for _ in range(2))
    out = torch.empty_like(a)

    def work() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    return work, repeats * 2.0 * GEMM_SIZE**3 / 1e9


def forward_flops(batch: int, sizes: Sequence[int]) -> int:
    """Of the products of a network with layers ``sizes`` (in, hidden..., out): 2 B in out each."""
    return sum(2 * batch * i * o for i, o in pairwise(sizes))


def backward_flops(
    batch: int, sizes: Sequence[int], *, parameters: bool = True, input_columns: int = 0
) -> int:
    """Of the way back: weight gradients, errors of all layers but the first, wanted inputs.

    Args:
        parameters: whether the weight gradients are computed.
        input_columns: columns of the input whose gradient is wanted.
    """
    weights = forward_flops(batch, sizes) if parameters else 0
    errors = forward_flops(batch, sizes[1:])
    return weights + errors + 2 * batch * input_columns * sizes[1]


def update_flops(
    batch: int, n_features: int, n_actions: int, hidden: Sequence[int], n_critics: int, out: int
) -> int:
    """Of the products of one DDPG update: everything that has to be multiplied, nothing else.

    Targets: actor and critics forward. Critics: forward and back to their weights. Actor: forward,
    critics forward on its actions and back to the actions alone, back to the actor's weights.

    Args:
        batch: rows.
        n_features, n_actions: inputs of the actor; the critics take both.
        hidden: hidden layers of every network.
        n_critics: members of the ensemble.
        out: outputs of a critic.
    """
    actor = (n_features, *hidden, n_actions)
    critic = (n_features + n_actions, *hidden, out)
    targets = forward_flops(batch, actor) + n_critics * forward_flops(batch, critic)
    of_critics = n_critics * (forward_flops(batch, critic) + backward_flops(batch, critic))
    of_actor = forward_flops(batch, actor) + backward_flops(batch, actor)
    through_critics = n_critics * (
        forward_flops(batch, critic)
        + backward_flops(batch, critic, parameters=False, input_columns=n_actions)
    )
    return targets + of_critics + of_actor + through_critics


def floor_ms(flops: float, gflops: float) -> float:
    """Milliseconds that ``flops`` take at ``gflops`` Gflop/s."""
    return 1e-6 * flops / gflops


def fitted_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of log y over log x by least squares: y grows like x to this power.

    Raises:
        ValueError: if a value is not positive, or there are fewer than two.
    """
    if len(x) < 2 or min(*x, *y) <= 0.0 or not all(map(math.isfinite, [*x, *y])):
        raise ValueError("an exponent is fitted to at least two points of positive numbers")
    slope, _ = np.polyfit(np.log(x), np.log(y), 1)
    return float(slope)
