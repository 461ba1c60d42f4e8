"""``kill -9`` of a run that saves often, which then goes on from its newest checkpoint."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import checkpoints, started, temporary_files, train, wait_for

FULL, QUICK = 60, 12
# Steps between two checkpoints.
FREQ = 100


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """Of n kills, half come at any moment, half while a file is written; two kinds of agent."""
    rng = random.Random(seed)
    cases = [(kind, aimed) for kind in ("flat", "graph") for aimed in (False, True)]
    for case, (kind, aimed) in enumerate(cases):
        path = folder / f"{kind}_{aimed}"
        path.mkdir()
        outcomes: Counter[str] = Counter()
        steps = 0
        for _ in range(case, n, len(cases)):
            outcome, steps = _kill(path, kind, seed, rng, aimed, steps)
            outcomes[outcome] += 1
        lost = outcomes.total() - outcomes["went on"]
        yield row("kills", f"{kind}, {'while writing' if aimed else 'at random'}", outcomes, lost)


def _kill(
    folder: Path, kind: str, seed: int, rng: random.Random, aimed: bool, before: int
) -> tuple[str, int]:
    """One kill: what became of it, and how far the newest checkpoint is."""
    stale = temporary_files(folder)
    process = started(train, folder, kind, seed, FREQ, 10_000_000, 3)
    # Another checkpoint shows that it goes on, and from where.
    if not wait_for(lambda: _newest(folder) > before, process):
        return "did not go on", before
    if set(stale) & set(temporary_files(folder)):
        return "left temporary files", before
    if aimed:
        wait_for(lambda: temporary_files(folder), process, 10.0)
    else:
        time.sleep(rng.uniform(0.0, 0.3))
    seen = _newest(folder)
    process.kill()
    process.join()
    try:
        agent = _load(checkpoints(folder)[-1], kind)
    except Exception as error:
        return f"unreadable: {type(error).__name__}", before
    if agent.replay is None or agent.replay.n_added != _stored(agent):
        return "without its experience", before
    if agent.num_timesteps < seen:
        return "lost a checkpoint", before
    if len(checkpoints(folder)) < 3 <= agent.num_timesteps // FREQ:
        return "pruned too many", before
    return "went on", agent.num_timesteps


def _newest(folder: Path) -> int:
    saved = checkpoints(folder)
    return int(saved[-1].stem.split("_")[-2]) if saved else 0


def _load(path: Path, kind: str) -> Any:
    from benchmarks.reliability.workers import agents

    return type(agents()[kind]()).load(path)


def _stored(agent: Any) -> int:
    """Transitions that so many steps have left: each was stored once."""
    return int(agent.replay.n_added) if agent.action_repeat > 1 else int(agent.num_timesteps)
