"""Two runs that save under one name in one folder, at the same time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import (
    checkpoints,
    command,
    started,
    temporary_files,
    train,
    train_command,
    wait_for,
)

FULL, QUICK = 10, 2


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """n pairs of runs with a checkpoint callback, and n of the command line."""
    for case, pair in (("checkpoint callback", _callbacks), ("command line", _commands)):
        outcomes: Counter[str] = Counter()
        for trial in range(n):
            path = folder / f"{case[:7]}_{trial}"
            path.mkdir()
            outcomes[pair(path)] += 1
        yield row("two processes", case, outcomes, outcomes.total() - outcomes["told apart"])


def _callbacks(folder: Path) -> str:
    first = started(train, folder, "flat", 1, 50, 6000, None)
    if not wait_for(lambda: list(folder.glob(".*.lock")), first):
        return "did not begin"
    # The other begins with an agent of its own: it must not go on from a file of the first.
    second = started(_train_other, folder)
    for process in (first, second):
        process.join(120.0)
    if first.exitcode or second.exitcode:
        return "failed"
    if not any("another run" in p.read_text() for p in folder.glob("warnings_*.txt")):
        return "not warned"
    from hierebm import DDPGHERAgent

    seeds = {}
    for prefix in ("run", "run-2"):
        saved = checkpoints(folder, prefix)
        seeds[prefix] = {DDPGHERAgent.load(p).seed for p in (*saved[:2], *saved[-2:])}
    if any(len(s) != 1 for s in seeds.values()) or seeds["run"] == seeds["run-2"]:
        return "mixed up"
    left = [*temporary_files(folder), *folder.glob(".*.lock")]
    return "left files" if left else "told apart"


def _train_other(folder: Path) -> None:
    """As :func:`train`, without looking for checkpoints."""
    import warnings

    from benchmarks.reliability.workers import WORLD, agents
    from hierebm.callbacks import CheckpointCallback

    callback = CheckpointCallback(50, folder, "run", save_replay_buffer=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        agents()["flat"](seed=2, env=WORLD).learn(total_timesteps=1000, callback=callback)
    (folder / "warnings_2.txt").write_text("\n".join(str(w.message) for w in told))


def _commands(folder: Path) -> str:
    out, logs = folder / "agent.zip", [folder / "1.txt", folder / "2.txt"]
    first = started(command, train_command(out, total=6000), logs[0])
    if not wait_for(lambda: list(folder.glob(".agent.zip.lock")), first):
        return "did not begin"
    second = started(command, train_command(out, total=500), logs[1])
    for process in (first, second):
        process.join(120.0)
    if first.exitcode or second.exitcode:
        return "failed"
    from hierebm import DDPGHERAgent

    if not re.search("another run writes to", logs[1].read_text()):
        return "not warned"
    steps = [DDPGHERAgent.load(folder / n).num_timesteps for n in ("agent.zip", "agent-2.zip")]
    return "told apart" if steps == [6000, 500] else "mixed up"
