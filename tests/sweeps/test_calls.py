"""Functions of one's own as trials: once, on after a kill, errors told at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hierebm.sweeps.calls import run_calls
from hierebm.sweeps.files import read_rows


def counted(folder: str, name: str, fails: bool = False) -> list[tuple[str, float]]:
    """Leaves a file for each call of it."""
    print(f"{name} is at work")
    path = Path(folder) / name
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    if fails and len(path.read_text()) == 1:
        raise ValueError("no such world")
    return [(name, float("nan"))]


def results(folder: Path) -> dict[str, Path]:
    return {json.loads(p.read_text())["name"]: p.parent for p in folder.glob("*/call.json")}


def test_calls_are_made_once_and_failures_are_told_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: dict[str, Any] = {
        name: (counted, str(tmp_path), name, name == "b") for name in ("a", "b", "c")
    }
    with pytest.raises(RuntimeError, match=r"1 trial.* failed: .*no such world.*remove its result"):
        run_calls(calls, tmp_path / "out", jobs=1)
    assert (tmp_path / "c").exists(), "one that fails stops no other"
    folders = results(tmp_path / "out")
    assert (folders["a"] / "call.log").read_text() == "a is at work\n"
    (folders["b"] / "result.json").unlink()
    returned = run_calls(calls, tmp_path / "out", jobs=1)
    assert list(returned) == ["a", "b", "c"] and returned["b"][0][0] == "b"
    assert [(tmp_path / name).read_text() for name in "abc"] == ["x", "xx", "x"]
    said = capsys.readouterr().out
    assert "2 of 3 are in" in said and "b: complete (3 of 3)" in said
    # Another argument is another call, under the same name.
    other = {"a": (counted, str(tmp_path), "d")}
    assert run_calls(other, tmp_path / "out", jobs=1)["a"][0][0] == "d"


def killed(folder: str) -> int:
    """Kills its process the first time."""
    path = Path(folder) / "begun"
    if path.exists():
        return os.getpid()
    path.write_text("")
    os.kill(os.getpid(), 9)
    return 0


@pytest.mark.slow
def test_with_ray_a_killed_worker_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(tmp_path)
    # Relative to where the sweep was started, for workers too.
    calls: dict[str, Any] = {"killed": (killed, "."), "other": (counted, ".", "other")}
    returned = run_calls(calls, "out", jobs=2)
    assert returned["killed"] != os.getpid() and returned["other"][0][0] == "other"
    folders = results(tmp_path / "out")
    attempts = {n: len(read_rows(f / "attempts.jsonl")) for n, f in folders.items()}
    assert attempts == {"killed": 2, "other": 1}
