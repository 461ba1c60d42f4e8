"""Runs of a benchmark: by commit, once, and side by side where Ray is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks import trials
from benchmarks.installed import installed


@pytest.mark.parametrize(
    ("before", "now", "again"),
    [("abc", "abc", False), ("abc", "abd", True), ("abc+", "abc+", True)],
)
def test_rows_of_other_code_are_measured_again(
    before: str, now: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {"of a list": (sorted, (3, 1))}
    monkeypatch.setattr(trials, "commit", lambda: before)
    folder = trials.folder_of(tmp_path, "some")
    assert trials.rows_of(jobs, folder, 1) == {"of a list": [1, 3]}
    (first,) = folder.glob("*/result.json")
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(trials, "commit", lambda: now)
    folder = trials.folder_of(tmp_path, "some")
    assert trials.rows_of(jobs, folder, 1) == {"of a list": [1, 3]}
    (last,) = folder.glob("*/result.json")
    assert (last.stat().st_mtime_ns != written) == again
    assert first.exists() or before.endswith("+"), "hours of work are not thrown away"


def test_each_run_has_one_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(trials, "available_cores", lambda: 7)
    for there, at_once in ((False, 1), (True, 7)):
        monkeypatch.setattr(trials, "installed", lambda name, there=there: there)
        assert trials.side_by_side() == at_once
    assert os.environ["OMP_NUM_THREADS"] == "1" and torch.get_num_threads() == 1
    assert capsys.readouterr().out.count("one run at a time: pip install") == 1


def test_a_folder_with_the_name_of_a_library_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("libraryless", "libraryful"):
        (tmp_path / name).mkdir()
    (tmp_path / "libraryful" / "__init__.py").touch()
    there = {name: installed(name) for name in ("libraryless", "libraryful", "unheard_of")}
    assert there == {"libraryless": False, "libraryful": True, "unheard_of": False}
