"""The sequence optimiser: its plans alone, without a low level; agents that act on them, beside
the graph; what random transitions alone teach, and what each part is worth there.

Of the plans alone (how short, how straight, how feasible), the experience is a scripted explorer's.
Queries are the same for every seed and number of updates. Times are processor times on one thread.
What was interrupted goes on where it was; cheap cases come first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import sequence_agents, sequence_mazes, sequence_random
from benchmarks.robotics.worlds import WORLDS
from benchmarks.timing import processor_ms
from benchmarks.trials import Job, folder_of, named, rows_of
from hierebm.envs.layouts import Layout, get_layout
from hierebm.planning.sequence import SequenceConfig, SequenceOptimizer
from hierebm.types import FloatArray

WALKERS, STEERERS, EPISODE = 20, 20, 100
BATCH = 128
# Queries of a layout, and how many of them are planned in one batch.
QUERIES, TOGETHER = 100, 25
# Numbers of states that plans are timed at.
GIVEN = (20, 100)
# Plans of a case that are drawn.
SHOWN = 15
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A layout, and how much is explored and learned there."""

    layout: str
    env_steps: int
    updates: int

    @property
    def name(self) -> str:
        """Of the case, among others."""
        return self.layout

    @property
    def min_path(self) -> float:
        """Shortest path that a query has at least, world units."""
        return 1.0 if self.layout == "open" else 2.0


CASES = (
    Case("open", 8_000, 800),
    Case("u", 40_000, 1000),
    Case("four_rooms", 40_000, 1000),
    # With 1000 updates, one in six plans leads through a wall.
    Case("serpentine", 40_000, 2000),
)
PARTS = (("open", 10_000, 1), ("u", 20_000, 6))
"""Layouts, random transitions that are learned from there, and how many changes are measured."""
AGENTS = (
    ("open", 2_000, False, False),
    ("u", 4_000, True, False),
    ("four_rooms", 6_000, True, True),
    ("serpentine", 10_000, False, False),
    ("spiral", 10_000, False, False),
    ("large", 30_000, False, False),
)
"""Layouts, steps of training, and whether horizons and the closing door are measured there."""
MAZES = (("PointMaze Medium", 12_000), ("PointMaze Large", 16_000), ("OGBench point giant", 16_000))
"""Worlds of ``python -m benchmarks robotics``, and steps of training."""
ACTIVE = (("u", (1_000, 2_000, 4_000)), ("four_rooms", (2_000, 4_000, 8_000)))
"""Layouts, and steps of planned exploration."""


def run(quick: bool, seeds: int | None, out: Path, only: list[str] | None = None) -> list[Row]:
    """The rows of every case and seed; draws some plans of every case's first seed.

    Args:
        only: names of cases; no other is run, and nothing drawn.

    Raises:
        SystemExit: there is no case of such a name; says which there are.
    """
    torch.set_num_threads(1)
    cases = named(jobs(quick, range(seeds or (1 if quick else 3))))
    if only is not None:
        if unknown := [name for name in only if name not in cases]:
            raise SystemExit("\n".join([f"no case {unknown}, but:", *cases]))
        cases = {name: cases[name] for name in only}
    done = rows_of(cases, folder_of(out, "sequence"), 1)
    rows = [row for measured in done.values() for row in measured]
    if only is None:
        draw([row for row in rows if row.get("shown")], out / "sequence.png")
        relax(CASES[-2], out / "sequence.gif")
        if not quick:
            layout, steps = ACTIVE[0]
            sequence_random.draw_coverage(layout, steps[0], out / "sequence_coverage.png")
    return [{key: value for key, value in row.items() if key != "shown"} for row in rows]


def jobs(quick: bool, seeds: range) -> list[Job]:
    """Every case with every seed, cheap ones first."""
    if quick:
        all_jobs: list[Job] = [(plans, case, seed) for case in CASES[:2] for seed in seeds]
        return all_jobs + _comparisons(AGENTS[:1], seeds)
    all_jobs = [(plans, case, seed) for seed in seeds for case in CASES]
    all_jobs += [
        (sequence_random.parts, layout, n, seed, changes)
        for layout, n, changes in PARTS
        for seed in seeds
    ]
    all_jobs += [(sequence_random.world, w, s) for s in seeds for w in sequence_random.WORLDS]
    all_jobs += _comparisons(AGENTS[:2], seeds)
    all_jobs += [(sequence_random.active, *ACTIVE[0], seed) for seed in seeds]
    all_jobs += _comparisons(AGENTS[2:3], seeds)
    all_jobs += [(sequence_random.active, *ACTIVE[1], seed) for seed in seeds]
    all_jobs += _comparisons(AGENTS[3:], seeds)
    return all_jobs + [
        (sequence_mazes.compare, world.name, planner, steps, seed)
        for name, steps in MAZES
        for world in WORLDS
        if world.name == name and world.is_there
        for seed in seeds
        for planner in sequence_agents.PLANNERS
    ]


