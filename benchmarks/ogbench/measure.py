"""One run: learn from a data set, and do the tasks of its maze under several settings."""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks.ogbench.make_data import Recipe, data_file, is_made_again
from hierebm.evaluation import EvaluationResult, evaluate
from hierebm.planning.planner import Planner

DEFAULT, TENTH = "64 subgoals", "64 subgoals, a tenth of the data"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "16 subgoals, bisection": {"n_subgoals": 16, "bisection": True},
    "data states as nodes": {"subgoal_sampler": "replay"},
}
"""Name -> what of the settings differs when the agent plans; what it has learned is the same."""
LANES = 10
"""Environments that an agent is tried in side by side."""


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        updates: of the low level.
        episodes: of each of a maze's tasks.
    """

    updates: int = 3000
    episodes: int = 50


FULL, QUICK = Effort(), Effort(1500, 1)


class PlanTimes:
    """Counts the plans that a planner makes, and the processor time that each takes.

    Args:
        planner: whose plans count from now on.
    """

    def __init__(self, planner: Planner) -> None:
        self.ms: list[float] = []
        for name in ("begin", "replan"):
            setattr(planner, name, self._timed(getattr(planner, name)))

    def _timed(self, make_plan: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            plan = make_plan(*args, **kwargs)
            self.ms.append(1e3 * (time.process_time() - started))
            return plan

        return timed


def measure(
    recipe: Recipe, seed: int, effort: Effort, variants: tuple[str, ...], folder: Path
) -> list[dict[str, Any]]:
    """Learn once; one row a variant.

    Args:
        recipe: of the data set, whose file is in the folder or is made there.
        seed: of the agent.
        effort: see there.
        variants: names of ``VARIANTS``, or ``TENTH`` for the first of them on less data.
        folder: of data sets.
    """
    import torch

    torch.set_num_threads(1)
    from hierebm import HierarchicalEBMAgent
    from hierebm.data import load_ogbench

    path, lanes = data_file(recipe, folder), make_lanes(recipe.maze)
    tolerance = lanes.envs[0].unwrapped.success_tolerance
    started = time.process_time()
    data = load_ogbench(path)
    load_s = time.process_time() - started
    agent = HierarchicalEBMAgent(seed=seed)
    agent.learn_offline(data, gradient_steps=effort.updates, success_tolerance=tolerance)
    cpu_s = time.process_time() - started
    learned = {
        "data_set": recipe.name,
        "source": "made again" if is_made_again(path) else "OGBench's file",
        "seed": seed,
        "transitions": data.n_transitions,
        "updates": effort.updates,
        "cpu_s": round(cpu_s, 1),
        "load_s": round(load_s, 2),
        "memory_mb": round(peak_memory_mb()),
    }
    stream = io.BytesIO()
    agent.save(stream)
    rows = []
    for variant in variants:
        stream.seek(0)
        tried = HierarchicalEBMAgent.load(stream, **VARIANTS.get(variant, {}))
        rows.append({"kind": variant, **learned, **do_tasks(tried, lanes, effort.episodes)})
    lanes.close()
    return rows


def make_lanes(maze: str, **settings: Any) -> Any:
    """OGBench's environment of a maze, side by side; ``settings`` are those of ``make``."""
    import hierebm  # noqa: F401 - registers ids

    env_id = f"OGBenchPointMaze-{maze}-v0"
    return SyncVectorEnv(
        [lambda: gym.make(env_id, **settings)] * LANES, autoreset_mode=AutoresetMode.DISABLED
    )


def do_tasks(agent: Any, lanes: Any, episodes: int) -> dict[str, Any]:
    """Success over all tasks of the maze and in each, and what its plans were like.

    Args:
        agent: with a graph planner.
        lanes: of :func:`make_lanes`.
        episodes: of each task; the same ones for every agent.
    """
    planner = agent.high_level.planner
    times = PlanTimes(planner)
    tasks = [
        evaluate(agent, lanes, episodes, seed=1000 * task, options={"task_id": task})
        for task in range(1, lanes.envs[0].unwrapped.n_tasks + 1)
    ]
    together = EvaluationResult.from_episodes([e for task in tasks for e in task.episodes])
    means = planner.stats_of_predict.pop()
    return {
        "episodes": together.n_episodes,
        "success": together.success_rate,
        "ci95": [round(bound, 3) for bound in together.ci95],
        "tasks": [task.success_rate for task in tasks],
        "steps": round(together.mean_ep_length, 1),
        "plans": round(len(times.ms) / together.n_episodes, 2),
        "nodes": round(means["graph/nodes"], 1),
        "verified": round(means["graph/path_verified_rate"], 3),
        "plan_ms": round(median(times.ms), 2),
        "plan_ms_mean": round(mean(times.ms), 2),
    }


def peak_memory_mb() -> float:
    """Most memory that this process ever held, its libraries included."""
    # Kilobytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
