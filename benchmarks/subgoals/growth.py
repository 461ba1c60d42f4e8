"""How many nodes it takes, how that grows with the world, and both as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEVEL = 0.9
"""Success that counts as enough."""


def nodes_needed(nodes: Sequence[float], success: Sequence[float], level: float = LEVEL) -> float:
    """Nodes at which success first reaches ``level``, interpolated in their logarithm.

    Args:
        nodes: increasing.
        success: the rate at each.

    Returns:
        The smallest of ``nodes`` where that is enough already; infinite where none is.
    """
    for k, rate in enumerate(success):
        if rate >= level:
            if k == 0:
                return float(nodes[0])
            share = (level - success[k - 1]) / (rate - success[k - 1])
            low, high = math.log(nodes[k - 1]), math.log(nodes[k])
            return math.exp(low + share * (high - low))
    return math.inf


def interpolated(at: float, nodes: Sequence[float], values: Sequence[float]) -> float:
    """``values`` at a number of nodes, both in logarithms; NaN outside of what was measured."""
    if not nodes[0] <= at <= nodes[-1]:
        return math.nan
    return float(np.exp(np.interp(math.log(at), np.log(nodes), np.log(values))))


def fitted_exponent(sides: Sequence[float], nodes: Sequence[float]) -> float:
    """b of nodes = a side^b by least squares in logarithms; NaN with fewer than two finite points.

    2 says that nodes are needed in proportion to the area, 1 in proportion to the length.
    """
    finite = [(s, n) for s, n in zip(sides, nodes, strict=True) if math.isfinite(n)]
    if len({s for s, _ in finite}) < 2:
        return math.nan
    x, y = np.log(np.array(finite)).T
    return float(np.polyfit(x, y, 1)[0])


def pooled(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each world and sampler: the nodes that ``LEVEL`` takes, over all seeds.

    Where a sweep ended early because more nodes could not help any more, its last rate stands for
    the node counts that other seeds went on to.
    """
    rows = []
    for layout, scale, sampler in dict.fromkeys(
        (c["layout"], c["scale"], c["sampler"]) for c in cells
    ):
        mine = [
            c for c in cells if (c["layout"], c["scale"], c["sampler"]) == (layout, scale, sampler)
        ]
        seeds = {
            seed: {c["nodes"]: c for c in mine if c["seed"] == seed}
            for seed in {c["seed"] for c in mine}
        }
        nodes = sorted({c["nodes"] for c in mine})
        success, plan_ms = [], []
        for n in nodes:
            at = [by[max(k for k in by if k <= n)] for by in seeds.values() if min(by) <= n]
            success.append(float(np.mean([c["success"] for c in at])))
            plan_ms.append(float(np.mean([c["plan_ms"] for c in at])))
        needed = nodes_needed(nodes, success)
        rows.append(
            {
                "kind": "nodes needed",
                "layout": layout,
                "scale": scale,
                "sampler": sampler,
                "side": mine[0]["side"],
                "nodes": needed,
                "plan_ms": interpolated(needed, nodes, plan_ms),
                "best": max(success),
            }
        )
    return rows


def growth(needed: list[dict[str, Any]], layout: str) -> list[dict[str, Any]]:
    """The exponent of each sampler over the scales of one layout, from :func:`pooled`'s rows."""
    rows = []
    for sampler in dict.fromkeys(row["sampler"] for row in needed):
        mine = sorted(
            (row for row in needed if (row["layout"], row["sampler"]) == (layout, sampler)),
            key=lambda row: row["side"],
        )
        sides, nodes = [row["side"] for row in mine], [row["nodes"] for row in mine]
        if len(mine) > 1:
            row = {"kind": "growth", "layout": layout, "sampler": sampler}
            row |= {f"nodes_x{r['scale']}": r["nodes"] for r in mine}
            rows.append(row | {"exponent": fitted_exponent(sides, nodes)})
    return rows


def draw_success(cells: list[dict[str, Any]], path: Path) -> None:
    """Success against nodes: a panel for each world, a line for each sampler, seeds pooled."""
    from matplotlib.figure import Figure

    worlds = list(dict.fromkeys((c["layout"], c["scale"]) for c in cells))
    samplers = list(dict.fromkeys(c["sampler"] for c in cells))
    columns = min(4, len(worlds))
    lines = math.ceil(len(worlds) / columns)
    figure = Figure(figsize=(1.2 + 4 * columns, 3.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for ax in axes[len(worlds) :]:
        ax.set_axis_off()
    for ax, (layout, scale) in zip(axes, worlds, strict=False):
        for k, sampler in enumerate(samplers):
            mine = [
                c
                for c in cells
                if (c["layout"], c["scale"], c["sampler"]) == (layout, scale, sampler)
            ]
            nodes = sorted({c["nodes"] for c in mine})
            if not nodes:
                continue
            at = [[c for c in mine if c["nodes"] == n] for n in nodes]
            ax.plot(
                nodes,
                [np.mean([c["success"] for c in cs]) for cs in at],
                "o-",
                color=f"C{k}",
                markersize=3,
                label=sampler,
            )
            low, high = np.array([np.mean([c["ci95"] for c in cs], axis=0) for cs in at]).T
            ax.fill_between(nodes, low, high, color=f"C{k}", alpha=0.08, linewidth=0)
        ax.axhline(LEVEL, color="0.6", linewidth=0.8, linestyle=":")
        ax.set_xscale("log", base=2)
        ax.set_ylim(-0.02, 1.02)
        ax.set_title(layout + (f", {scale} times the side" if scale > 1 else ""))
        ax.set_xlabel("nodes")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("success on far tasks")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=130)


def draw_growth(needed: list[dict[str, Any]], layout: str, path: Path) -> None:
    """Nodes that ``LEVEL`` takes against the side of the world, both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    ax = figure.subplots()
    for k, sampler in enumerate(dict.fromkeys(row["sampler"] for row in needed)):
        mine = [row for row in needed if (row["layout"], row["sampler"]) == (layout, sampler)]
        mine = sorted((r for r in mine if math.isfinite(r["nodes"])), key=lambda r: r["side"])
        if not mine:
            continue
        sides, nodes = [r["side"] for r in mine], [r["nodes"] for r in mine]
        exponent = fitted_exponent(sides, nodes)
        label = sampler if math.isnan(exponent) else f"{sampler}: side^{exponent:.1f}"
        ax.plot(sides, nodes, "o-", color=f"C{k}", label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xlabel(f"side of {layout}, steps")
    ax.set_ylabel(f"nodes for {LEVEL:g} success")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    figure.savefig(path, dpi=130)