def _comparisons(agents: Any, seeds: range) -> list[Job]:
    return [
        (sequence_agents.compare, layout, planner, steps, seed, horizons, door)
        for layout, steps, horizons, door in agents
        for seed in seeds
        for planner in sequence_agents.PLANNERS
    ]


def plans(case: Case, seed: int) -> list[Row]:
    """One row for the plans as they are, with some of the first seed to be drawn, and one for those
    without Langevin steps."""
    layout, rows = get_layout(case.layout), []
    optimizer, train_s = fit(case, seed)
    queries = far_queries(layout, QUERIES, case.min_path)
    changes: dict[str, dict[str, Any]] = {
        "nothing": {},
        "no Langevin steps": {"langevin_steps": 0},
    }
    for changed, settings in changes.items():
        optimizer.config = replace(optimizer.config, **settings)
        row, planned = measure(optimizer, layout, *queries)
        what: Row = {"kind": "plans", "layout": case.layout, "env_steps": case.env_steps}
        what |= {"updates": case.updates, "changed": changed, "seed": seed, **row}
        shown = [plan.tolist() for plan in planned[:SHOWN]] if seed == 0 and not settings else []
        rows.append({**what, "train_s": round(train_s, 1), "shown": shown})
    return rows


# ------------------------------------------------------------------------------- learning


def explore(layout: str, env_steps: int, rng: np.random.Generator) -> FloatArray:
    """Positions (episodes, EPISODE + 1, 2) of a scripted explorer, about ``env_steps`` in all.

    One half does random walks with momentum, holding an action (each axis -1, 0 or 1, times .5 to
    1) for 7 steps on average; the other steers at full speed, with noise, to random points, and to
    another one after 25 steps on average.
    """
    n, maze = WALKERS + STEERERS, get_layout(layout)
    env = gym.make_vec(
        "PointMassGoal-v0", num_envs=n, layout=layout, continuing_task=True, time_limit=EPISODE
    )
    walks = (np.arange(n) < WALKERS)[:, None]
    paths = []
    seed: int | None = int(rng.integers(2**31))
    for _ in range(max(1, round(env_steps / (n * EPISODE)))):
        observation, _ = env.reset(seed=seed)
        seed = None  # later resets go on in the same stream
        state = observation["observation"]
        path, target, held = [state[:, :2].copy()], free_points(maze, n, rng), np.zeros((n, 2))
        for t in range(EPISODE):
            redrawn = (rng.random((n, 1)) < 0.15) | (t == 0)
            pushes = rng.choice([-1, 0, 1], size=(n, 2)) * rng.uniform(0.5, 1.0, (n, 2))
            held = np.where(redrawn, pushes, held)
            offset = target - state[:, :2]
            arrived = (np.linalg.norm(offset, axis=1) < 0.3) | (rng.random(n) < 0.04)
            target = np.where(arrived[:, None], free_points(maze, n, rng), target)
            steer = 4.0 * (target - state[:, :2]) - 8.0 * state[:, 2:]
            steer += 0.3 * rng.standard_normal((n, 2))
            action = np.clip(np.where(walks, held, steer), -1.0, 1.0)
            state = env.step(action.astype(np.float32))[0]["observation"]
            path.append(state[:, :2].copy())
        paths.append(np.stack(path, axis=1))
    env.close()
    return np.concatenate(paths)


def free_points(layout: Layout, n: int, rng: np.random.Generator) -> FloatArray:
    """(n, 2) float32, uniform over free space."""
    corners = layout.free_cell_low[rng.integers(len(layout.free_cell_low), size=n)]
    points: FloatArray = (corners + rng.random((n, 2)) * layout.cell_size).astype(np.float32)
    return points


def draw_pairs(paths: FloatArray, n: int, k: int, rng: np.random.Generator) -> Tensor:
    """(n, 2, 2) transitions (s_t, s_t+j) from paths (E, T, 2), j uniform in 1..k."""
    episode, j = rng.integers(len(paths), size=n), rng.integers(1, k + 1, size=n)
    t = rng.integers(paths.shape[1] - j)
    return torch.from_numpy(np.stack([paths[episode, t], paths[episode, t + j]], axis=1))


