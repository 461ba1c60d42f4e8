"""Rows of the time to success on the open plane: ours against Stable-Baselines3's DDPG+HER.

The time is processor time inside ``learn`` alone, up to the first of two evaluations in a row with
a success rate of at least 0.95. Everybody is evaluated with the deterministic policy on the same
100 tasks, every 1000 steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import hierebm
from benchmarks.speed_measure import Row, ratio_statistics, row
from benchmarks.speed_peer import ENV, sb3_ddpg
from hierebm.evaluation import evaluate

THRESHOLD, EVERY, TASKS = 0.95, 1000, 100
CAP = 20_000
TUNING_SEED = 100

_SMALL, _LARGE = (128, 128), (256, 256)
CANDIDATES: tuple[dict[str, Any], ...] = (
    {"hidden": _SMALL, "gamma": 0.95, "tau": 0.05},
    {"hidden": _SMALL, "gamma": 0.95, "tau": 0.005},
    {"hidden": _SMALL, "gamma": 0.98, "tau": 0.05},
    {"hidden": _LARGE, "gamma": 0.95, "tau": 0.05},
    {"hidden": _LARGE, "gamma": 0.98, "tau": 0.05},
    {"hidden": _LARGE, "gamma": 0.98, "tau": 0.005},
)
"""Settings that Stable-Baselines3 is tried with on one seed; lr 1e-3, noise 0.2, batch 256."""
QUICK_CHOICE = CANDIDATES[0]
"""The best of them in the full benchmark, used as it is in the quick one."""


@dataclass(frozen=True)
class Reached:
    """When a run succeeded, or where it was given up."""

    seconds: float
    steps: int
    success: bool


def rows(quick: bool, seeds: int, sb3: bool) -> Iterator[Row]:
    """Yield a row for each of our agents."""
    ours = {
        name: [_ours(name, seed) for seed in range(seeds)]
        for name in ("DDPGHERAgent", "HierarchicalEBMAgent")
    }
    peer, against = [], None
    if sb3:
        settings = QUICK_CHOICE if quick else _tuned()
        peer = [_peer(settings, seed, CAP) for seed in range(seeds)]
        against = "SB3 DDPG+HER, " + ", ".join(f"{k} {v}" for k, v in settings.items())
        against += f" ({sum(run.success for run in peer)}/{seeds} in {CAP} steps)"
    for name, runs in ours.items():
        yield _row(name, runs, peer, against)


def _row(name: str, runs: list[Reached], peer: list[Reached], against: str | None) -> Row:
    """One of our agents; a peer that was given up counts with the time spent, in its favour."""
    steps = "/".join(str(run.steps) if run.success else f">{run.steps}" for run in runs)
    seconds = np.array([run.seconds for run in runs])
    values: dict[str, Any] = {"ours": float(np.median(seconds)), "unit": "s"}
    if peer:
        theirs = np.array([run.seconds for run in peer])
        ratio, low, high = ratio_statistics(seconds, theirs)
        values |= {
            "against": against,
            "peer": float(np.median(theirs)),
            "ratio": ratio,
            "ratio_min": low,
            "ratio_max": high,
            "target": ">= 3x",
            "met": ratio >= 3.0 and sum(run.success for run in runs) > len(runs) / 2,
        }
    return row(f"time to {THRESHOLD} success, open plane, {name} ({steps} steps)", **values)


def _ours(name: str, seed: int) -> Reached:
    agent = getattr(hierebm, name)(seed=seed)
    agent.set_env(gym.make(ENV))

    def learn(steps: int) -> None:
        agent.learn(total_timesteps=steps, reset_num_timesteps=False)

    return time_to_success(learn, lambda: success_of(agent), CAP)


def _peer(settings: dict[str, Any], seed: int, cap: int) -> Reached:
    model = sb3_ddpg(seed=seed, **settings)

    def learn(steps: int) -> None:
        model.learn(steps, reset_num_timesteps=False)

    return time_to_success(learn, lambda: success_of(model), cap)


def _tuned() -> dict[str, Any]:
    """The fastest of the candidates on a seed of its own."""
    best, fastest, cap = CANDIDATES[0], np.inf, CAP
    for settings in CANDIDATES:
        run = _peer(settings, TUNING_SEED, cap)
        print(f"tuning SB3: {settings} {run}", flush=True)
        if run.success and run.seconds < fastest:
            best, fastest = settings, run.seconds
    return best


def success_of(policy: Any) -> float:
    """Success rate of the deterministic policy on the tasks that everybody is given."""
    lanes = gym.make_vec(ENV, num_envs=50)
    try:
        return evaluate(policy, lanes, TASKS, seed=12345).success_rate
    finally:
        lanes.close()


def time_to_success(
    learn: Callable[[int], object], success: Callable[[], float], cap: int
) -> Reached:
    """Learn in pieces of ``EVERY`` steps until two evaluations in a row pass the threshold.

    Returns:
        The first of the two, or, after ``cap`` steps without, all that was spent.
    """
    seconds, steps, first = 0.0, 0, None
    while steps < cap or first is not None:
        before = time.process_time()
        learn(EVERY)
        seconds += time.process_time() - before
        steps += EVERY
        passed = success() >= THRESHOLD
        if passed and first is not None:
            return first
        first = Reached(seconds, steps, True) if passed else None
    return Reached(seconds, steps, False)
