"""Run one benchmark: ``python -m benchmarks NAME [--quick] [--seeds N] [--out DIR]``.

Prints its table and writes ``DIR/NAME.json`` and a picture. ``python -m benchmarks tables`` writes
the tables of the documentation from such files; ``python -m benchmarks merge`` puts the rows of
several of them together.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import merging, tables
from benchmarks.provenance import commit, machine

# Before torch is imported: waiting threads must sleep, or two runs on one machine ruin both.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BENCHMARKS = {
    "learning": (
        "benchmarks.learning",
        "curves and final success: our agents, SORB-style, SB3's DDPG+HER",
    ),
    "subgoals": (
        "benchmarks.subgoals.run",
        "success against the number of subgoals, by sampler, world and remedy",
    ),
    "robotics": (
        "benchmarks.robotics.run",
        "curves in PointMaze, OGBench's mazes, FetchReach and four_rooms, against SB3's agents",
    ),
    "ogbench": (
        "benchmarks.ogbench.run",
        "OGBench's offline point mazes, learned from data made by its recipe",
    ),
    "luck": (
        "benchmarks.luck",
        "success and paths where luck decides, against a planner that knows the chances",
    ),
    "axes": ("benchmarks.axes", "what the transition map is worth where goals have six axes"),
    "energy": ("benchmarks.energy.run", "energies, objectives and samplers on toy densities"),
    "sequence": (
        "benchmarks.sequence",
        "plans of the sequence optimiser: length, feasibility, time",
    ),
    "sb3_low_level": (
        "benchmarks.sb3_low_level",
        "Stable-Baselines3's SAC+HER alone and as low level of our agent",
    ),
    "reliability": (
        "benchmarks.reliability.run",
        "kills, interrupts, damaged files, faults, full disks: what was lost",
    ),
    "two_cores": ("benchmarks.two_cores", "four trials of a sweep with one worker and with two"),
    "speed": (
        "benchmarks.speed.run",
        "times against Stable-Baselines3, plain modules and the arithmetic floor",
    ),
}
"""Name -> the module with its ``run``, and what it measures."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run, print, write."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["tables"]:
        return tables.main(argv[1:])
    if argv[:1] == ["merge"]:
        return merging.main(argv[1:])
    names = "\n".join(f"  {name:13} {text}" for name, (_, text) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.splitlines()[0],
        epilog=f"benchmarks:\n{names}\n\n"
        "tables [--results DIR] [--out FILE] writes docs/results.md from the JSON files\n"
        "merge INTO FILE... replaces rows of a JSON file by those of others",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a small version, within 5 minutes")
    parser.add_argument("--seeds", type=int, default=None, help="seeds (default: the benchmark's)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="output folder")
    parser.add_argument(
        "--data", type=Path, default=None, help="ogbench: folder of data sets (default: under DIR)"
    )
    parser.add_argument(
        "--device", default=None, help="speed: measure on this device, as cuda (default: the CPU)"
    )
    parser.add_argument(
        "--only",
        metavar="CASE",
        action="append",
        default=None,
        help="sequence: run this case and no other, given by its name (a wrong one lists them); "
        "may be repeated",
    )
    args = parser.parse_args(argv)
    if args.only is not None and args.name != "sequence":
        parser.error("--only is an option of sequence only")
    if args.device is not None and args.name != "speed":
        parser.error("--device is an option of speed only")
    if args.data is not None and args.name != "ogbench":
        parser.error("--data is an option of ogbench only")
    if args.seeds is not None and args.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {args.seeds}")
    args.out.mkdir(parents=True, exist_ok=True)
    started, measured = time.perf_counter(), commit()
    run = import_module(BENCHMARKS[args.name][0]).run
    given = {k: v for k in ("data", "device", "only") if (v := getattr(args, k)) is not None}
    rows = run(quick=args.quick, seeds=args.seeds, out=args.out, **given)
    for kind in dict.fromkeys(row.get("kind") for row in rows):
        print(table([row for row in rows if row.get("kind") == kind]), end="\n\n")
    report = {
        "benchmark": args.name,
        "commit": measured,
        "machine": machine(),
        "seeds": args.seeds or len({row["seed"] for row in rows if "seed" in row}) or None,
        "quick": args.quick,
        "wall_s": round(time.perf_counter() - started, 1),
        "rows": rows,
    }
    # Figures of a GPU stand beside those of the CPU.
    name = args.name if args.device in (None, "cpu") else f"{args.name}_{args.device}"
    path = args.out / f"{name.replace(':', '')}.json"
    path.write_text(json.dumps(_finite(report), indent=1) + "\n")
    print(f"wrote {path}")
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as an aligned text table, curves left out; columns in order of first appearance."""
    columns = [key for key in dict.fromkeys(k for row in rows for k in row) if key != "curve"]
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, (list, tuple)):
        return "-".join(_cell(v) for v in value)
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    sys.exit(main())
