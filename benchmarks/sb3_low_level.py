"""Far goals in four rooms: Stable-Baselines3's SAC+HER alone, and as low level of our agent.

SAC+HER learns near goals and fails at far ones. The same networks under our high level: trained by
our agent on its own experience, in the same number of environment steps; and frozen as SAC+HER left
them, while the high level learns for half as many steps more.

Each job is a trial of a sweep, on one thread, one on every core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.learning import FAR, draw
from benchmarks.trials import Job, folder_of, rows_of

STEPS, QUICK_STEPS, PIECES = 20_000, 6_000, 8
NEAR = (0.5, 2.0)
"""Shortest-path distance of near tasks, world units: 3 to 10 steps at full speed."""
TASKS, CURVE_TASKS = 100, 50

ALONE, FROZEN, TRAINED = "SAC+HER", "SAC+HER frozen", "SAC trained"
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 256,
    "learning_starts": 1000,
    "gamma": 0.95,
    "tau": 0.005,
    "train_freq": 1,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [128, 128]},
    "device": "cpu",
}
"""SAC's settings, with which it learns near goals well; tau is its default."""


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """Run every job with every seed; one row per method and seed, curves in the picture."""
    from benchmarks.speed.peer import has_sb3

    if not has_sb3():
        return []
    seeds = seeds or (1 if quick else 3)
    methods = list(METHODS)
    jobs: dict[str, Job] = {
        f"{name}, seed {seed}": (job, name, seed, quick)
        for seed in range(seeds)
        for name in METHODS
    }
    rows = list(rows_of(jobs, folder_of(out, "sb3_low_level")).values())
    rows.sort(key=lambda row: (methods.index(row["method"]), row["seed"]))
    draw(rows, out / "sb3_low_level.png")
    return rows


def job(method: str, seed: int, quick: bool) -> dict[str, Any]:
    """Train and measure one of the methods."""
    import torch

    torch.set_num_threads(1)
    return METHODS[method](seed, QUICK_STEPS if quick else STEPS)


def alone(seed: int, steps: int) -> dict[str, Any]:
    """SAC+HER, trained by Stable-Baselines3."""
    model, curve = sac_her(seed, steps), [(0, 0.0, 0.0)]
    train(model, steps, PIECES, curve)
    return row(ALONE, seed, model, model, curve)


def frozen(seed: int, steps: int) -> dict[str, Any]:
    """SAC+HER, frozen afterwards while our high level learns for half as many steps."""
    from hierebm import HierarchicalEBMAgent
    from hierebm.control.sb3 import SB3LowLevel

    model, curve = sac_her(seed, steps), [(0, 0.0, 0.0)]
    train(model, steps, PIECES, curve)
    agent = HierarchicalEBMAgent(seed=seed, low_level=SB3LowLevel(model, frozen=True))
    agent.set_env(world())
    train(agent, steps // 2, PIECES // 2, curve)
    return row(FROZEN, seed, agent, model, curve)


def sac_her(seed: int, steps: int) -> Any:
    """A model that has learned nothing yet."""
    from stable_baselines3 import SAC, HerReplayBuffer

    return SAC(
        "MultiInputPolicy",
        world(),
        buffer_size=steps,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        seed=seed,
        **SETTINGS,
    )


def trained(seed: int, steps: int) -> dict[str, Any]:
    """SAC's networks and updates, on what our agent does, stores and relabels."""
    from stable_baselines3 import SAC

    from hierebm import HierarchicalEBMAgent
    from hierebm.control.sb3 import SB3LowLevel

    # Its own buffer stays empty.
    model = SAC("MultiInputPolicy", world(), buffer_size=1, seed=seed, **SETTINGS)
    agent = HierarchicalEBMAgent(
        seed=seed,
        low_level=SB3LowLevel(model),
        batch_size=SETTINGS["batch_size"],
        learning_starts=SETTINGS["learning_starts"],
        train_freq=SETTINGS["train_freq"],
    )
    agent.set_env(world())
    curve = [(0, 0.0, 0.0)]
    train(agent, steps, PIECES, curve)
    return row(TRAINED, seed, agent, model, curve)


METHODS = {ALONE: alone, FROZEN: frozen, TRAINED: trained}


def world() -> gym.Env[Any, Any]:
    """Where everybody learns; tasks of any distance."""
    return gym.make("PointMassGoal-v0", layout="four_rooms")


def train(learner: Any, steps: int, pieces: int, curve: list[tuple[int, float, float]]) -> None:
    """Learn for ``steps``, and add (steps, seconds in ``learn``, success) after each piece."""
    begun, seconds, _ = curve[-1]
    learn: Callable[..., Any] = learner.learn
    for piece in range(1, pieces + 1):
        started = time.perf_counter()
        learn(total_timesteps=steps // pieces, reset_num_timesteps=False)
        seconds += time.perf_counter() - started
        success = measured(learner, FAR, CURVE_TASKS, seed=1).success_rate
        curve.append((begun + piece * (steps // pieces), round(seconds, 1), success))


def measured(policy: Any, distance: tuple[float, float], tasks: int, seed: int) -> Any:
    """The policy on tasks that nobody learned from, the same for everybody."""
    from hierebm.evaluation import evaluate

    task: dict[str, Any] = {"layout": "four_rooms", "distance": distance}
    lanes = gym.make_vec("PointMassGoal-v0", num_envs=min(25, tasks), **task)
    try:
        return evaluate(policy, lanes, tasks, seed=seed)
    finally:
        lanes.close()


def row(method: str, seed: int, policy: Any, model: Any, curve: list[Any]) -> dict[str, Any]:
    """Success at far tasks, that of the bare model at near ones, and how distances err."""
    far, near = measured(policy, FAR, TASKS, seed=2), measured(model, NEAR, TASKS, seed=2)
    result = {
        "method": method,
        "layout": "four_rooms",
        "distance": FAR,
        "seed": seed,
        "env_steps": curve[-1][0],
        "wall_s": curve[-1][1],
        "success": far.success_rate,
        "ci95": [round(bound, 3) for bound in far.ci95],
        "steps": round(far.mean_ep_length, 1),
        "near_success": near.success_rate,
        "curve": curve,
    }
    return result if policy is model else result | distance_errors(policy)


def distance_errors(agent: Any) -> dict[str, float]:
    """Median of predicted minus true steps over edges between stored states, near and farther.

    True steps are those of the shortest path at full speed: accelerating and braking come on top.
    """
    from hierebm.planning.graph.diagnostics import edges_between

    context = agent.high_level.context
    edges = edges_between(
        context.edges,
        context.pool,
        np.random.default_rng(0),
        true_steps=agent.env.env.unwrapped.shortest_path_steps,
    )
    assert edges.true is not None
    error = edges.predicted - edges.true
    near = edges.predicted <= context.config.safe_edge
    edge = edges.predicted <= context.config.max_edge
    bands = {"error_near": error[near], "error_farther": error[edge & ~near]}
    return {key: round(float(np.median(of)), 2) for key, of in bands.items() if of.size}
