"""Learning curves and final success: hierarchical, sequence, SORB-style and flat agents, and
Stable-Baselines3's DDPG+HER where it is installed.

Our own agents run as a sweep (``hierebm.sweep``), whose folders stay in ``OUT/learning``, and their
peer as calls of one. Each run has one thread, one on every core; ``wall_s`` is the time inside
``learn`` alone. Success is measured with the deterministic policy on tasks that no run has seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.installed import installed
from benchmarks.trials import folder_of, rows_of, side_by_side
from hierebm.cli.names import ENV_ID
from hierebm.sweeps.files import read_result
from hierebm.sweeps.report import Ended
from hierebm.sweeps.run import sweep
from hierebm.sweeps.study import Study

FAR = (5.5, 12.0)
"""Shortest-path distance of four_rooms tasks, world units: 28 to 60 steps at full speed."""


POINTS, CURVE_TASKS, TASKS = 10, 50, 200
"""Evaluations while learning, tasks of each, and tasks of the last one."""

PEER = "SB3 DDPG+HER"
# The settings that it does best with on the open plane, of those that `speed` tries; networks of
# the same size as everybody's.
PEER_SETTINGS = (("hidden", (128, 128)), ("gamma", 0.95), ("tau", 0.005))


@dataclass(frozen=True)
class Case:
    """One agent on one layout."""

    method: str
    layout: str
    steps: int
    distance: tuple[float, float] | None = None
    settings: tuple[tuple[str, Any], ...] = ()


QUICK: tuple[Case, ...] = (
    Case("hierarchical", "four_rooms", 20_000, FAR),
    Case("flat", "four_rooms", 20_000, FAR),
    Case("hierarchical", "open", 6_000),
    Case("sequence", "open", 6_000, None, (("planner", "sequence"),)),
    Case("flat", "open", 10_000),
)
FULL: tuple[Case, ...] = (
    QUICK[0],
    Case("replay subgoals", "four_rooms", 20_000, FAR, (("subgoal_sampler", "replay"),)),
    Case("sequence", "four_rooms", 20_000, FAR, (("planner", "sequence"),)),
    QUICK[1],
    Case(PEER, "four_rooms", 20_000, FAR, PEER_SETTINGS),
    *QUICK[2:],
    Case(PEER, "open", 10_000, None, PEER_SETTINGS),
)


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """Train every case with every seed; one row per run, curves in the picture."""
    cases = QUICK if quick else FULL
    if not quick and not installed("stable_baselines3"):
        print(f"{PEER} is left out: pip install stable-baselines3")
        cases = tuple(case for case in cases if case.method != PEER)
    numbers = list(range(seeds or (1 if quick else 3)))
    folder = folder_of(out, "learning")
    rows = swept([case for case in cases if case.method != PEER], numbers, folder)
    peers = {
        f"{PEER}, {case.layout}, seed {seed}": (train, case, seed)
        for case in cases
        if case.method == PEER
        for seed in numbers
    }
    if peers:
        rows += [row for trained in rows_of(peers, folder / "peers").values() for row in trained]
    order = {(case.method, case.layout): i for i, case in enumerate(cases)}
    rows.sort(key=lambda row: (order[row["method"], row["layout"]], row["seed"]))
    draw(rows, out / "learning.png")
    return rows


def study_of(cases: Sequence[Case], seeds: Sequence[int]) -> Study:
    """Cases of one layout and length as a study."""
    world = cases[0]
    tasks = {} if world.distance is None else {"distance": list(world.distance)}
    args = {"layout": world.layout}
    return Study(
        envs=[{"id": ENV_ID, "args": args, "eval_args": tasks, "name": world.layout}],
        seeds=list(seeds),
        total_timesteps=world.steps,
        compare={
            case.method: {"agent": "ddpg-her" if case.method == "flat" else "hierarchical"}
            | dict(case.settings)
            for case in cases
        },
        evaluations=POINTS,
        eval_episodes=CURVE_TASKS,
        episodes=TASKS,
    )


def swept(cases: Sequence[Case], seeds: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Rows of our own agents."""
    jobs = side_by_side()
    groups: dict[tuple[str, int], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.layout, case.steps), []).append(case)
    rows = []
    for (layout, steps), group in groups.items():
        by_method = {case.method: case for case in group}
        result = sweep(study_of(group, seeds), folder / f"{layout}_{steps}", jobs=jobs)
        rows += [
            row_of(by_method[line.variant.name], trial)
            for line in result.lines
            for trial in line.trials
        ]
    return rows


def row_of(case: Case, trial: Ended) -> dict[str, Any]:
    """The row of a run of our own agents."""
    import hierebm

    end = read_result(Path(trial.folder)) or {}
    curve = [(row["env_steps"], round(row["seconds"], 1), row["success"]) for row in trial.curve]
    row = _row(case, trial.seed, [(0, 0.0, 0.0), *curve], end["success"], end["ci95"], end["steps"])
    if case.method == "hierarchical" and case.layout == "open":
        env = gym.make(ENV_ID, layout=case.layout)
        path = Path(trial.folder) / "agent.zip"
        row |= subgoal_quality(hierebm.HierarchicalEBMAgent.load(path, env=env))
    return row


