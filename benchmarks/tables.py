"""The committed results as Markdown: ``python -m benchmarks tables [--results DIR] [--out FILE]``.

Reads ``DIR/NAME.json`` of every benchmark and writes one page: a section a benchmark, with the
command, commit and machine that the file names, then its tables. Needs no torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import (
    Row,
    each,
    first_at,
    grouped,
    interval,
    middle,
    number,
    table,
    titled,
)
from benchmarks.ogbench.tables import ogbench
from benchmarks.robotics.tables import robotics
from benchmarks.sequence_tables import sequence
from benchmarks.subgoals.tables import subgoals

RESULTS, OUT = Path("benchmarks/results"), Path("docs/results.md")

WORDS = {"auto": "default", "-": ""}
"""Values in rows that a reader would not understand, and what the page says instead."""
SUCCESS_OF_CURVES = 0.9
"""Learning curves are told by when they first come to this."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tables", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--out", type=Path, default=OUT, help="the page to write")
    args = parser.parse_args(argv)
    text = page(args.results, args.out)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text)
    print(f"wrote {args.out}")
    return 0


def page(results: Path, out: Path) -> str:
    """The whole page, for a file at ``out`` (pictures are linked relative to it).

    Raises:
        FileNotFoundError: no benchmark has a JSON file in ``results``.
    """
    parts = [
        "# Results",
        "Generated from the committed JSON by `python -m benchmarks tables`; do not edit by hand. "
        "What was tried and why is in [experiments](experiments/README.md); terms are in the "
        "[glossary](glossary.md). Values of several seeds are given by seed (a / b / c) or as "
        "their median; intervals are 95% Wilson intervals, from the lowest to the highest end of "
        "all seeds.",
    ]
    found = [name for name in SECTIONS if (results / f"{name}.json").is_file()]
    if not found:
        raise FileNotFoundError(f"{results} holds no {', '.join(f'{n}.json' for n in SECTIONS)}")
    for name in found:
        report = json.loads((results / f"{name}.json").read_text())
        title, section = SECTIONS[name]
        parts += [f"## {title}", _origin(name, report), *section(_in_words(report["rows"]))]
        parts += [
            f"![{path.stem}]({os.path.relpath(path, out.parent)})"
            for path in sorted(results.glob(f"{name}*.png"))
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(name: str, report: dict[str, Any]) -> str:
    machine = report["machine"]
    quick = f" --quick --seeds {report['seeds']}" if report.get("quick") else ""
    lines = [
        f"`python -m benchmarks {name}{quick}`, commit {report['commit']}, {machine['cpu']}, "
        f"{machine['cores']} cores, torch {machine['torch']}, seeds: {report['seeds']}"
    ]
    if report.get("wall_s"):
        lines.append(f", {report['wall_s'] / 60:.0f} minutes")
    if report.get("note"):
        lines.append(f"; {report['note']}")
    return "".join(lines) + "."


def _in_words(rows: Iterable[Row]) -> list[Row]:
    """Rows with ``WORDS`` in place of their values."""
    return [
        {
            k: WORDS.get(value, value) if isinstance(value, str) else value
            for k, value in row.items()
        }
        for row in rows
    ]


# ------------------------------------------------------------------------------- benchmarks


def learning(rows: list[Row]) -> list[str]:
    """One line a layout and agent."""
    lines = []
    for (layout, method), group in grouped(rows, "layout", "method"):
        first = [first_at(row["curve"], SUCCESS_OF_CURVES) for row in group]
        lines.append(
            [
                layout + (", far tasks" if group[0].get("distance") else ""),
                method,
                f"{group[0]['env_steps']:,}",
                middle([row["wall_s"] for row in group], 3, " s"),
                each(group, "success", 3),
                interval(group),
                " / ".join("-" if x is None else f"{x[0]:,}" for x in first),
                " / ".join("-" if x is None else number(x[1], 2) for x in first),
                middle([row["steps"] for row in group], 2),
                each(group, "path_ratio", 3),
                each(group, "saddle_nats", 2),
            ]
        )
    columns = "layout|agent|env steps|training|success|95%|steps to .9|seconds to .9|steps to goal"
    return [table(f"{columns}|path over shortest|saddle, nats", lines)]


def energy(rows: list[Row]) -> list[str]:
    """Densities against real data; the spiral under every recipe; special targets."""
    plane = [row for row in rows if row.get("tv") is not None]
    real = {r["density"]: r for r in plane if r["objective"] == "(real data)"}
    default = [r for r in plane if (r["objective"], r["sampler"]) == ("info_nce", "default")]
    columns = "precision|total variation|coverage|log p correlation / slope|training|64 samples"
    densities = [[r["density"], *_density(r, real.get(r["density"]))] for r in default]
    recipes = [
        [r["objective"], r["sampler"], *_density(r)]
        for r in plane
        if r["density"] == "spiral" and r["objective"] != "(real data)"
    ]
    special = {
        "upper_share": "upper branch, share",
        "both_branches": "both branches, share of x",
        "saddle_nats": "mid-path saddle, nats",
        "ess": "effective candidates",
        "speedup": "times autograd's speed",
    }
    others = [
        [
            r["density"],
            r["objective"],
            r["sampler"],
            number(r.get("precision"), 3),
            number(r.get("coverage"), 3),
            number(r.get("sample_ms"), 3),
            ", ".join(f"{name} {number(r[k], 2)}" for k, name in special.items() if k in r),
        ]
        for r in rows
        if r.get("tv") is None
    ]
    other_columns = "target|objective|sampler|precision|coverage|ms|besides"
    return [
        *titled(
            "Densities, default recipe (in brackets: real data)",
            table(f"density|{columns}", densities),
        ),
        *titled("The spiral under every recipe", table(f"objective|sampler|{columns}", recipes)),
        *titled("Branches, valleys, rings, steps", table(other_columns, others)),
    ]


def _density(row: Row, real: Row | None = None) -> list[str]:
    def against(key: str) -> str:
        given = "" if real is None else f" ({number(real[key], 3)})"
        return number(row[key], 3) + given

    return [
        against("precision"),
        against("tv"),
        number(row["coverage"], 3),
        f"{number(row['logp_corr'], 3)} / {number(row['logp_slope'], 3)}",
        number(row["train_s"], 3) + " s",
        number(row["sample_ms"], 3) + " ms",
    ]


def speed(rows: list[Row]) -> list[str]:
    """Ours against each peer; what has no peer; planning time by nodes."""
    by_nodes = [row for row in rows if row["what"] == "planning time"]
    lines = []
    for row in (r for r in rows if r not in by_nodes):
        ratio = row["ratio"] if row["peer"] is not None else None
        spread = (
            ""
            if ratio is None or row["ratio_min"] is None
            else (f" ({number(row['ratio_min'], 3)} to {number(row['ratio_max'], 3)})")
        )
        unit = row["unit"]
        missed = ", **missed**" if row["met"] is False else ""
        lines.append(
            [
                row["what"],
                row["against"] or "",
                f"{number(row['ours'], 3)} {unit}",
                "" if row["peer"] is None else f"{number(row['peer'], 3)} {unit}",
                number(ratio, 3) + spread,
                (row["target"] or "") + missed,
                number(row["of_floor"], 3),
            ]
        )
    times = [[str(row["nodes"]), number(row["ours"], 2)] for row in by_nodes]
    return [
        table("what|against|ours|peer|ratio|target|times the floor", lines),
        *titled("Planning time by nodes, ms", table("nodes|ms a plan", times)),
    ]


def sb3_low_level(rows: list[Row]) -> list[str]:
    """One line a way to use the model."""
    lines = [
        [
            method,
            f"{group[0]['env_steps']:,}",
            middle([row["wall_s"] for row in group], 3, " s"),
            each(group, "success", 2),
            interval(group),
            middle([row["steps"] for row in group], 2),
            each(group, "near_success", 2),
            each(group, "error_near", 2),
            each(group, "error_farther", 2),
        ]
        for (method,), group in grouped(rows, "method", keep_order=True)
    ]
    columns = (
        "agent|env steps|training|success, far tasks|95%|steps to goal|model alone, near tasks"
    )
    errors = "predicted minus true steps, edges up to 8|8 to 20"
    return [table(f"{columns}|{errors}", lines)]


def reliability(rows: list[Row]) -> list[str]:
    """One line a case; how the long run went in its ten parts."""
    lines = [
        [
            row["what"],
            row["case"],
            f"{row['tried']:,}",
            str(row["losses"]),
            row["outcomes"],
            number(row.get("worst_s"), 2),
            number(row.get("worst_mb"), 2),
            number(row["wall_s"], 2),
        ]
        for row in rows
    ]
    columns = "what|case|tried|lost|what became of them|slowest, s|most memory, MB|time, s"
    result = [table(columns, lines)]
    for row in rows:
        if "us_per_step" in row:
            parts = [
                ["memory, MB", *(number(x, 4) for x in row["rss_mb"])],
                ["us a step", *(number(x, 3) for x in row["us_per_step"])],
                ["open files", *map(str, row["open_files"])],
            ]
            names = "|".join(["part", *map(str, range(1, 1 + len(row["rss_mb"])))])
            result += titled(f"The long run, {row['case']}", table(names, parts))
    return result


def luck(rows: list[Row]) -> list[str]:
    """One line a world, in it both planners; worlds without luck in a table of their own."""
    learned = [row for row in rows if "seed" in row]
    columns = "world|planner|env steps|success|95%|steps to goal|reference|ratio|95%|both solved"
    result = []
    for lucky, title in ((True, "Worlds of luck"), (False, "Worlds without luck")):
        lines = [
            [
                world,
                "default" if method == "hierarchical" else method,
                f"{group[0]['env_steps']:,}",
                each(group, "success", 2),
                interval(group),
                each(group, "steps", 1),
                number(group[0]["reference_steps"], 3),
                each(group, "ratio", 2),
                interval(group, "ratio_ci95"),
                each(group, "ratio_solved", 2),
            ]
            for (world, method), group in grouped(
                [row for row in learned if row["lucky"] == lucky], "world", "method"
            )
        ]
        result += titled(title, table(columns, lines))
    return result


SECTIONS: dict[str, tuple[str, Callable[[list[Row]], list[str]]]] = {
    "learning": ("Learning", learning),
    "robotics": ("Robotics and maze worlds", robotics),
    "ogbench": ("OGBench's offline point mazes", ogbench),
    "subgoals": ("Subgoals", subgoals),
    "luck": ("Worlds where luck decides", luck),
    "energy": ("Energies", energy),
    "sequence": ("Sequence optimiser", sequence),
    "sb3_low_level": ("Stable-Baselines3's SAC as low level", sb3_low_level),
    "reliability": ("Reliability", reliability),
    "speed": ("Speed", speed),
}
