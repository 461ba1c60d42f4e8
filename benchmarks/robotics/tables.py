"""The benchmark of robotics worlds as Markdown tables."""

from __future__ import annotations

from benchmarks.markdown import Row, each, first_at, grouped, interval, middle, number, table

LEVELS = (0.9, 0.99)
"""Learning curves are told by when they first come to these."""


def robotics(rows: list[Row]) -> list[str]:
    """One line a world with what is asked there; one line a world and method with what came of it.

    Steps and seconds to a level are those of success at the end of the episode.
    """
    return [
        table(
            "world|environment|episodes|time limit|env steps|actions held for",
            [
                [
                    world,
                    group[0]["env"],
                    group[0]["episodes"],
                    f"{group[0]['limit']}",
                    f"{min(row['env_steps'] for row in group):,}",
                    _held(group),
                ]
                for (world,), group in grouped(rows, "world", keep_order=True)
            ],
        ),
        table(
            "world|method|success at the end|95%|ever reached|steps to .9|seconds to .9"
            "|steps to .99|seconds to .99|training|episode length",
            [
                _line(world, method, group)
                for (world, method), group in grouped(rows, "world", "method", keep_order=True)
            ],
        ),
        table(
            "world|a plan|ever reached with 16 nodes by recursive bisection|a plan of those",
            [
                [
                    world,
                    _plan_ms(group),
                    each(group, "few_nodes", 2),
                    middle([row["few_plan_ms"] for row in group], 2, " ms"),
                ]
                for (world,), group in grouped(
                    [row for row in rows if "few_nodes" in row], "world", keep_order=True
                )
            ],
        ),
        "Actions are held for as many environment steps as our agents choose to in that world, for "
        "everybody. All learn online and from scratch; figures of OGBench's paper are those of "
        "offline learning from its data sets and cannot be ranked with these.",
    ]


def _plan_ms(rows: list[Row]) -> str:
    known = [row["plan_ms"] for row in rows if "plan_ms" in row]
    return middle(known, 2, " ms") if known else ""


def _held(rows: list[Row]) -> str:
    repeats = sorted({row["action_repeat"] for row in rows})
    return f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"


def _line(world: str, method: str, group: list[Row]) -> list[str]:
    times: list[str] = []
    for level in LEVELS:
        first = [first_at(row["curve"], level) for row in group]
        times.append(" / ".join("-" if x is None else f"{x[0]:,}" for x in first))
        times.append(" / ".join("-" if x is None else number(x[1], 2) for x in first))
    differs = any(row["success"] != row["reached"] for row in group)
    return [
        world,
        method,
        each(group, "success", 2),
        interval(group),
        each(group, "reached", 2) if differs else "",
        *times,
        middle([row["cpu_s"] for row in group], 3, " s"),
        middle([row["steps"] for row in group], 2),
    ]
