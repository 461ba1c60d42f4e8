"""Sequences beside the graph in mazes of other libraries, each at the agent's own clock."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.robotics.worlds import WORLDS
from benchmarks.sequence_agents import SETTINGS, TASKS, measure_ways, told
from hierebm.envs.layouts import Layout, get_layout

# Where tasks are numbered, an episode takes up to 1000 steps.
NUMBERED_TASKS = 10


def compare(name: str, planner: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """One row for the agent that plans so, after so many steps in a world of this name."""
    import hierebm

    world = next(world for world in WORLDS if world.name == name)
    started = time.process_time()
    agent = hierebm.HierarchicalEBMAgent(planner=planner, seed=seed, **SETTINGS)
    agent.learn(world.make(), total_timesteps=steps)
    what = {"planner": planner, "layout": name, "env_steps": steps, "seed": seed}
    what["train_s"] = round(time.process_time() - started, 1)
    lanes, env = world.lanes(), world.make(**dict(world.eval_kwargs))
    tasks = NUMBERED_TASKS if world.n_tasks else TASKS
    measured = told(world.evaluate(agent, lanes, tasks, seed=2))
    lanes.close()
    if (walls := walls_of(env)) is not None:
        measured |= measure_ways(agent, env, walls)
    env.close()
    return [{"kind": "agents", **what, "horizon": None, **measured}]


def walls_of(env: Any) -> Layout | None:
    """The walls of a maze of gymnasium-robotics, whose cells have a side of 1; None elsewhere."""
    maze = getattr(getattr(env.unwrapped, "maze", None), "maze_map", None)
    if maze is None:
        return None
    return get_layout(["".join("#" if cell == 1 else "." for cell in row) for row in maze], scale=2)
