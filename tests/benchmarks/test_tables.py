"""The documentation's tables come from the committed JSON, and from nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__, tables
from benchmarks.markdown import number, table

ROOT = Path(__file__).parents[2]


def write(folder: Path, name: str, rows: list[dict[str, Any]], **entries: Any) -> None:
    report = {
        "benchmark": name,
        "commit": "abc1234",
        "machine": {"cpu": "A CPU", "cores": 2, "torch": "2.0"},
        "seeds": 2,
        "rows": rows,
    }
    (folder / f"{name}.json").write_text(json.dumps(report | entries))


def test_the_committed_page_is_what_the_committed_results_give() -> None:
    assert (ROOT / "docs/results.md").read_text() == tables.page(
        ROOT / "benchmarks/results", ROOT / "docs/results.md"
    ), "run `python -m benchmarks tables`"


def learning_row(seed: int, success: float, curve: list[list[float]]) -> dict[str, Any]:
    row = {"method": "flat", "layout": "u", "distance": [1, 2], "seed": seed, "env_steps": 9000}
    row |= {"wall_s": 10.0 + seed, "success": success, "ci95": [success - 0.1, success + 0.05]}
    return row | {"steps": 40.0 + 10 * seed, "curve": curve}


def test_seeds_are_in_order_and_curves_tell_when_they_first_come_to_nine_tenths(
    tmp_path: Path,
) -> None:
    fast, never = [[0, 0.0, 0.0], [1000, 2.5, 0.9], [2000, 5.0, 0.8]], [[0, 0.0, 0.89]]
    rows = [learning_row(1, 0.5, never), learning_row(0, 0.75, fast)]
    write(tmp_path, "learning", rows, quick=True, wall_s=120.0)
    (tmp_path / "learning.png").touch()
    out = tmp_path / "docs" / "results.md"
    assert __main__.main(["tables", "--results", str(tmp_path), "--out", str(out)]) == 0
    text = out.read_text()
    assert "`python -m benchmarks learning --quick --seeds 2`, commit abc1234, A CPU" in text
    assert "2 minutes" in text and "![learning](../learning.png)" in text
    line = next(line for line in text.splitlines() if "flat" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        *("u, far tasks", "flat", "9,000", "10.5 s", "0.750 / 0.500", "0.40 to 0.80"),
        *("1,000 / -", "2.5 / -", "45"),
    ]
    assert "saddle" not in text, "columns without a value are left out"
    assert "Speed" not in text, "and so are benchmarks without a file"


def test_subgoal_rows_become_tables_of_edges_and_samplers(tmp_path: Path) -> None:
    world = {"layout": "large", "scale": 2, "seed": 0}
    edges = {"kind": "soundness", **world, "edges": "0 to 8", "n": 1000, "error_median": -1.5}
    edges |= {"underestimated": 0.05, "verified": 0.9, "underestimated_verified": 0.0}
    cell = {"kind": "success", **world, "sampler": "bisection", "nodes": 4, "success": 0.5}
    needed = {"kind": "nodes needed", **world, "sampler": "cvae", "nodes": None, "best": 0.8}
    write(tmp_path, "subgoals", [edges, cell, cell | {"seed": 1, "success": 1.0}, needed])
    text = tables.page(tmp_path, tmp_path / "results.md")
    assert "| large, side x2 | 0 to 8 | 1,000 | 5.00 | 90.00 | 0.00 | -1.5 |" in text
    assert "| bisection | 0.75 |" in text
    assert "| cvae | never (0.8 at most) |" in text


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"learning\.json"):
        tables.page(tmp_path, tmp_path / "results.md")


def test_numbers_have_significant_digits_and_no_exponent() -> None:
    values = (0.0, 0.00022937, 1.66227, 17.015, 1403.0, None, float("nan"))
    assert [number(v, 3) for v in values] == ["0", "0.000229", "1.66", "17", "1,403", "", ""]
    assert table("a|b", []) == ""


def test_torch_is_not_needed() -> None:
    code = "import sys, benchmarks.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_a_sequence_is_measured_by_has_a_table_each(tmp_path: Path) -> None:
    keys = ("ratio", "ratio_90", "segments_free", "plans_free", "not_blocked", "states")
    keys += ("variation", "plan_ms", "plan_20_ms", "plan_100_ms", "train_s")
    what = {"layout": "u", "env_steps": 10, "seed": 0}
    plan = {"kind": "plans", **what, "updates": 7, **dict.fromkeys(keys, 0.25)}
    rows = [{**plan, "changed": changed} for changed in ("nothing", "no Langevin steps")]
    tried = {**what, "success": 0.875, "ci95": [0.8, 0.9], "steps": 30}
    agent = {"kind": "agents", **tried, "path_ratio": 1.0625, "plans_free": 1.0, "plan_ms": 9}
    rows += [{**agent, "planner": planner, "horizon": None} for planner in ("graph", "sequence")]
    rows.append({"kind": "agents", **tried, "planner": "sequence", "horizon": 5})
    rows.append({"kind": "door", **tried, "planner": "graph", "when": "at once"})
    for with_map, success in ((True, 0.5), (False, 0.25)):
        row = {"kind": "parts", **tried, "changed": "squared loss", "map": with_map}
        rows.append({**row, "success": success})
    rows.append({"kind": "active", **tried, "one_start": True, "way": "planned"})
    world = {"kind": "worlds", "world": "Maze", "env_steps": 60, "steps": 200, "walked": 7.25}
    for seed, arrived in enumerate((True, False)):
        rows.append({**world, "seed": seed, "arrived": arrived, "shortest": 6.5})
    write(tmp_path, "sequence", rows)
    text = tables.page(tmp_path, tmp_path / "results.md")
    plans, agents, door, parts, active, worlds = text.split("### ")
    assert (
        plans.count("0.250") == 10
        and "| u, no Langevin steps | 10 |" in plans
        and "0.25 ms" in plans
        and "0.875" not in plans
    )
    assert agents.count("0.875") == 3 and agents.count("1.062") == 2
    assert "| u | sequence, 5 states | 10 | 0.875 | 0.80 to 0.90 | 30 |  |  |  |" in agents
    assert "| u | graph | at once | 0.88 |" in door
    assert "squared loss | 0.50 | 0.80 to 0.90 | 0.25 | 0.80 to 0.90 |" in parts
    assert "| u | one | planned | 10 | 0.88 |" in active
    assert "| Maze | 60 | 200 / missed | 7.25 / 7.25 | 6.5 |" in worlds
