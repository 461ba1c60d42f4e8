"""``train --seeds``: one process for each seed, and a table of what came of them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hierebm.cli.stopping import Stopped, StopSignals
from hierebm.cli.training import out_of, say
from hierebm.cli.values import format_rows


def train_seeds(args: argparse.Namespace) -> None:
    """Run this command once for each seed; lines of output begin with the seed.

    Raises:
        ValueError: together with what belongs to one run only.
        RuntimeError: a run failed; the others are done.
    """
    if args.seed is not None or args.resume is not None:
        raise ValueError("--seeds goes without --seed and --resume")
    out, seeds = out_of(args), args.seeds
    jobs = min(args.jobs or os.cpu_count() or 1, len(seeds))
    running: list[subprocess.Popen[str]] = []
    lock = threading.Lock()

    with StopSignals() as signals, tempfile.TemporaryDirectory() as folder:

        def run(seed: int) -> tuple[int, dict[str, Any]]:
            result = Path(folder) / f"{seed}.json"
            own = out.with_name(f"{out.stem}-seed{seed}{out.suffix}")
            with lock:
                if signals.received is not None:
                    return 128 + signals.received, {}
                process = _start(args, seed, own, result)
                running.append(process)
            assert process.stdout is not None
            for line in process.stdout:
                say(f"[seed {seed}] {line.rstrip()}")
            status = process.wait()
            told = json.loads(result.read_text()) if result.exists() else {}
            return status, told

        def stop() -> None:
            with lock:
                for process in running:
                    if process.poll() is None:
                        process.send_signal(signal.SIGTERM)

        with ThreadPoolExecutor(jobs) as pool:
            futures = {seed: pool.submit(run, seed) for seed in seeds}
            try:
                _wait(futures, lambda: signals.received is not None)
                stop()
                _wait(futures)
            except Stopped:
                # Asked again: a step of theirs does not come to its end. They take a signal for
                # the same wish where it follows too soon.
                time.sleep(0.5)
                stop()
            _wait(futures)
            results = {seed: future.result() for seed, future in futures.items()}
        if signals.received is not None:
            raise Stopped(signals.received)
    rows = [_row(seed, told) for seed, (_, told) in results.items() if told]
    if rows:
        print(format_rows([["seed", "env steps", "success", "95% interval", "mean steps"], *rows]))
        mean = sum(told["success_rate"] or 0.0 for _, told in results.values() if told) / len(rows)
        print(f"success {mean:.3f}, the mean of {len(rows)} seed{'s' * (len(rows) > 1)}")
    if failed := [seed for seed, (status, _) in results.items() if status]:
        raise RuntimeError(f"the run(s) of seed {', '.join(map(str, failed))} failed; see above")


def _wait(futures: dict[int, Future[Any]], until: Callable[[], bool] = lambda: False) -> None:
    """Wait for all runs to end, or for something else; signals are seen meanwhile."""
    while not until() and not all(future.done() for future in futures.values()):
        time.sleep(0.1)


def _start(args: argparse.Namespace, seed: int, out: Path, result: Path) -> subprocess.Popen[str]:
    """The process of one seed: the same arguments, but for those of all seeds."""
    own = ["--seed", str(seed), "--out", str(out), "--no-progress-bar"]
    own += ["--json", str(result)]
    return subprocess.Popen(
        [sys.executable, "-m", "hierebm", "train", *_without_seeds(args.argv), *own],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Signals come from here, once.
        start_new_session=True,
    )


def _without_seeds(argv: list[str]) -> list[str]:
    kept, skip = [], False
    for word in argv:
        if skip:
            skip = False
        elif word in ("--seeds", "--jobs", "--out", "--json"):
            skip = True
        elif not word.startswith(("--seeds=", "--jobs=", "--out=", "--json=")):
            kept.append(word)
    return kept


def _row(seed: int, told: dict[str, Any]) -> list[str]:
    rate = "" if told["success_rate"] is None else f"{told['success_rate']:.3f}"
    interval = "" if not rate else "{:.3f} to {:.3f}".format(*told["ci95"])
    return [str(seed), str(told["timesteps"]), rate, interval, f"{told['mean_ep_length']:.1f}"]
