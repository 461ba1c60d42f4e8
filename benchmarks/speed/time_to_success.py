"""Rows of the time to success on the open plane: ours against Stable-Baselines3's DDPG+HER.

The time is processor time inside ``learn`` alone, up to the first of two evaluations in a row with
a success rate of at least 0.95. Everybody is evaluated with the deterministic policy on the same
100 tasks, every 250 steps.

Both sides are tuned on a seed of their own among six settings each, with networks, batches and
critics of one kind: small or large, 256 rows, one scalar critic. Our agents with their settings
untouched, which were chosen for walls, come after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import hierebm
from benchmarks.speed.measure import Row, ratio_statistics, row
from benchmarks.speed.peer import ENV, sb3_ddpg
from hierebm.evaluation import evaluate

THRESHOLD, EVERY, TASKS = 0.95, 250, 100
CAP = 20_000
TUNING_SEED = 100

_SMALL, _LARGE = (128, 128), (256, 256)
SB3: tuple[dict[str, Any], ...] = (
    {"hidden": _SMALL, "gamma": 0.95, "tau": 0.05},
    {"hidden": _SMALL, "gamma": 0.95, "tau": 0.005},
    {"hidden": _SMALL, "gamma": 0.98, "tau": 0.05},
    {"hidden": _LARGE, "gamma": 0.95, "tau": 0.05},
    {"hidden": _LARGE, "gamma": 0.98, "tau": 0.05},
    {"hidden": _LARGE, "gamma": 0.98, "tau": 0.005},
)
"""Settings that Stable-Baselines3 is tried with; lr 1e-3, noise 0.2, batch 256."""
_SCALAR = {"critic": "scalar", "n_critics": 1, "fourier_features": 0}
_FUTURE = {"her_future": 0.8, "her_random": 0.0}
OURS: tuple[dict[str, Any], ...] = (
    {**_SCALAR, **_FUTURE, "tau": 0.05},
    {**_SCALAR, **_FUTURE, "tau": 0.01},
    {**_SCALAR, "tau": 0.05},
    {**_SCALAR, "tau": 0.01},
    {**_SCALAR, **_FUTURE, "tau": 0.05, "hidden_sizes": _LARGE},
    {**_SCALAR, "tau": 0.05, "hidden_sizes": _LARGE},
)
"""As many of ours; lr 1e-3, noise 0.2, batch 256 as well."""
QUICK_SB3, QUICK_OURS = SB3[1], OURS[0]
"""The quick benchmark takes these as they are."""


@dataclass(frozen=True)
class Reached:
    """When a run succeeded, or where it was given up."""

    seconds: float
    steps: int
    success: bool


def rows(quick: bool, seeds: int, sb3: bool) -> Iterator[Row]:
    """Yield a row for our tuned agent and one for each with its settings untouched."""
    peer, against = [], None
    if sb3:
        settings = QUICK_SB3 if quick else tuned("SB3", _peer, SB3)
        peer = [_peer(settings, seed, CAP) for seed in range(seeds)]
        against = f"SB3 DDPG+HER ({_text(settings)}, {_steps(peer)})"
    settings = QUICK_OURS if quick else tuned("ours", _flat, OURS)
    runs = [_flat(settings, seed, CAP) for seed in range(seeds)]
    yield _row("DDPGHERAgent, tuned", runs, _text(settings), peer, against)
    for name in ("DDPGHERAgent", "HierarchicalEBMAgent"):
        runs = [_ours(name, {}, seed, CAP) for seed in range(seeds)]
        yield _row(name, runs, "defaults", peer, against)


def _text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _steps(runs: list[Reached]) -> str:
    """Environment steps of each run, as text; '>' where it was given up."""
    return "/".join(f"{'' if run.success else '>'}{run.steps}" for run in runs) + " steps"


def _row(name: str, runs: list[Reached], how: str, peer: list[Reached], against: str | None) -> Row:
    """One of our agents; a peer that was given up counts with the time spent, in its favour."""
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
    return row(f"time to {THRESHOLD} success, open, {name} ({how}, {_steps(runs)})", **values)


def _ours(name: str, settings: dict[str, Any], seed: int, cap: int) -> Reached:
    agent = getattr(hierebm, name)(seed=seed, **settings)
    agent.set_env(gym.make(ENV))

    def learn(steps: int) -> None:
        agent.learn(total_timesteps=steps, reset_num_timesteps=False)

    return time_to_success(learn, lambda: success_of(agent), cap)


def _flat(settings: dict[str, Any], seed: int, cap: int) -> Reached:
    return _ours("DDPGHERAgent", settings, seed, cap)


def _peer(settings: dict[str, Any], seed: int, cap: int) -> Reached:
    model = sb3_ddpg(seed=seed, **settings)

    def learn(steps: int) -> None:
        model.learn(steps, reset_num_timesteps=False)

    return time_to_success(learn, lambda: success_of(model), cap)


def tuned(
    name: str,
    run: Callable[[dict[str, Any], int, int], Reached],
    candidates: tuple[dict[str, Any], ...],
) -> dict[str, Any]:
    """The settings that succeed in the shortest time on a seed of their own.

    A candidate is given up after four times the steps of the best one so far.
    """
    best, fastest, cap = candidates[0], np.inf, CAP
    for settings in candidates:
        reached = run(settings, TUNING_SEED, cap)
        print(f"tuning {name}: {_text(settings)}: {reached}", flush=True)
        if reached.success and reached.seconds < fastest:
            best, fastest, cap = settings, reached.seconds, min(CAP, 4 * reached.steps)
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
