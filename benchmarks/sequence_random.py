"""Sequences carried out by the inverse model: what random transitions alone teach, which parts of
the optimiser that needs, and how many steps planned exploration saves.

No goals are seen, there are no rewards, and no low level but the inverse model: the setting of Du,
Lin & Mordatch (2019, arXiv 1909.06878), whose two worlds are here as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks.sequence_agents import AnyLayout, follow, measure_success
from hierebm.data import OfflineDataset
from hierebm.envs.layouts import get_layout
from hierebm.planning.sequence import SequenceOptimizer
from hierebm.replay import sample_pairs
from hierebm.types import FloatArray

# Environments side by side, and steps of an episode, of random actions.
LANES, EPISODE = 20, 100
# Updates of the inverse model; the energy has its 600 of one round.
UPDATES = 1000
# Updates of the energy where it is learned again, the updates between two plans whose transitions
# become negatives, and how many plans those are.
ENERGY_UPDATES, IMAGINED_EVERY, IMAGINED = 600, 20, 8
TASKS = 100
# Of agents, instead of the defaults.
SETTINGS: dict[str, Any] = {}
Start = tuple[float, float] | None
# Actions that planned exploration begins with are drawn at random.
LEARNING_STARTS = 200
# Half the length of a world of Du et al. here, where a step is as long as theirs is there.
HALF = 4.0

MAZE = tuple(
    "".join("." if column % 4 < 2 or opened == column % 8 // 2 else "#" for column in range(16))
    for opened in (1, 1, *[0] * 12, 3, 3)
)
"""The maze of Du et al.: of eight columns each second is a wall with an opening at the top or at
the bottom in turn, here of 1/8 of the side, there of .15."""
WORLDS: dict[str, tuple[AnyLayout, int]] = {
    "Point": (("." * 16,) * 16, 20_000),
    "Maze": (MAZE, 60_000),
}
"""The worlds of Du et al., and the random transitions that are learned from."""
START, GOAL = (-0.85, -0.85), (0.7, -0.8)

PARTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no Langevin steps": {"langevin_steps": 0},
    "plans left off visited ground": {"snap": False},
    "squared loss": {"objective": "squared"},
    "imagined negatives": {"imagined": True},
    "squared loss, imagined negatives": {"objective": "squared", "imagined": True},
}
"""What differs, by the settings that make it so."""


def random_transitions(
    layout: AnyLayout, env_steps: int, seed: int, start: Start = None
) -> OfflineDataset:
    """Episodes of independent uniform actions, from random starts or from one.

    Args:
        env_steps: rounded to whole episodes.
    """
    episodes = max(1, round(env_steps / EPISODE))
    lanes = max(n for n in range(1, LANES + 1) if episodes % n == 0)
    env = gym.make_vec(
        "PointMassGoal-v0",
        num_envs=lanes,
        layout=layout,
        continuing_task=True,
        time_limit=EPISODE,
        start=start,
    )
    rng, observations, actions = np.random.default_rng(seed), [], []
    for episode in range(episodes // lanes):
        state = env.reset(seed=seed if episode == 0 else None)[0]["observation"]
        for _ in range(EPISODE):
            observations.append(state.copy())
            actions.append(rng.uniform(-1, 1, (lanes, 2)).astype(np.float32))
            state = env.step(actions[-1])[0]["observation"]
        # What comes last in an episode are a state and an action that is not looked at.
        observations.append(state.copy())
        actions.append(np.zeros((lanes, 2), np.float32))
    env.close()
    ends = np.zeros((lanes, episodes // lanes, EPISODE + 1))
    ends[:, :, -1] = 1
    observation, action = (
        np.stack(rows, axis=1).reshape(-1, rows[0].shape[1]) for rows in (observations, actions)
    )
    return OfflineDataset.from_arrays(observation, action, ends.reshape(-1), goal=[0, 1])


def make_agent(layout: AnyLayout, seed: int, **env: Any) -> Any:
    """An agent that plans sequences and acts by the inverse model."""
    import hierebm

    agent = hierebm.HierarchicalEBMAgent(
        planner="sequence",
        low_level="inverse",
        learning_starts=LEARNING_STARTS,
        seed=seed,
        **SETTINGS,
    )
    agent.set_env(gym.make("PointMassGoal-v0", layout=layout, **env))
    return agent


def learn_random(
    layout: AnyLayout, env_steps: int, seed: int, start: Start = None
) -> tuple[Any, float]:
    """An agent that learned from so many random transitions; seconds that it took."""
    data, started = random_transitions(layout, env_steps, seed, start), time.process_time()
    agent = make_agent(layout, seed)
    agent.learn_offline(data, UPDATES, log_interval=None)
    return agent, round(time.process_time() - started, 1)


# -------------------------------------------------------------------------- parts


def parts(
    layout: str, env_steps: int, seed: int, changes: int = len(PARTS)
) -> list[dict[str, Any]]:
    """Success from random transitions alone: one row for each of the first so many changed parts,
    with the transition map and, where the energy is all there is to plan with, without it."""
    agent, train_s = learn_random(layout, env_steps, seed)
    planner, rows = agent.high_level.planner, []
    learned = planner.sequences
    for name, changed in list(PARTS.items())[:changes]:
        config = replace(learned.config, **{k: v for k, v in changed.items() if k != "imagined"})
        planner.sequences, before = learned, learned.config
        if "objective" in changed or "imagined" in changed:
            planner.sequences = fit_again(agent, config, bool(changed.get("imagined")), seed)
        planner.sequences.config = config
        for with_map in (True, False):
            what = {"kind": "parts", "layout": layout, "env_steps": env_steps, "changed": name}
            what |= {"map": with_map, "seed": seed, "train_s": train_s}
            with planning_by(agent, with_map):
                rows.append({**what, **measure_success(agent, layout, TASKS)})
        learned.config = before
    return rows


def fit_again(agent: Any, config: Any, imagined: bool, seed: int) -> SequenceOptimizer:
    """An optimiser that learned from what the agent stored, planned transitions being negatives or
    not."""
    g, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    optimizer, replay = SequenceOptimizer(2, config, g), agent.replay_buffer
    for update in range(ENERGY_UPDATES):
        pairs = sample_pairs(replay, 128, rng, max_steps=config.transition_steps)
        optimizer.update(torch.from_numpy(pairs))
        if imagined and update % IMAGINED_EVERY == IMAGINED_EVERY - 1:
            ends = torch.from_numpy(replay.achieved_goal[replay.sample_rows(2 * IMAGINED, rng)])
            plan = optimizer.plan(ends[:IMAGINED], ends[IMAGINED:], generator=g)
            for states, n in zip(plan.states, plan.n_states.tolist(), strict=True):
                optimizer.add_negatives(torch.stack([states[: n - 1], states[1:n]], 1))
    return optimizer


@contextmanager
def planning_by(agent: Any, with_map: bool) -> Iterator[None]:
    """Plan with the transition map, or with the energy and replayed states alone."""
    context = agent.high_level.context
    known = context.transition_map
    if not with_map:
        context.transition_map = None
    try:
        yield
    finally:
        context.transition_map = known


# ------------------------------------------------------------------------- worlds


def world(name: str, seed: int) -> list[dict[str, Any]]:
    """Steps to the goal in a world of Du et al., beside the fewest possible."""
    layout, env_steps = WORLDS[name]
    agent, train_s = learn_random(layout, env_steps, seed)
    start, goal = (tuple(HALF * x for x in point) for point in (START, GOAL))
    env = gym.make("PointMassGoal-v0", layout=layout, start=start, goal=goal, time_limit=1000)
    observation, _ = env.reset(seed=seed)
    path, arrived = follow(agent, env, observation)
    shortest = float(get_layout(layout).shortest_path_distance(path[0], np.array(goal)))
    walked = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    env.close()
    row = {"kind": "worlds", "world": name, "env_steps": env_steps, "seed": seed}
    row |= {"train_s": train_s, "arrived": arrived, "steps": len(path) - 1}
    return [{**row, "walked": walked / HALF, "shortest": shortest / HALF}]


# ------------------------------------------------------------------------- active


def active(
    layout: str, planned: tuple[int, ...], seed: int, one_start: bool = True
) -> list[dict[str, Any]]:
    """Success after so many steps of planned exploration, and after as many, twice and four times
    as many random transitions.

    Args:
        one_start: all episodes of learning begin in the same corner, as those of Du et al.; False:
            anywhere, so that starts alone cover the ground.
    """
    rows, start = [], corner_of(layout) if one_start else None

    def add(way: str, env_steps: int, agent: Any) -> None:
        what = {"kind": "active", "layout": layout, "one_start": one_start, "way": way}
        what |= {"env_steps": env_steps, "seed": seed}
        rows.append({**what, **measure_success(agent, layout, TASKS)})

    agent = make_agent(layout, seed, start=start, time_limit=EPISODE)
    for steps in planned:
        agent.learn(None, steps - agent.num_timesteps, reset_num_timesteps=False)
        add("planned", steps, agent)
    for n in sorted({times * steps for steps in planned for times in (1, 2, 4)}):
        add("random", n, learn_random(layout, n, seed, start)[0])
    return rows


def corner_of(layout: str) -> tuple[float, float]:
    """The middle of the free cell that is farthest to the left and below."""
    world = get_layout(layout)
    low = world.free_cell_low[world.free_cell_low.sum(1).argmin()]
    x, y = (low + 0.5 * world.cell_size).tolist()
    return x, y


def draw_coverage(layout: str, env_steps: int, path: Path, seed: int = 0) -> dict[str, float]:
    """Draw where as many steps of planned exploration and of random actions led from one corner.

    Returns:
        The share of the free cells, each split in four, that either visited.
    """
    from matplotlib.figure import Figure

    from hierebm.plotting.drawing import Walls, draw_walls, frame

    world, start = get_layout(layout), corner_of(layout)
    agent = make_agent(layout, seed, start=start, time_limit=EPISODE)
    agent.learn(None, env_steps)
    replay = agent.replay
    visited: dict[str, FloatArray] = {
        "planned": replay.achieved_goal[replay.newest_rows(env_steps)],
        "random": random_transitions(layout, env_steps, seed, start).achieved_goal,
    }
    shares, walls = {}, Walls(world.walls, world.extent)
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    for ax, (way, points) in zip(figure.subplots(1, 2), visited.items(), strict=True):
        cells = np.unique(np.floor((points - world.low) / (0.5 * world.cell_size)), axis=0)
        shares[way] = min(1.0, len(cells) / (4 * len(world.free_cell_low)))
        draw_walls(ax, walls)
        frame(ax, world.extent, enclosed=True)
        ax.plot(*points.T, ".", color="#1f6feb", markersize=1.5, alpha=0.5, zorder=3)
        ax.set_title(f"{way}, {env_steps:,} steps: {shares[way]:.0%} of the ground")
    figure.savefig(path, dpi=130)
    return shares
