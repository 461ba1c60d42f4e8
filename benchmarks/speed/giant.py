"""Far goals on a device: seconds of learning until OGBench's giant maze is solved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks.robotics.worlds import WORLDS
from benchmarks.speed.measure import Row, row
from hierebm import HierarchicalEBMAgent

WORLD = next(world for world in WORLDS if world.name == "OGBench point giant")
SUCCESS, TASKS, SECONDS = 0.95, 20, 20.0
FIRST, EVERY, MOST = 8_000, 2_000, 40_000
"""Environment steps before the first evaluation, between two of them, and at most."""


def rows(seeds: int, device: str, wait: Callable[[], None]) -> Iterator[Row]:
    """One row a seed; everything that ``learn`` does counts, evaluation does not.

    Args:
        wait: until the device has done what it was given.
    """
    lanes = WORLD.lanes()
    for seed in range(seeds):
        agent, seconds, success = HierarchicalEBMAgent(seed=seed, device=device), 0.0, 0.0
        agent.set_env(WORLD.make())
        for steps in range(FIRST, MOST + 1, EVERY):
            started = time.perf_counter()
            left = steps - agent.num_timesteps
            agent.learn(total_timesteps=left, reset_num_timesteps=False)
            wait()
            seconds += time.perf_counter() - started
            success = WORLD.evaluate(agent, lanes, TASKS, seed=1).success_rate
            if success >= SUCCESS:
                break
        met = success >= SUCCESS and seconds <= SECONDS
        yield row(
            f"pointmaze giant, seed {seed}: {agent.num_timesteps} env steps, success {success:.2f}",
            ours=seconds,
            unit="s",
            target=f"<= {SECONDS:.0f}",
            met=met,
        )
    lanes.close()
