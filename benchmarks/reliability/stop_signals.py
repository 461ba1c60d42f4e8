"""Signals that ask ``hierebm train`` to stop: it saves, says how to go on, and can go on."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import (
    checkpoints,
    command,
    started,
    train_command,
    wait_for,
)

FULL, QUICK = 48, 12
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# Seconds between two signals.
APART = 0.03


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """Each signal alone, and twice in a row; n in all."""
    cases = [(name, times) for name in SIGNALS for times in (1, 2)]
    for case, (name, times) in enumerate(cases):
        outcomes: Counter[str] = Counter()
        for trial in range(case, n, len(cases)):
            path = folder / f"{name}_{times}_{trial}"
            path.mkdir()
            outcomes[_stop(path, getattr(signal, name), times)] += 1
        lost = outcomes.total() - outcomes["saved and went on"]
        yield row("signals", f"{name}, {times} time(s)", outcomes, lost)


def _stop(folder: Path, signum: int, times: int) -> str:
    out, log = folder / "agent.zip", folder / "log.txt"
    process = started(command, train_command(out, "--checkpoint-freq", "100"), log)
    if not wait_for(lambda: checkpoints(folder, "agent"), process):
        return "did not begin"
    for i in range(times):
        time.sleep(i * APART)
        # It may have saved and ended before the second signal.
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signum)
    process.join(60.0)
    if process.exitcode != 128 + signum:
        process.kill()
        return f"ended with {process.exitcode}"
    said = log.read_text()
    if not out.exists() or f"hierebm train --resume {out}" not in said:
        return "not saved"
    return _go_on(out, log)


def _go_on(out: Path, log: Path) -> str:
    from hierebm import DDPGHERAgent

    steps = DDPGHERAgent.load(out).num_timesteps
    argv = ["train", "--resume", str(out), "--total-timesteps", str(steps + 150), "--episodes", "0"]
    process = started(command, argv, log)
    process.join(120.0)
    agent = DDPGHERAgent.load(out)
    went_on = process.exitcode == 0 and agent.num_timesteps == steps + 150
    if not went_on or agent.replay is None or agent.replay.n_added < steps:
        return "did not go on"
    return "saved and went on"
