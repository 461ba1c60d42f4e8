"""Tables of the sequence optimiser's benchmark."""

from __future__ import annotations

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
)

PLAN_TIMES = ("plan_ms", "plan_20_ms", "plan_100_ms")


def sequence(rows: list[Row]) -> list[str]:
    """Plans by world; agents beside the graph; what random transitions teach, and the rest."""
    keys = ("ratio", "ratio_90", "segments_free", "plans_free", "not_blocked")
    plans = [
        [
            layout + ("" if changed == "nothing" else f", {changed}"),
            f"{steps:,}",
            f"{updates:,}",
            *(each(group, key, 3) for key in keys),
            *(middle([r[k] for r in group], 3) for k in ("states", "variation")),
            *(middle([r[k] for r in group], 2, " ms") for k in PLAN_TIMES),
            middle([r["train_s"] for r in group], 2, " s"),
        ]
        for (layout, changed, steps, updates), group in grouped(
            of_kind(rows, "plans"), "layout", "changed", "env_steps", "updates", keep_order=True
        )
    ]
    columns = "layout|env steps|updates|length over shortest, median|90%|segments free|plans free"
    columns += "|plans not blocked|states|step variation|plan|20 states|100 states|training"
    result = [table(columns, plans)]
    result += titled("Agents that act on plans", _planners(of_kind(rows, "agents")))
    result += titled("A door that closes", _doors(of_kind(rows, "door")))
    result += titled(
        "Random transitions and the inverse model alone", _parts(of_kind(rows, "parts"))
    )
    result += titled("Planned against random exploration", _active(of_kind(rows, "active")))
    return result + titled("The worlds of Du et al.", _worlds(of_kind(rows, "worlds")))


def _planners(agents: list[Row]) -> str:
    keys = ("layout", "planner", "horizon")
    lines = []
    for (layout, planner, horizon), group in grouped(agents, *keys, keep_order=True):
        line = [
            layout,
            planner + ("" if horizon is None else f", {horizon} states"),
            f"{group[0]['env_steps']:,}",
            each(group, "success", 3),
            interval(group),
            middle([r["steps"] for r in group], 3),
        ]
        if horizon is None and "path_ratio" in group[0]:
            line += [joined([r["path_ratio"] for r in group], 3), each(group, "plans_free", 2)]
            line.append(middle([r["plan_ms"] for r in group], 2, " ms"))
        lines.append([*line, *[""] * (9 - len(line))])
    columns = "layout|planner|env steps|success|95%|steps to goal|length over shortest, median"
    return table(f"{columns}|plans free of walls|plan", lines)


def _doors(rows: list[Row]) -> str:
    lines = [
        [layout, planner, when, each(group, "success", 2), interval(group)]
        for (layout, planner, when), group in grouped(
            rows, "layout", "planner", "when", keep_order=True
        )
    ]
    return table("layout|planner|measured|success across the closed door|95%", lines)


def _parts(rows: list[Row]) -> str:
    lines = []
    for (layout, steps, changed), group in grouped(
        rows, "layout", "env_steps", "changed", keep_order=True
    ):
        halves = [[r for r in group if r["map"] is with_map] for with_map in (True, False)]
        cells = [cell for half in halves for cell in (each(half, "success", 2), interval(half))]
        lines.append([layout, f"{steps:,}", changed, *cells])
    columns = "layout|random transitions|changed|success with the transition map|95%"
    return table(f"{columns}|with the energy alone|95%", lines)


def _active(rows: list[Row]) -> str:
    lines = [
        [layout, "one" if one else "any", way, f"{steps:,}", each(group, "success", 2),
         interval(group)]
        for (layout, one, way, steps), group in grouped(
            rows, "layout", "one_start", "way", "env_steps", keep_order=True
        )
    ]  # fmt: skip
    return table("layout|start|exploration|env steps|success|95%", lines)


def _worlds(rows: list[Row]) -> str:
    lines = [
        [
            world,
            f"{steps:,}",
            " / ".join(str(r["steps"]) if r["arrived"] else "missed" for r in group),
            joined([r["walked"] for r in group], 2),
            number(group[0]["shortest"], 3),
        ]
        for (world, steps), group in grouped(rows, "world", "env_steps", keep_order=True)
    ]
    return table("world|random transitions|steps to the goal|length walked|shortest", lines)
