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


def test_plans_with_a_changed_setting_have_a_table_of_their_own(tmp_path: Path) -> None:
    keys = ("ratio", "ratio_90", "segments_free", "plans_free", "not_blocked")
    keys += ("states", "variation", "plan_ms", "train_s")
    rows = [
        {"layout": "u", "env_steps": 10, "seed": 0, "changed": what, **dict.fromkeys(keys, value)}
        for what, value in (("nothing", 0.25), ("one level", 0.75))
    ]
    agent = {"layout": "spiral", "env_steps": 9, "seed": 0, "success": 0.875, "ci95": [0.8, 0.9]}
    agent |= {"steps": 30, "path_ratio": 1.0625, "plans_free": 1.0, "plan_ms": 9}
    rows += [{**agent, "planner": "graph", "horizon": None}]
    rows += [{**agent, "planner": "sequence", "horizon": n} for n in (None, 5)]
    write(tmp_path, "sequence", rows)
    text = tables.page(tmp_path, tmp_path / "results.md")
    text, _, agents = text.partition("Agents that act on plans")
    assert agents.count("0.875") == 3 and "sequence, 5 states" in agents and "spiral" not in text
    first, _, second = text.partition("What each part is worth")
    assert "0.250" in first and "0.750" not in first
    assert "u, one level" in second and "0.750" in second and "0.250" not in second


@pytest.mark.parametrize("seeds", ["0", "-1"])
def test_no_seeds_are_refused_before_anything_runs(
    seeds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["ogbench", "--quick", "--seeds", seeds, "--out", str(tmp_path / "out")])
    assert "--seeds must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
