"""Training runs in processes of their own, to be killed, stopped and starved."""

from __future__ import annotations

import io
import multiprocessing
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "n_critics": 2,
    "batch_size": 16,
    "learning_starts": 100,
    "max_distance": 15,
    "fourier_features": 8,
    "buffer_size": 20_000,
    "train_freq": 20,
}
"""Networks of no use but to be saved: a step takes a tenth of a millisecond."""
TINY_PLANNING: dict[str, Any] = {
    **TINY,
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 100,
    "energy_gradient_steps": 3,
    "pool_size": 100,
    "n_subgoals": 8,
    "sequence": {"chains": 4, "langevin_steps": 3, "lattice_states": 16},
}
WORLD = "PointMassGoal-v0"


def agents() -> dict[str, Callable[..., Any]]:
    """Name -> a function that makes a tiny agent of that kind."""
    from hierebm import DDPGHERAgent, HierarchicalEBMAgent

    return {
        "flat": lambda **more: DDPGHERAgent(**{**TINY, **more}),
        "graph": lambda **more: HierarchicalEBMAgent(**{**TINY_PLANNING, **more}),
        "sequence": lambda **more: HierarchicalEBMAgent(
            **{**TINY_PLANNING, "planner": "sequence", **more}
        ),
    }


def processes() -> ForkServerContext:
    """Processes that have imported the package when they begin."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.reliability.preloaded"])
    return context


def started(target: Callable[..., Any], *args: Any) -> ForkServerProcess:
    """A process that runs ``target(*args)``."""
    process = processes().Process(target=target, args=args, daemon=True)
    process.start()
    return process


def wait_for(done: Callable[[], Any], process: ForkServerProcess, seconds: float = 120.0) -> bool:
    """Whether ``done()`` came true before the process ended or the time was over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        if not process.is_alive():
            return bool(done())
        time.sleep(0.001)
    return False


def checkpoints(folder: Path, prefix: str = "run") -> list[Path]:
    """Those in a folder, fewest steps first."""
    return sorted(folder.glob(f"{prefix}_*_steps.zip"), key=lambda p: int(p.stem.split("_")[-2]))


def temporary_files(folder: Path) -> list[Path]:
    """What is being written, or was left."""
    return list(folder.glob(".*.tmp"))


def train(folder: Path, kind: str, seed: int, freq: int, total: int, keep: int | None) -> None:
    """Learn, from the newest checkpoint on if there is one, and save every ``freq`` steps."""
    from hierebm.callbacks import CheckpointCallback

    saved = checkpoints(folder)
    if saved:
        agent = type(agents()[kind]()).load(saved[-1], env=WORLD)
    else:
        agent = agents()[kind](seed=seed, env=WORLD)
    callback = CheckpointCallback(freq, folder, "run", save_replay_buffer=True, keep=keep)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        agent.learn(total_timesteps=total, callback=callback, reset_num_timesteps=not saved)
    (folder / f"warnings_{seed}.txt").write_text("\n".join(str(w.message) for w in told))


def command(argv: list[str], log: Path) -> None:
    """Run ``hierebm``; what it prints goes to a file, its status is that of the process."""
    # Under nohup and in the background of a shell, signals are ignored.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    from hierebm.cli.parser import main

    with open(log, "w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        status = main(argv)
    sys.exit(status)


def train_command(out: Path, *more: str, total: int = 1_000_000) -> list[str]:
    """Arguments of ``hierebm train`` for a tiny flat agent."""
    names = ("hidden_sizes", "batch_size", "learning_starts", "train_freq", "buffer_size")
    words = ["train", "--agent", "ddpg-her", "--total-timesteps", str(total), "--seed", "0"]
    words += ["--no-progress-bar", "--episodes", "0", "--out", str(out)]
    for name in names:
        value = TINY[name]
        words += ["--set", f"{name}={list(value) if isinstance(value, tuple) else value}"]
    return [*words, *more]


@contextmanager
def room(n_bytes: int) -> Iterator[None]:
    """In this block no file of this process may grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def size_of(agent: Any, *, replay_buffer: bool) -> int:
    """Bytes of its file."""
    stream = io.BytesIO()
    agent.save(stream, replay_buffer=replay_buffer)
    return len(stream.getvalue())
