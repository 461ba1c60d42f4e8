"""The benchmark of OGBench's offline point mazes as Markdown tables."""

from __future__ import annotations

from statistics import mean, median

from benchmarks.markdown import Row, each, grouped, interval, middle, number, of_kind, table, titled


def ogbench(rows: list[Row]) -> list[str]:
    """Ours beside what was published; then one line a data set and variant."""
    theirs = of_kind(rows, "published")
    ours = [row for row in rows if row["kind"] != "published"]
    return [
        _protocol(ours),
        _beside(ours, theirs),
        *titled("By variant and task", _variants(ours)),
    ]


def _protocol(ours: list[Row]) -> str:
    episodes = ours[0]["episodes"] // len(ours[0]["tasks"])
    made = any(row["source"] == "made again" for row in ours)
    again = (
        "Data made again by OGBench's recipe: the same distribution, not the same file. "
        if made
        else ""
    )
    return (
        f"{again}Success in OGBench's five tasks a maze, {episodes} episodes each, 1000 steps, "
        "within 1.0 of the goal. Ours has its default settings. "
        "All are means over seeds; published figures come from OGBench's own files: "
        "its six methods after a million updates; MCTD with a controller made by hand; TTGS at "
        "second hand."
    )


def _beside(ours: list[Row], theirs: list[Row]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in theirs))
    lines = []
    for (data_set,), group in grouped(of_kind(ours, ours[0]["kind"]), "data_set", keep_order=True):
        published = {r["method"]: r["success"] for r in theirs if r["data_set"] == data_set}
        lines.append(
            [
                data_set,
                *(f"{published[m]:.2f}" if m in published else "" for m in methods),
                f"{mean(row['success'] for row in group):.3f}",
            ]
        )
    return table(f"data set|{'|'.join(methods)}|ours", lines)


def _variants(ours: list[Row]) -> str:
    return table(
        "data set|variant|transitions|updates|success|95%|worst task|episode length|training"
        "|loading|plan, median|plan, mean|nodes|plans an episode|verified|memory",
        [
            [
                data_set,
                variant,
                f"{group[0]['transitions']:,}",
                f"{group[0]['updates']:,}",
                each(group, "success", 3),
                interval(group),
                f"{min(rate for row in group for rate in row['tasks']):.2f}",
                middle([row["steps"] for row in group], 3),
                middle([row["cpu_s"] for row in group], 3, " s"),
                middle([row["load_s"] for row in group], 2, " s"),
                middle([row["plan_ms"] for row in group], 2, " ms"),
                middle([row["plan_ms_mean"] for row in group], 2, " ms"),
                number(median(row["nodes"] for row in group), 2),
                middle([row["plans"] for row in group], 2),
                f"{median(row['verified'] for row in group):.2f}",
                middle([row["memory_mb"] for row in group], 3, " MB"),
            ]
            for (data_set, variant), group in grouped(ours, "data_set", "kind", keep_order=True)
        ],
    )
