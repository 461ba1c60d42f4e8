"""PointMaze, OGBench's point mazes, FetchReach and four_rooms: how fast who learns them.

Our hierarchical and flat agents, one with subgoals from the replay (SORB, Eysenbach et al. 2019),
and Stable-Baselines3's DDPG+HER and SAC+HER with the same held actions. Success is counted at the
end of the episode and, besides, at any step of it. ``cpu_s`` is the processor time inside ``learn``
alone: of one thread, the seconds that it takes on a core of its own.

Every run is a trial of a sweep, on one thread, one on every core. All of it takes many hours on a
few cores: a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.installed import installed
from benchmarks.robotics.picture import draw
from benchmarks.robotics.worlds import WORLDS, World
from benchmarks.trials import Job, folder_of, rows_of

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "hierarchical": ("HierarchicalEBMAgent", {}),
    "flat": ("DDPGHERAgent", {}),
    "sorb": ("HierarchicalEBMAgent", {"subgoal_sampler": "replay"}),
}
"""Method -> class of the agent, and what differs from its defaults."""
FEW_NODES = 16
"""Nodes of the small graph that a learned agent is tried with, too."""
PEERS = ("SB3 DDPG+HER", "SB3 SAC+HER")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        points: evaluations while learning.
        curve_tasks, tasks: tasks of each of them, and at the end.
    """

    points: int = 5
    curve_tasks: int = 20
    tasks: int = 100


FULL, QUICK = Effort(), Effort(2, 5, 10)
QUICK_STEPS = {
    "PointMaze UMaze": 3000,
    "OGBench point medium": 3000,
    "FetchReach": 1800,
    "four_rooms": 1800,
}
"""Worlds of the small version, and environment steps there: too few to learn much."""


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """Train every method in every world with every seed; one row a run, curves in the picture."""
    worlds, effort = _worlds(quick), QUICK if quick else FULL
    methods = [*OURS, *PEERS]
    if not installed("stable_baselines3"):
        print(f"{' and '.join(PEERS)} are left out: pip install '.[bench]'")
        methods = list(OURS)
    seeds = seeds or (1 if quick else 3)
    jobs: dict[str, Job] = {
        f"{world.name}, {method}, seed {seed}": (train, world, method, seed, effort)
        for world in worlds
        for method in methods
        for seed in range(seeds)
    }
    # Method by method: what is interrupted has whole columns. The longest first.
    rank = {method: i for i, method in enumerate(("hierarchical", "sorb", "flat", *PEERS))}
    order = sorted(jobs, key=lambda name: (rank[jobs[name][2]], -jobs[name][1].steps))
    done = rows_of({name: jobs[name] for name in order}, folder_of(out, "robotics"))
    rows = [row for name in jobs for row in done[name]]
    draw(rows, out / "robotics.png")
    return rows


def _worlds(quick: bool) -> list[World]:
    worlds = [world for world in WORLDS if world.is_there]
    if len(worlds) < len(WORLDS):
        missing = [world.name for world in WORLDS if not world.is_there]
        print(f"{', '.join(missing)} are left out: pip install '.[bench]'")
    if not quick:
        return worlds
    return [replace(w, steps=QUICK_STEPS[w.name]) for w in worlds if w.name in QUICK_STEPS]


def train(world: World, method: str, seed: int, effort: Effort) -> list[dict[str, Any]]:
    """Train and measure one run."""
    import torch

    torch.set_num_threads(1)
    learner, lanes = _learner(world, method, seed), world.lanes()
    curve: list[tuple[int, float, float, float]] = [(0, 0.0, 0.0, 0.0)]
    cpu_s = 0.0
    for point in range(1, effort.points + 1):
        left = point * world.steps // effort.points - learner.num_timesteps
        started = time.process_time()
        if method in OURS:
            learner.learn(total_timesteps=left, reset_num_timesteps=False)
        else:
            learner.learn(left)
        cpu_s += time.process_time() - started
        result = world.evaluate(learner, lanes, effort.curve_tasks, seed=1)
        rates = result.success_rate, result.reached_rate
        curve.append((learner.num_timesteps, round(cpu_s, 2), *rates))
    if method == "hierarchical":
        # Of plans, only the time that those of the last evaluation take is told.
        learner.high_level.planner.stats_of_predict.pop()
    final = world.evaluate(learner, lanes, effort.tasks, seed=2)
    plans = _plans(learner, world, lanes, effort) if method == "hierarchical" else {}
    lanes.close()
    return [
        {
            "world": world.name,
            "env": world.env_id,
            "episodes": world.episodes,
            "limit": world.limit,
            "method": method,
            "seed": seed,
            "action_repeat": learner.action_repeat,
            "env_steps": learner.num_timesteps,
            "cpu_s": round(cpu_s, 1),
            "success": final.success_rate,
            "ci95": [round(bound, 3) for bound in final.ci95],
            "reached": final.reached_rate,
            "reached_ci95": [round(bound, 3) for bound in final.reached_ci95],
            "steps": round(final.mean_ep_length, 1),
            "curve": curve,
            **plans,
        }
    ]


def _plans(agent: Any, world: World, lanes: Any, effort: Effort) -> dict[str, Any]:
    """What a plan of the last evaluation cost, and what the same agent does with a quarter of the
    nodes.
    """
    from hierebm import HierarchicalEBMAgent

    few: dict[str, Any] = {"n_subgoals": FEW_NODES, "bisection": True}
    with TemporaryDirectory() as folder:
        agent.save(Path(folder) / "agent.zip")
        env = world.make()
        other = HierarchicalEBMAgent.load(Path(folder) / "agent.zip", env=env, **few)
    result = world.evaluate(other, lanes, effort.tasks, seed=2)
    env.close()
    plan_ms, few_plan_ms = (
        round(a.high_level.planner.stats_of_predict.pop().get("graph/plan_ms", 0.0), 1)
        for a in (agent, other)
    )
    return {"plan_ms": plan_ms, "few_nodes": result.reached_rate, "few_plan_ms": few_plan_ms}


def _learner(world: World, method: str, seed: int) -> Any:
    """An agent that has learned nothing yet."""
    import hierebm

    if method in OURS:
        name, settings = OURS[method]
        agent = getattr(hierebm, name)(seed=seed, **settings)
        agent.set_env(world.make())
        return agent
    from benchmarks.robotics.peer import Peer
    from hierebm.agents.config import DDPGHERConfig

    return Peer(method, world, seed, DDPGHERConfig().hidden_sizes)
