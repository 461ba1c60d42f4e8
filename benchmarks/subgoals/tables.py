"""The tables of the subgoal benchmark for the documentation."""

from __future__ import annotations

from statistics import fmean

from benchmarks.markdown import (
    Row,
    each,
    grouped,
    interval,
    joined,
    middle,
    number,
    of_kind,
    table,
    titled,
    world_name,
)


def subgoals(rows: list[Row]) -> list[str]:
    """Training, nodes, plans, edges and remedies."""
    return [
        *titled("The default agent while it learns", _while_learning(rows)),
        *titled("Nodes that a success of .9 takes", _nodes_needed(rows)),
        *titled("Success by number of nodes, mean over seeds", *_success_by_nodes(rows)),
        *titled("What one plan costs", _plans(rows)),
        *titled("Soundness of edges", _soundness(rows)),
        *titled("Nodes of the path of fewest hops, nine tasks in ten", _bound(rows)),
        *titled("Remedies switched off at evaluation", _ablation(rows)),
        *titled("Remedies switched off while learning", _without(rows)),
    ]


def _while_learning(rows: list[Row]) -> str:
    complete = [row for row in of_kind(rows, "from scratch") if not row["without"]]
    lines = []
    for (layout, scale), group in grouped(complete, "layout", "scale"):
        # The newest version that was run there; of runs that were cut short, the longest ones.
        newest = max(_is_newest(row) for row in group)
        chosen = [row for row in group if _is_newest(row) == newest]
        longest = max(row["env_steps"][-1] for row in chosen)
        chosen = [row for row in chosen if row["env_steps"][-1] == longest]
        quarters = zip(*(row["success"] for row in chosen), strict=True)
        lines.append(
            [
                world_name(layout, scale) + ("" if newest else " (earlier version)"),
                f"{longest:,}",
                middle([row["train_cpu_s"] for row in chosen], 3, " s"),
                *(joined(values, 2) for values in quarters),
                joined([row["path_ratio"][-1] for row in chosen], 2),
            ]
        )
    return table(
        "world|env steps|training, processor time|success after a quarter|half|three quarters|all"
        "|path over shortest",
        lines,
    )


def _is_newest(row: Row) -> bool:
    """Whether experience could lengthen edges in that run, as it does in every release."""
    return bool(row.get("experience_lengthens", True))


def _nodes_needed(rows: list[Row]) -> str:
    needed = of_kind(rows, "nodes needed")
    worlds = [world for world, _ in grouped(needed, "layout", "scale")]
    nodes = {(row["sampler"], row["layout"], row["scale"]): _needed(row) for row in needed}
    exponents = {row["sampler"]: number(row["exponent"], 3) for row in of_kind(rows, "growth")}
    lines = [
        [
            sampler,
            *(nodes.get((sampler, *world), "") for world in worlds),
            exponents.get(sampler, ""),
        ]
        for sampler in sorted({row["sampler"] for row in needed}, key=_sampler_order)
    ]
    names = "|".join(world_name(*world) for world in worlds)
    return table(f"sampler|{names}|grows like side^", lines)


def _needed(row: Row) -> str:
    return number(row["nodes"], 2) or f"never ({number(row['best'], 2)} at most)"


def _success_by_nodes(rows: list[Row]) -> list[str]:
    # The agent's own evaluation, after training, is no sweep.
    cells = [row for row in of_kind(rows, "success") if row["sampler"] != "agent"]
    tables = []
    for (layout, scale), group in grouped(cells, "layout", "scale"):
        columns = sorted({row["nodes"] for row in group})
        lines = []
        for sampler in sorted({row["sampler"] for row in group}, key=_sampler_order):
            rates = [
                [r["success"] for r in group if (r["sampler"], r["nodes"]) == (sampler, nodes)]
                for nodes in columns
            ]
            lines.append([sampler, *(f"{fmean(r):.2f}" if r else "" for r in rates)])
        tables.append(table("|".join([world_name(layout, scale), *map(str, columns)]), lines))
    return tables


def _plans(rows: list[Row]) -> str:
    plans = of_kind(rows, "plan time")
    widths = [key for key in (plans[0] if plans else {}) if key.startswith("plan_ms_")]
    lines = [
        [
            world_name(row["layout"], row["scale"]),
            row["sampler"],
            str(row["nodes"]),
            number(row["asked"], 4),
            *(number(row[key], 2) for key in ("plan_ms", *widths)),
        ]
        for row in sorted(
            plans, key=lambda r: (r["layout"], r["scale"], _sampler_order(r["sampler"]))
        )
    ]
    names = [f"ms, critics of {key.removeprefix('plan_ms_')} units besides" for key in widths]
    return table("|".join(["world|sampler|nodes|pairs asked|ms", *names]), lines)


def _soundness(rows: list[Row]) -> str:
    groups = grouped(of_kind(rows, "soundness"), "layout", "scale", "edges", keep_order=True)
    lines = []
    for (layout, scale, edges), group in groups:
        # The bands within are in the JSON.
        if not edges.startswith("0 to") or not all(row["n"] for row in group):
            continue
        percent = [
            joined([100 * row[key] for row in group], 2)
            for key in ("underestimated", "verified", "underestimated_verified")
        ]
        count = f"{sum(row['n'] for row in group):,}"
        errors = each(group, "error_median", 1)
        lines.append([world_name(layout, scale), edges, count, *percent, errors])
    columns = "world|predicted steps|edges|underestimated, %|verified, %"
    return table(f"{columns}|underestimated of the verified, %|median error, steps", lines)


def _bound(rows: list[Row]) -> str:
    lines = [
        [world_name(*world), each(group, "nodes", 0), each(group, "joined", 2)]
        for world, group in grouped(of_kind(rows, "bound"), "layout", "scale")
    ]
    return table("world|nodes|tasks with a path", lines)


def _ablation(rows: list[Row]) -> str:
    groups = grouped(of_kind(rows, "ablation"), "layout", "scale", "off", keep_order=True)
    lines = [
        [
            world_name(layout, scale),
            off,
            each(group, "success", 2),
            interval(group),
            each(group, "path_ratio", 2),
        ]
        for (layout, scale, off), group in groups
    ]
    return table("world|off|success|95%|path over shortest", lines)


def _without(rows: list[Row]) -> str:
    chosen = [row for row in of_kind(rows, "from scratch") if row["without"]]
    lines = []
    for row in sorted(chosen, key=lambda r: (r["layout"], r["seed"], r["without"])):
        steps = zip(row["env_steps"], row["success"], strict=True)
        lines.append(
            [
                world_name(row["layout"], row["scale"]),
                str(row["seed"]),
                row["without"],
                ", ".join(f"{rate:.2f} ({n:,})" for n, rate in steps),
            ]
        )
    return table("world|seed|off|success (after steps)", lines)


def _sampler_order(name: str) -> tuple[int, str]:
    """Bisection and energy first, then by name."""
    return (-2 if "bisection" in name else -1 if name == "ebm" else 0), name
