"""Success against the number of subgoals, for every sampler on the same trained low level.

One default agent is trained for each world and seed and kept under ``OUT/agents``. Samplers that
learn are then trained on its experience, all for the same number of gradient steps; each is given
the cutoff that suits it best on other tasks; and all of them attempt the same far tasks with more
and more nodes. Besides: how sound the low level's edges are, how few nodes they allow at all, how
the nodes needed grow with the world, what a plan costs, and what each remedy is worth. Every job
is a trial of a sweep, on one thread, one on every core. All of it takes many hours: a run that was
interrupted goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.subgoals.fewest_nodes import fewest_nodes
from benchmarks.subgoals.growth import LEVEL, draw_growth, draw_success, growth, pooled
from benchmarks.subgoals.measure import STEP, World, attempt, equip, fitted, trained
from benchmarks.subgoals.plan_time import plan_time
from benchmarks.subgoals.remedies import AT_EVALUATION, WHILE_LEARNING
from benchmarks.subgoals.soundness import soundness
from benchmarks.trials import Job, folder_of, rows_of
from hierebm import HierarchicalEBMAgent
from hierebm.planning.samplers import SAMPLERS

LAYOUTS: dict[str, int] = {
    "four_rooms": 20_000,
    "u": 10_000,
    "spiral": 25_000,
    "serpentine": 20_000,
    "large": 80_000,
}
"""Training steps on each layout."""
GROWTH: dict[int, int] = {2: 50_000, 4: 100_000}
"""Training steps on four_rooms at larger scales."""
GROWING = "four_rooms"

NODES = (2, 3, 4, 6, 8, 16, 32, 64, 128, 256, 512)
ENOUGH = 0.98
"""A sweep ends after two cells in a row with at least this success."""
EDGES = ((8.0, 20.0), (5.0, 20.0), (5.0, 12.0), (12.0, 20.0))
"""(safe_edge, max_edge) that a sampler chooses from at ``TUNING_NODES``: the first of the best."""
TUNING_NODES = 64
TUNING_SEED, TASK_SEED = 1, 2


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    nodes: tuple[int, ...] = NODES
    edges: tuple[tuple[float, float], ...] = EDGES
    tasks: int = 100
    tuning_tasks: int = 50
    tuning_nodes: int = TUNING_NODES


QUICK = Effort((4, 8, 16, 32, 64), ((8.0, 20.0), (5.0, 20.0), (12.0, 20.0)), 40, 20, 32)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"bisection": ("ebm", {"bisection": True})}
"""Samplers with other settings than the default ones: name, and what differs."""
ABLATED = ("four_rooms", "serpentine", "large")
"""Layouts on which remedies are switched off."""


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """Train, sweep, switch off; rows of every ``kind``, and two pictures."""
    worlds = [World(layout, 1, steps) for layout, steps in LAYOUTS.items()]
    worlds += [World(GROWING, scale, steps) for scale, steps in GROWTH.items()]
    effort = Effort()
    if quick:
        worlds, effort = [World("four_rooms", 1, 15_000)], QUICK
    pairs = [(world, seed) for world in worlds for seed in range(seeds or (1 if quick else 3))]
    # The largest first: they take longest.
    pairs.sort(key=lambda pair: -pair[0].steps)
    agents, folder = out / "agents", folder_of(out, "subgoals")
    rows_of(
        {f"agent, {w.name}, seed {seed}": (learn, w, seed, agents) for w, seed in pairs}, folder
    )
    jobs: dict[str, Job] = {}
    for world, seed in pairs:
        of = f"{world.name}, seed {seed}"
        for sampler in (*SAMPLERS, *VARIANTS, "agent"):
            jobs[f"{sampler}, {of}"] = (sweep, world, seed, agents, sampler, effort)
    for world, seed in pairs:
        of = f"{world.name}, seed {seed}"
        jobs[f"edges, {of}"] = (check_edges, world, seed, agents)
        if world.layout not in ABLATED or world.scale != 1:
            continue
        jobs[f"remedies off, {of}"] = (switch_off, world, seed, agents, effort)
        for off in () if quick else WHILE_LEARNING:
            jobs[f"without {off}, {of}"] = (leave_out, world, seed, agents, effort, off)
    done = rows_of(jobs, folder)
    rows = [row for name in jobs for row in done[name]]
    node = {world.name: k for k, world in enumerate(worlds)}
    rows.sort(key=lambda r: (node[World(r["layout"], r["scale"], 0).name], r["seed"]))
    cells = [row for row in rows if row["kind"] == "success"]
    needed = pooled([cell for cell in cells if cell["sampler"] != "agent"])
    draw_success(cells, out / "subgoals.png")
    if not quick:
        draw_growth(needed, GROWING, out / "subgoals_growth.png")
    others = [
        r for k in ("plan time", "bound", "soundness", "ablation") for r in rows if r["kind"] == k
    ]
    return [*cells, *needed, *growth(needed, GROWING), *others]


def learn(world: World, seed: int, folder: Path) -> None:
    """Train the agent that all other jobs of this world and seed share."""
    trained(world, seed, folder)


def sweep(world: World, seed: int, folder: Path, name: str, effort: Effort) -> list[dict[str, Any]]:
    """Success by number of nodes for one sampler, with the cutoff that suits it best; and what a
    plan costs with the first number of nodes that is enough.

    "agent" is the agent as it came out of its training: its own sampler and settings, which draw
    new nodes where the first give no verified path.
    """
    agent = trained(world, seed, folder)
    box = world.make().observation_space["desired_goal"]
    common = {"kind": "success", "layout": world.layout, "scale": world.scale, "seed": seed}
    common |= {"sampler": name, "side": round(float((box.high - box.low).max() / STEP))}
    if name == "agent":
        equip(agent, seed=seed)
        c = agent.high_level.planner.context.config
        row = common | {"nodes": c.n_subgoals, "safe_edge": c.safe_edge, "max_edge": c.max_edge}
        return [row | attempt(agent, world, effort.tasks, TASK_SEED)]
    kind, settings = VARIANTS.get(name, (name, {}))
    sampler, rates = fitted(agent, kind, seed, **settings), {}
    for safe_edge, max_edge in effort.edges:
        # New nodes where the first give no path would hide how many it takes.
        cutoff: dict[str, Any] = {"safe_edge": safe_edge, "max_edge": max_edge, "redraws": 0}
        equip(agent, sampler, seed=seed, n_subgoals=effort.tuning_nodes, **cutoff)
        tried = attempt(agent, world, effort.tuning_tasks, TUNING_SEED)
        rates[safe_edge, max_edge] = tried["success"]
    safe_edge, max_edge = max(rates, key=lambda edges: rates[edges])
    rows: list[dict[str, Any]] = []
    for n in effort.nodes:
        cutoff = {"safe_edge": safe_edge, "max_edge": max_edge, "redraws": 0}
        equip(agent, sampler, seed=seed, n_subgoals=n, **cutoff)
        row = common | {"nodes": n, "safe_edge": safe_edge, "max_edge": max_edge}
        rows.append(row | attempt(agent, world, effort.tasks, TASK_SEED))
        if len(rows) > 1 and min(r["success"] for r in rows[-2:]) >= ENOUGH:
            break
    enough = next((row["nodes"] for row in rows if row["success"] >= LEVEL), None)
    if enough is not None:
        row = common | {"kind": "plan time", "nodes": enough}
        rows.append(row | plan_time(agent, sampler, world, n_subgoals=enough, **cutoff))
    return rows


def check_edges(world: World, seed: int, folder: Path) -> list[dict[str, Any]]:
    """How sound the edges of the trained low level are, and how few nodes they allow."""
    common = {"layout": world.layout, "scale": world.scale, "seed": seed}
    agent = trained(world, seed, folder)
    rows = [{"kind": "soundness"} | common | row for row in soundness(agent, world)]
    bound = fewest_nodes(agent.high_level.context, world, 100, TASK_SEED)
    return [*rows, {"kind": "bound"} | common | bound]


def switch_off(world: World, seed: int, folder: Path, effort: Effort) -> list[dict[str, Any]]:
    """The trained agent with each remedy off that it can do without."""
    agent = trained(world, seed, folder)
    rows = []
    for off, different in AT_EVALUATION.items():
        equip(agent, seed=seed, **different)
        rows.append(_ablation(agent, world, seed, off, effort))
    return rows


def leave_out(
    world: World, seed: int, folder: Path, effort: Effort, off: str
) -> list[dict[str, Any]]:
    """An agent that was trained without a remedy."""
    agent = trained(world, seed, folder, WHILE_LEARNING[off], f"without {off}")
    equip(agent, seed=seed)
    return [_ablation(agent, world, seed, off, effort)]


def _ablation(
    agent: HierarchicalEBMAgent, world: World, seed: int, off: str, effort: Effort
) -> dict[str, Any]:
    row = {"kind": "ablation", "layout": world.layout, "scale": world.scale, "seed": seed}
    row |= {"off": off, "while_learning": off in WHILE_LEARNING}
    return row | attempt(agent, world, effort.tasks, TASK_SEED)
