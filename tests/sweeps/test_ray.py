"""Trials side by side with the real Ray Tune: all done, once, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hierebm
from hierebm.sweeps.ray_tune import STARTS
from tests.sweeps.small import TINY, attempts, is_done, steps, trials

pytest.importorskip("ray")
pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

STUDY: dict[str, Any] = {
    **TINY,
    "seeds": "0-1",
    "total_timesteps": 1600,
    "evaluations": 8,
    "compare": {"defaults": {}},
    "search": {"actor_lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    "candidates": 2,
    "prune": False,
}
N_TRIALS = 6


def test_a_ray_that_does_not_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def init(**_: Any) -> None:
        tried.append(1)
        raise Exception("the node timed out\nduring startup")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(RuntimeError, match=r"Ray did not start .the node timed out during.*--jobs"):
        hierebm.sweep(TINY, tmp_path, jobs=2)
    assert len(tried) == STARTS > 1


def started(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "study.json").write_text(json.dumps(STUDY))
    command = [sys.executable, "-m", "hierebm", "sweep", str(folder / "study.json")]
    command += ["--out", str(folder / "out"), "--jobs", "2"]
    return subprocess.Popen(command, start_new_session=True)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    while not condition():
        assert process.poll() is None and time.monotonic() - begun < 600
        time.sleep(0.02)


def running(out: Path) -> list[Path]:
    """Trials with a checkpoint and without a result."""
    return [f for f in trials(out) if list(f.glob("agent_*_steps.zip")) and not is_done(f)]


def check_each_was_done_once(out: Path, killed: set[Path]) -> None:
    assert len(trials(out)) == N_TRIALS
    for folder in trials(out):
        assert is_done(folder) and steps(folder) == list(range(200, 1601, 200))
        began = attempts(folder)
        assert began[0] == 0 and len(began) == 1 + (folder in killed)
        assert len(began) == 1 or began[1] > 0


def test_a_worker_that_is_killed_costs_no_trial(tmp_path: Path) -> None:
    process, out = started(tmp_path), tmp_path / "out"
    wait_for(lambda: running(out), process)
    victim = running(out)[0]
    pid = json.loads((victim / "attempts.jsonl").read_text())["pid"]
    assert pid != process.pid
    os.kill(pid, signal.SIGKILL)
    assert process.wait(600) == 0
    check_each_was_done_once(out, {victim})


def test_a_driver_that_is_killed_costs_no_trial(tmp_path: Path) -> None:
    process, out = started(tmp_path), tmp_path / "out"
    wait_for(lambda: any(map(is_done, trials(out))) and running(out), process)
    process.kill()
    process.wait()
    done = {f for f in trials(out) if is_done(f)}
    again = started(tmp_path)
    assert again.wait(600) == 0
    assert len(trials(out)) == N_TRIALS
    assert not list(out.glob(".ray-*")), "what the killed one left is gone"
    for folder in trials(out):
        assert is_done(folder) and steps(folder) == list(range(200, 1601, 200))
        # A worker may have gone on for a moment, and one that waited may not have begun.
        assert len(attempts(folder)) == 1 if folder in done else len(attempts(folder)) <= 2
