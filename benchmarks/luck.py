"""Worlds where luck decides, against a planner that knows the chances.

The default agent, the same agent with a deterministic planner (jumps are edges like others, and
tries say nothing of expected steps), and the reference of ``benchmarks/reference_planner.py``, on
the same starts and goals: each task has a seed of its own. Steps are compared in two ways: over the
tasks that both the agent and the reference solve, and over all tasks, a failure counting as the
whole time limit; the first leaves out what an agent finds hard.

Every run is a trial of a sweep, on one thread, one on every core; what was interrupted goes on
where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.luck_worlds import WORLDS, World
from benchmarks.trials import Job, folder_of, named, rows_of
from hierebm.evaluation import wilson_interval

TASKS, QUICK_TASKS = 100, 10
FIRST_TASK = 1000
"""Seed of the first task."""
QUICK_STEPS = 1500

OURS, DETERMINISTIC, REFERENCE = "hierarchical", "deterministic planner", "reference"


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """Every agent in every world with every seed; one row a run, and one a world for the
    reference."""
    numbers, tasks = range(seeds or (1 if quick else 3)), QUICK_TASKS if quick else TASKS
    steps = QUICK_STEPS if quick else None
    references: list[Job] = [(reference, world, tasks) for world in WORLDS]
    learned: list[Job] = [
        (train, world, method, seed, steps or world.steps, tasks)
        for method in (OURS, DETERMINISTIC)
        for seed in numbers
        for world in WORLDS
    ]
    done = rows_of(named([*references, *learned]), folder_of(out, "luck"))
    rows = [row for measured_rows in done.values() for row in measured_rows]
    return compared(rows)


def reference(world: World, tasks: int) -> list[dict[str, Any]]:
    """The planner that knows the chances; it learns nothing."""

    class Stateless:
        policy = world.reference()

        def predict(self, observation: Any, state: Any) -> tuple[Any, Any]:
            return self.policy.predict(observation), state

    return [{"world": world.name, "method": REFERENCE, **measured(Stateless(), world, tasks)}]


def train(world: World, method: str, seed: int, steps: int, tasks: int) -> list[dict[str, Any]]:
    """Train and measure one run."""
    import torch

    torch.set_num_threads(1)
    with deterministic() if method == DETERMINISTIC else nullcontext():
        return [_trained(world, method, seed, steps, tasks)]


def _trained(world: World, method: str, seed: int, steps: int, tasks: int) -> dict[str, Any]:
    from hierebm import HierarchicalEBMAgent

    agent = HierarchicalEBMAgent(seed=seed)
    started = time.process_time()
    agent.learn(world.make(), steps)
    row: dict[str, Any] = {
        "world": world.name,
        "method": method,
        "seed": seed,
        "lucky": world.lucky,
        "env_steps": agent.num_timesteps,
        "action_repeat": agent.action_repeat,
        "cpu_s": round(time.process_time() - started, 1),
    }
    context = agent.high_level.context
    assert context.edge_cutoff is not None and context.transition_map is not None
    row["expected_share"] = round(context.edge_cutoff.expected_share, 3)
    row["gates"] = len(context.transition_map.gates)
    return {**row, **measured(agent, world, tasks)}


@contextmanager
def deterministic() -> Iterator[None]:
    """Within, planning knows nothing of luck: no step is a jump, no share of luck is noticed."""
    from hierebm.planning.graph import edge_cutoff, gates

    before = gates.JUMP, edge_cutoff.NOTICED
    gates.JUMP = edge_cutoff.NOTICED = float("inf")
    try:
        yield
    finally:
        gates.JUMP, edge_cutoff.NOTICED = before


def measured(policy: Any, world: World, tasks: int) -> dict[str, Any]:
    """Success and the steps of every task, in the order of the tasks; failures are negative."""
    env, steps = world.make(tasks=True), []
    for task in range(tasks):
        observation, _ = env.reset(seed=FIRST_TASK + task)
        state, taken, ended = None, 0, False
        while not ended:
            action, state = policy.predict(observation, state)
            observation, _, terminated, truncated, _ = env.step(action)
            taken, ended = taken + 1, terminated or truncated
        steps.append(taken if terminated else -taken)
    solved = int(np.sum(np.array(steps) > 0))
    low, high = wilson_interval(solved, tasks)
    return {
        "success": solved / tasks,
        "ci95": [round(low, 3), round(high, 3)],
        "steps": round(float(np.abs(steps).mean()), 1),
        "curve": steps,
    }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what their steps are against those of the reference: ``ratio`` over all tasks,
    a failure with all its steps, with its 95% interval; ``ratio_solved`` over those that both
    solved."""
    best = {row["world"]: np.array(row["curve"]) for row in rows if row["method"] == REFERENCE}
    result = []
    for row in rows:
        steps, of_best = np.array(row["curve"]), best[row["world"]]
        both = (steps > 0) & (of_best > 0)
        pairs = np.abs(np.stack([steps, of_best]))
        draws = np.random.default_rng(0).integers(len(steps), size=(2000, len(steps)))
        sums = pairs[:, draws].sum(-1)
        low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
        new = {
            "reference_steps": round(float(np.abs(of_best).mean()), 1),
            "ratio": round(float(pairs[0].sum() / pairs[1].sum()), 3),
            "ratio_ci95": [round(float(low), 3), round(float(high), 3)],
        }
        if both.any():
            solved = pairs[0, both].sum() / pairs[1, both].sum()
            new["ratio_solved"] = round(float(solved), 3)
        result.append(row if row["method"] == REFERENCE else {**row, **new})
    return result