def train(case: Case, seed: int) -> list[dict[str, Any]]:
    """Train and measure one run of a peer."""
    from benchmarks.speed.peer import sb3_ddpg
    from hierebm.evaluation import evaluate

    task: dict[str, Any] = {"layout": case.layout}
    model = sb3_ddpg(gym.make(ENV_ID, **task), seed=seed, **dict(case.settings))
    if case.distance:
        task["distance"] = case.distance
    lanes = gym.make_vec(ENV_ID, num_envs=25, **task)
    curve, wall_s = [(0, 0.0, 0.0)], 0.0
    for _ in range(POINTS):
        started = time.perf_counter()
        model.learn(total_timesteps=case.steps // POINTS, reset_num_timesteps=False)
        wall_s += time.perf_counter() - started
        success = evaluate(model, lanes, CURVE_TASKS, seed=1).success_rate
        curve.append((model.num_timesteps, round(wall_s, 1), success))
    final = evaluate(model, lanes, TASKS, seed=2)
    return [_row(case, seed, curve, final.success_rate, final.ci95, final.mean_ep_length)]


def _row(
    case: Case,
    seed: int,
    curve: list[tuple[int, float, float]],
    success: float,
    ci95: Sequence[float],
    steps: float,
) -> dict[str, Any]:
    return {
        "method": case.method,
        "layout": case.layout,
        "distance": case.distance,
        "seed": seed,
        "env_steps": curve[-1][0],
        "wall_s": curve[-1][1],
        "success": success,
        "ci95": [round(bound, 3) for bound in ci95],
        "steps": round(steps, 1),
        "curve": curve,
    }


def subgoal_quality(agent: Any, n_pairs: int = 200) -> dict[str, float]:
    """On the open plane, whose shortest paths are straight lines, medians over pairs of

    * ``path_ratio``: the shortest way from start to goal through the sampled subgoals, every hop
      at most 8 steps long, over the straight line;
    * ``saddle_nats``: the energy at mid-path minus the higher one near the ends (a tenth of the
      way in), along the straight line.
    """
    from scipy.sparse.csgraph import dijkstra

    rng, context = np.random.default_rng(0), agent.high_level.context
    ratios: list[float] = []
    saddles: list[float] = []
    while len(ratios) < n_pairs:
        start, goal = rng.uniform(-1.9, 1.9, (2, 2)).astype(np.float32)
        length = float(np.linalg.norm(goal - start))
        if length < 1.6:
            continue
        nodes = agent.sampler.sample(start, goal, 32, context.experienced, rng, context.edges)
        points = np.concatenate([start[None], nodes.achieved_goal, goal[None]])
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        gaps[gaps > 1.6] = 0.0
        way = dijkstra(gaps, indices=0)[-1]
        ratios.append(way / length)
        along = start + np.linspace(0.1, 0.9, 9, dtype=np.float32)[:, None] * (goal - start)
        energies = agent.energy.energy(along, start, goal)
        saddles.append(float(energies[4] - max(energies[0], energies[-1])))
    return {
        "path_ratio": round(float(np.median(ratios)), 4),
        "saddle_nats": round(float(np.median(saddles)), 3),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Success against environment steps and seconds, one column a layout; thin lines are seeds."""
    from matplotlib.figure import Figure

    layouts = list(dict.fromkeys(row["layout"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(5 * len(layouts), 7.0), layout="constrained")
    axes = figure.subplots(2, len(layouts), squeeze=False, sharey=True)
    for column, layout in enumerate(layouts):
        for i, method in enumerate(methods):
            curves = [r["curve"] for r in rows if (r["method"], r["layout"]) == (method, layout)]
            for curve in curves:
                for ax, x in zip(axes[:, column], (0, 1), strict=True):
                    points = np.array([(point[x], point[2]) for point in curve])
                    ax.plot(*points.T, color=f"C{i}", linewidth=0.8, alpha=0.4)
            if curves:
                middle = np.median(np.array(curves), axis=0)
                for ax, x in zip(axes[:, column], (0, 1), strict=True):
                    ax.plot(middle[:, x], middle[:, 2], color=f"C{i}", linewidth=2.2, label=method)
        far = next(row["distance"] for row in rows if row["layout"] == layout)
        title = layout + (f", tasks {far[0]:g} to {far[1]:g} units apart" if far else "")
        axes[0, column].set_title(title)
        axes[0, column].set_xlabel("environment steps")
        axes[1, column].set_xlabel("seconds of training (one thread a run, one run on every core)")
        for ax in axes[:, column]:
            ax.set_ylim(-0.02, 1.02)
            ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("success rate")
    labels = {
        label: line
        for ax in axes[0]
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    lines, names = list(labels.values()), list(labels)
    figure.legend(lines, names, loc="outside lower center", ncols=len(methods), frameon=False)
    figure.savefig(path, dpi=130)
