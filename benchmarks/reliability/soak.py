"""A long run with tiny networks, logs and checkpoints: do memory, time or open files grow?"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reliability.rows import Row, row
from benchmarks.reliability.workers import TINY, WORLD, agents, started

FULL, QUICK = 1_000_000, 20_000
PARTS = 10
# Growth from the second part on that counts as none: MB, and times.
MORE_MB, SLOWER = 20.0, 1.5
# A gradient step for so many steps: the run is there for the loop.
TRAIN_FREQ = 200


def measure(n: int, seed: int, folder: Path) -> Iterator[Row]:
    """One run of n steps in ten parts."""
    process = started(_run, folder, n, seed)
    process.join()
    parts = json.loads((folder / "parts.json").read_text())
    rss, micros, files = (list(values) for values in zip(*parts, strict=True))
    outcomes = {
        "ended": int(process.exitcode == 0 and len(parts) == PARTS),
        "grew": int(rss[-1] - rss[1] > MORE_MB),
        # The median of the last parts: other processes come and go.
        "slowed down": int(sorted(micros[-3:])[1] > SLOWER * sorted(micros[1:4])[1]),
        "left files open": int(files[-1] > files[0]),
    }
    yield row(
        "soak",
        f"{n} steps",
        outcomes,
        sum(outcomes.values()) - outcomes["ended"] + (not outcomes["ended"]),
        rss_mb=rss,
        us_per_step=micros,
        open_files=files,
    )


def _run(folder: Path, n: int, seed: int) -> None:
    from hierebm.callbacks import CheckpointCallback

    settings = {"seed": seed, "train_freq": TRAIN_FREQ, "buffer_size": min(n // 10, 20_000)}
    agent = agents()["flat"](**{**TINY, **settings}, env=WORLD, tensorboard_log=folder / "runs")
    callback = CheckpointCallback(n // 40, folder, "run", save_replay_buffer=True, keep=2)
    parts = []
    for part in range(PARTS):
        began = time.process_time()
        agent.learn(
            total_timesteps=n // PARTS,
            callback=callback,
            log_interval=20,
            reset_num_timesteps=part == 0,
        )
        micros = 1e6 * (time.process_time() - began) / (n // PARTS)
        parts.append((_rss_mb(), round(micros, 1), len(os.listdir("/proc/self/fd"))))
        (folder / "parts.json").write_text(json.dumps(parts))


def _rss_mb() -> float:
    """Memory that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
