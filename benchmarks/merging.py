"""Rows of several runs in one file: ``python -m benchmarks merge INTO FILE... [--commit C]``.

For cases that were measured side by side, or on another machine. Each row that comes from another
commit or processor than the file tells of says so itself, in ``commit`` and ``cpu``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[tuple[str, Any], ...]

SAME = (
    "kind", "layout", "world", "planner", "method", "horizon", "when", "changed", "map",
    "one_start", "way", "env_steps", "seed",
)  # fmt: skip
"""What a row is known again by."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, merge, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks merge", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("into", type=Path, help="the JSON file whose rows are replaced")
    parser.add_argument("files", type=Path, nargs="+", help="the JSON files with new rows")
    parser.add_argument("--commit", help="of files that tell of none")
    args = parser.parse_args(argv)
    reports = [json.loads(path.read_text()) for path in (args.into, *args.files)]
    merged = merge(reports[0], reports[1:], args.commit)
    args.into.write_text(json.dumps(merged, indent=1) + "\n")
    print(f"wrote {args.into}: {len(merged['rows'])} rows")
    return 0


def merge(report: Row, others: Sequence[Row], commit: str | None = None) -> Row:
    """A report with the rows of others: in place of its own of the same case, or after them.

    Args:
        commit: of reports that tell of none.

    Raises:
        ValueError: a report is of another benchmark, or nobody knows its commit.
    """
    rows: dict[Key, Row] = {_key(row): row for row in report["rows"]}
    for other in others:
        measured = other["commit"] or commit
        if other["benchmark"] != report["benchmark"]:
            raise ValueError(f"{other['benchmark']!r} is not {report['benchmark']!r}")
        if measured is None:
            raise ValueError("a report tells of no commit: say which it is of")
        origin = {"commit": measured, "cpu": other["machine"]["cpu"]}
        known = {"commit": report["commit"], "cpu": report["machine"]["cpu"]}
        told = {key: value for key, value in origin.items() if value != known[key]}
        rows |= {_key(row): {**told, **row} for row in other["rows"]}
    seeds = {row["seed"] for row in rows.values() if "seed" in row}
    return {**report, "seeds": len(seeds), "rows": list(rows.values())}


def _key(row: Row) -> Key:
    return tuple((name, row[name]) for name in SAME if name in row)
