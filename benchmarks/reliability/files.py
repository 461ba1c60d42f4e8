"""The row ``files``: damaged and hostile files are refused in one sentence, or read as they are.

Each trial damages one of our files and reads it, in a process with a limit on memory: the reader
loads it and uses what it got. What is promised is in SECURITY.md: a file raises nothing but
ValueError (mostly :class:`~hierebm.errors.CheckpointError`) whose message names it, within two
seconds and twice the file's size plus 100 MB. Everything else counts as a loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.damage import KINDS
from benchmarks.reliability.reader import OTHER, REFUSED, SAME, Reader
from benchmarks.reliability.rows import Row, row

FULL, QUICK = 10_000, 400
LIMIT_S, FREE_MB = 2.0, 100.0

FILES = {
    "flat": "flat.zip",
    "graph": "graph.zip",
    "sequence": "sequence.zip",
    "command": "flat.zip",
    "replay": "replay.zip",
    "experience": "experience.zip",
    "running": "experience.zip",
    "running sequence": "running.zip",
    "data": "data.npz",
}
"""How a file is read -> the file. ``command`` is what the command line does with an agent;
``experience`` goes on learning, the ``running`` ones in the middle of an episode.
"""
SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "fourier_features": 8,
    "batch_size": 16,
    "learning_starts": 120,
    "train_freq": 20,
    "buffer_size": 1000,
}
HIGH: dict[str, Any] = {
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 200,
    "energy_gradient_steps": 2,
    "pool_size": 100,
    "n_subgoals": 8,
}
SEQUENCE: dict[str, Any] = {"chains": 4, "langevin_steps": 2, "lattice_states": 32}


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """Yield a row for each kind of damage, n trials in all."""
    write_files(folder)
    rng, path = np.random.default_rng(seed), folder / "damaged.zip"
    originals = {how: (folder / name).read_bytes() for how, name in FILES.items()}
    with Reader(folder) as reader:
        for number, (kind, damage) in enumerate(KINDS.items()):
            outcomes: Counter[str] = Counter()
            losses, worst_s, worst_mb = 0, 0.0, 0.0
            for trial in range(number, n, len(KINDS)):
                how = list(FILES)[trial // len(KINDS) % len(FILES)]
                path.write_bytes(damage(originals[how], rng))
                outcome, seconds, megabytes = reader.read(how, path)
                allowed = FREE_MB + 2.0 * path.stat().st_size / 2**20
                if megabytes > allowed:
                    outcome += ", too much memory"
                if seconds > LIMIT_S:
                    outcome += ", too slow"
                lost = outcome not in (SAME, OTHER, REFUSED)
                outcomes[f"{how}: {outcome}" if lost else outcome] += 1
                if lost:
                    losses += 1
                    kept = folder.parent / f"lost_{kind.replace(' ', '_')}_{how}_{trial}.zip"
                    kept.write_bytes(path.read_bytes())
                worst_s, worst_mb = max(worst_s, seconds), max(worst_mb, megabytes)
            yield row("files", kind, outcomes, losses, worst_s=worst_s, worst_mb=worst_mb)


def write_files(folder: Path) -> None:
    """Write one small file of each kind."""
    import hierebm

    flat = hierebm.DDPGHERAgent(seed=0, **SMALL).learn("PointMassGoal-v0", 400)
    flat.save(folder / "flat.zip")
    flat.save_replay_buffer(folder / "replay.zip")
    agent_class = hierebm.HierarchicalEBMAgent
    graph = agent_class(seed=0, **SMALL, **HIGH).learn("PointMassGoal-v0", 400)
    graph.save(folder / "graph.zip")
    graph.save(folder / "experience.zip", replay_buffer=True)
    sequence = agent_class(seed=0, **SMALL, **HIGH, planner="sequence", sequence=SEQUENCE)
    sequence.learn("PointMassGoal-v0", 400).save(folder / "sequence.zip")
    sequence.save(folder / "running.zip", replay_buffer=True)
    rng, n = np.random.default_rng(0), 300
    np.savez(
        folder / "data.npz",
        observations=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        actions=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        terminals=(np.arange(n) % 50 == 49).astype(np.float32),
    )
