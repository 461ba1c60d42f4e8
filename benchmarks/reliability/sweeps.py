"""``kill -9`` of a sweep, or of its workers, which then goes on: trials lost or done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.installed import installed
from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import WORLD
from hierebm.sweeps.files import read_curve, read_result, read_rows

FULL, QUICK = 12, 3
# Steps of a trial, points of its curve, seconds that a sweep has for the next one, and how often
# it is started at the end until it says that all went well.
STEPS, POINTS, PATIENCE = 2000, 10, 600.0
ATTEMPTS = 3
CASES = {"in one process": 1, "driver": 2, "worker": 2}
"""Who is killed -> trials at the same time; more than one need Ray."""


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """n kills of each, at random moments; as many trials as that."""
    rng = random.Random(seed)
    for case, jobs in CASES.items():
        if jobs > 1 and not installed("ray"):
            print(f"sweeps, {case}: left out, pip install 'hierebm[sweep]'")
            continue
        out = folder / case.replace(" ", "_")
        done = _killed(n, case, jobs, rng, out)
        outcomes: Counter[str] = Counter()
        for k in range(n):
            outcomes[_outcome(out / f"trials/default/{WORLD}-seed{k}", done)] += 1
        lost = sum(count for name, count in outcomes.items() if name.startswith(("LOST", "TWICE")))
        yield row("sweeps", f"{case}, {n} kills", outcomes, lost)


def _killed(n: int, case: str, jobs: int, rng: random.Random, out: Path) -> dict[Path, int]:
    """Run a sweep to its end in spite of n kills; what was done at one of them, begun how often."""
    out.mkdir(parents=True)
    study: dict[str, Any] = {
        "envs": [WORLD], "seeds": list(range(n)), "agent": "ddpg-her", "total_timesteps": STEPS,
        "evaluations": POINTS, "eval_episodes": 5, "episodes": 10,
        "settings": {"hidden_sizes": [16, 16], "batch_size": 16, "learning_starts": 100},
    }  # fmt: skip
    (out / "given.json").write_text(json.dumps(study))
    command = [sys.executable, "-m", "hierebm", "sweep", str(out / "given.json")]
    command += ["--out", str(out), "--jobs", str(jobs)]
    done: dict[Path, int] = {}
    process = _started(command)
    for _ in range(n):
        before = _points(out)
        if not _wait(lambda before=before: _points(out) > before, process):
            if process.poll() in (0, None):
                break
            process = _started(command)
            continue
        time.sleep(rng.uniform(0.0, 0.5))
        running = [f for f in _begun(out) if read_result(f) is None]
        if case != "worker":
            process.kill()
            process.wait()
        elif running:
            pid = read_rows(rng.choice(running) / "attempts.jsonl")[-1]["pid"]
            # It may have ended by itself meanwhile.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for trial in _begun(out):
            if read_result(trial) is not None:
                done.setdefault(trial, len(read_rows(trial / "attempts.jsonl")))
        if case != "worker":
            process = _started(command)
    # Ray may fail to start on a busy machine: that loses nothing either.
    for _ in range(ATTEMPTS):
        if process.wait() == 0:
            break
        process = _started(command)
    process.wait()
    return done


def _outcome(trial: Path, done: dict[Path, int]) -> str:
    """What became of a trial."""
    attempts, result = read_rows(trial / "attempts.jsonl"), read_result(trial)
    steps = [point["env_steps"] for point in read_curve(trial)]
    if result is None or result["status"] != "complete":
        return "LOST"
    if steps != [STEPS // POINTS * (k + 1) for k in range(POINTS)]:
        return "LOST points of its curve"
    if len(attempts) != done.get(trial, len(attempts)):
        return "TWICE"
    if len(attempts) == 1:
        return "never killed"
    return "went on" if attempts[-1]["from"] else "killed before its first checkpoint"


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _begun(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob("trials/*/*/attempts.jsonl"))


def _points(out: Path) -> int:
    """How far all trials are."""
    return sum(len(read_curve(trial)) for trial in _begun(out))


def _wait(is_true: Any, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if is_true():
            return True
        time.sleep(0.01)
    return False
