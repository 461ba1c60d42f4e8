"""Rows that were measured elsewhere take the place of those of the same case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.merging import merge


def report(rows: list[dict[str, Any]], commit: str | None = "abc", cpu: str = "A") -> Any:
    return {
        "benchmark": "sequence",
        "commit": commit,
        "machine": {"cpu": cpu, "cores": 2},
        "seeds": 1,
        "rows": rows,
    }


def row(seed: int, success: float, **what: Any) -> dict[str, Any]:
    return {"kind": "agents", "layout": "u", "seed": seed, "success": success, **what}


def test_a_row_is_replaced_by_that_of_its_case_and_says_where_it_is_from() -> None:
    old = report([row(0, 0.1), row(0, 0.2, horizon=5), row(1, 0.3)])
    merged = merge(old, [report([row(0, 0.9), row(2, 0.8)], "def", "B"), report([row(1, 0.7)])])
    assert merged["rows"] == [
        row(0, 0.9, commit="def", cpu="B"),
        row(0, 0.2, horizon=5),
        row(1, 0.7),
        row(2, 0.8, commit="def", cpu="B"),
    ]
    assert merged["seeds"] == 3 and merged["commit"] == "abc"
    # Merged again, nothing changes: rows keep their origin.
    assert merge(old, [merged]) == merged


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="no commit"):
        merge(report([]), [report([row(0, 1.0)], None)])
    with pytest.raises(ValueError, match="speed"):
        merge(report([]), [{**report([]), "benchmark": "speed"}])


def test_the_command_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, new = tmp_path / "sequence.json", tmp_path / "new.json"
    into.write_text(json.dumps(report([row(0, 0.1)])))
    new.write_text(json.dumps(report([row(0, 0.9)], None)))
    assert main(["merge", str(into), str(new), "--commit", "fed"]) == 0
    assert json.loads(into.read_text())["rows"] == [row(0, 0.9, commit="fed")]
    assert "1 rows" in capsys.readouterr().out
