"""Four trials with one worker and with two: does a second core halve the time?

``hierebm sweep`` runs the same study again and again, one worker, two, two, one, so that what else
the machine does falls on both alike. Its time is told whole, Ray's start included, and from the
first trial's beginning to the last result. One worker is this command without Ray.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hierebm.cli.names import ENV_ID
from hierebm.sweeps.files import read_curve, read_rows

TRIALS, STEPS, QUICK_STEPS = 4, 15_000, 3000
"""A trial of so many steps learns for about a minute on a core of its own."""
WORKERS = (1, 2)


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """One row a sweep, and one with the ratios of the medians.

    Args:
        quick: trials of a few seconds, in one round.
        seeds: rounds; default 2, with ``quick`` 1.
        out: of the sweeps, which are removed afterwards.
    """
    steps = QUICK_STEPS if quick else STEPS
    rows = []
    for turn in range(seeds or (1 if quick else 2)):
        for workers in WORKERS[:: -1 if turn % 2 else 1]:
            rows.append({"kind": "sweep", "round": turn, **timed(workers, steps, out)})
            print(rows[-1], flush=True)
    whole, work = (
        [median(row[key] for row in rows if row["workers"] == n) for n in WORKERS]
        for key in ("whole_s", "work_s")
    )
    ratios = {"whole": round(whole[1] / whole[0], 3), "work": round(work[1] / work[0], 3)}
    return [*rows, {"kind": "two workers over one", **ratios}]


def timed(workers: int, steps: int, out: Path) -> dict[str, Any]:
    """Run the study with so many workers.

    Raises:
        CalledProcessError: the sweep did not end well.
    """
    study = {"envs": [ENV_ID], "seeds": list(range(TRIALS)), "agent": "ddpg-her",
             "total_timesteps": steps, "evaluations": 2, "eval_episodes": 2,
             "episodes": 2}  # fmt: skip
    with TemporaryDirectory(dir=out) as scratch:
        folder, file = Path(scratch), Path(scratch) / "given.json"
        file.write_text(json.dumps(study))
        command = [sys.executable, "-m", "hierebm", "sweep", str(file)]
        command += ["--out", str(folder / "sweep"), "--jobs", str(workers)]
        started = time.perf_counter()
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=threads)
        whole = time.perf_counter() - started
        trials = [path.parent for path in folder.glob("sweep/trials/*/*/result.json")]
        begun = min(read_rows(trial / "attempts.jsonl")[0]["time"] for trial in trials)
        ended = max((trial / "result.json").stat().st_mtime for trial in trials)
        learning = [read_curve(trial)[-1]["seconds"] for trial in trials]
    return {
        "workers": workers,
        "trials": len(trials),
        "whole_s": round(whole, 1),
        "work_s": round(ended - begun, 1),
        "trial_s": round(median(learning), 1),
    }