def fit(case: Case, seed: int) -> tuple[SequenceOptimizer, float]:
    """A trained optimiser; seconds that the updates took."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    paths = explore(case.layout, case.env_steps, rng)
    optimizer = SequenceOptimizer(2, SequenceConfig(), generator)
    started = time.process_time()
    for _ in range(case.updates):
        optimizer.update(draw_pairs(paths, BATCH, optimizer.config.transition_steps, rng))
    return optimizer, time.process_time() - started


# ------------------------------------------------------------------------------ measuring


def far_queries(layout: Layout, n: int, min_path: float) -> tuple[FloatArray, FloatArray]:
    """Starts and goals (n, 2) whose shortest path is longer than ``min_path``, always the same."""
    rng, pairs = np.random.default_rng(5), np.zeros((0, 2, 2), np.float32)
    while len(pairs) < n:
        a, b = free_points(layout, 4 * n, rng), free_points(layout, 4 * n, rng)
        distance = layout.shortest_path_distance(a, b)
        far = np.isfinite(distance) & (distance > min_path)
        pairs = np.concatenate([pairs, np.stack([a[far], b[far]], axis=1)])
    return pairs[:n, 0], pairs[:n, 1]


@dataclass(frozen=True)
class PlanQuality:
    """What is right and wrong with one plan.

    Attributes:
        ratio: its length over the shortest path's.
        variation: standard deviation of its steps' lengths over their mean.
        free: (T - 1,) bool, straight segments that cross no wall.
        blocked: (T - 1,) bool, steps whose shortest path is more than 1.3 times the straight one
            plus 0.3. A step may clip a corner, which a transition of k steps really can go round.
    """

    ratio: float
    variation: float
    free: NDArray[np.bool_]
    blocked: NDArray[np.bool_]


def plan_quality(states: FloatArray, layout: Layout) -> PlanQuality:
    """Quality of a plan (T, 2), T >= 2, in world units."""
    a, b = states[:-1].astype(float), states[1:].astype(float)
    lengths = np.linalg.norm(b - a, axis=1)
    shortest = float(layout.shortest_path_distance(states[0], states[-1]))
    return PlanQuality(
        ratio=float(lengths.sum()) / shortest,
        variation=float(lengths.std() / lengths.mean()),
        free=layout.segment_is_free(a, b),
        blocked=layout.shortest_path_distance(a, b) > 1.3 * lengths + 0.3,
    )


def measure(
    optimizer: SequenceOptimizer, layout: Layout, start: FloatArray, goal: FloatArray
) -> tuple[Row, list[FloatArray]]:
    """What the plans from start to goal, (n, 2) each, are like; the plans themselves."""
    a, b = torch.from_numpy(start), torch.from_numpy(goal)
    generator = torch.Generator().manual_seed(1)
    plans: list[FloatArray] = []
    for some_a, some_b in zip(a.split(TOGETHER), b.split(TOGETHER), strict=True):
        planned = optimizer.plan(some_a, some_b, generator=generator)
        sizes = planned.n_states.tolist()
        plans += [s[:n].numpy() for s, n in zip(planned.states, sizes, strict=True)]
    qualities = [plan_quality(plan, layout) for plan in plans]
    ratios = [q.ratio for q in qualities]
    turn = iter(np.resize(np.arange(len(a)), 30 * (1 + len(GIVEN))).tolist())

    def plan_one(n_states: int | None = None) -> None:
        i = next(turn)
        optimizer.plan(a[i : i + 1], b[i : i + 1], n_states, generator=generator)

    row = {
        "ratio": round(median(ratios), 3),
        "ratio_90": round(float(np.quantile(ratios, 0.9)), 3),
        "segments_free": round(float(np.concatenate([q.free for q in qualities]).mean()), 3),
        "plans_free": round(float(np.mean([q.free.all() for q in qualities])), 3),
        "not_blocked": round(float(np.mean([not q.blocked.any() for q in qualities])), 3),
        "states": round(float(np.mean([len(plan) for plan in plans])), 1),
        "variation": round(median(q.variation for q in qualities), 3),
        "plan_ms": round(processor_ms(plan_one), 1),
        **{f"plan_{n}_ms": round(processor_ms(partial(plan_one, n)), 1) for n in GIVEN},
    }
    return row, plans


def draw(rows: list[Row], path: Path) -> None:
    """The plans that rows hold; those that are blocked somewhere in red."""
    from matplotlib.figure import Figure

    from hierebm.plotting.drawing import Walls, draw_walls, frame

    figure = Figure(figsize=(4.2 * len(rows), 4.6), layout="constrained")
    for ax, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, strict=True):
        layout = get_layout(row["layout"])
        draw_walls(ax, Walls(layout.walls, layout.extent))
        frame(ax, layout.extent, enclosed=True)
        for points in row["shown"]:
            plan = np.array(points, np.float32)
            blocked = plan_quality(plan, layout).blocked.any()
            ax.plot(*plan.T, ".-", color="#d6336c" if blocked else "#1f6feb", linewidth=1,
                    markersize=4, alpha=0.8, zorder=5)  # fmt: skip
        ax.set_title(f"{row['layout']}, {row['updates']} updates")
    figure.savefig(path, dpi=130)


def relax(case: Case, path: Path) -> None:
    """A sequence of the case that relaxes to a way, as an animation."""
    from hierebm.plotting.drawing import Walls
    from hierebm.plotting.relaxing import relaxing_frames
    from hierebm.plotting.watching import write_video

    layout = get_layout(case.layout)
    starts, goals = far_queries(layout, QUERIES, case.min_path)
    longest = int(layout.shortest_path_distance(starts, goals).argmax())
    frames = relaxing_frames(
        fit(case, 0)[0], starts[longest], goals[longest], Walls(layout.walls, layout.extent)
    )
    write_video(path, frames, fps=5)
