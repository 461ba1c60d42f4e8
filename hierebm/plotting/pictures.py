"""An agent's plans, energies and episodes as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hierebm.files import atomic_write
from hierebm.goal_env.autoreset import SUCCESS_KEYS
from hierebm.plotting.drawing import figure_to_png
from hierebm.plotting.plots import plan_figures, plot_rollout, walls_of


def draw_agent(
    agent: Any,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    out: Path,
    n_tasks: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Plan, energy and episode of a few tasks as PNG files; returns what was written."""
    env = make_env(env_id, dict(env_kwargs))
    walls = walls_of(env)
    radius = getattr(env.unwrapped, "success_radius", None)
    written = []
    for i in range(n_tasks):
        observation, _ = env.reset(
            seed=seed + i, options=None if options is None else dict(options)
        )
        if hasattr(agent, "plan"):
            for name, figure in plan_figures(agent, observation, walls).items():
                written.append(save_figure(figure, out / f"{name}_{i}.png"))
        trajectory, subgoals, success = run_episode(agent, env, observation)
        outcome = "Reached the goal in" if success else "Did not reach the goal in"
        figure = plot_rollout(
            trajectory,
            observation["desired_goal"],
            walls,
            subgoals=subgoals,
            success_radius=radius,
            title=f"{outcome} {len(trajectory) - 1} steps",
        )
        written.append(save_figure(figure, out / f"episode_{i}.png"))
    env.close()
    return written


def run_episode(
    agent: Any, env: gym.Env, observation: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any] | None, bool]:
    """Act until the episode ends.

    Args:
        agent: with ``predict``; its state may tell the current ``subgoal``.
        env: just reset.
        observation: what the reset returned.

    Returns:
        (T + 1, goal_dim) achieved goals, (M, goal_dim) the subgoals chased on the way (None without
        any), and whether the env reported success at any step.
    """
    places, success = [observation["achieved_goal"]], False
    subgoals: list[NDArray[Any]] = []
    state: Any = None
    done = False
    while not done:
        batch = {key: np.asarray(value)[None] for key, value in observation.items()}
        first = np.array([state is None])
        actions, state = agent.predict(batch, state, first, deterministic=True)
        subgoal = getattr(state[0], "subgoal", None) if isinstance(state, Sequence) else None
        if subgoal is not None and not (subgoals and np.array_equal(subgoals[-1], subgoal)):
            subgoals.append(np.array(subgoal))
        observation, _, terminated, truncated, info = env.step(actions[0])
        places.append(observation["achieved_goal"])
        success = success or any(info.get(key, False) for key in SUCCESS_KEYS)
        done = terminated or truncated
    on_the_way = [s for s in subgoals if not np.array_equal(s, observation["desired_goal"])]
    return np.stack(places), np.stack(on_the_way) if on_the_way else None, success


def make_env(env_id: str, kwargs: Mapping[str, Any]) -> gym.Env:
    """``gymnasium.make`` whose error names the arguments that the env does not take."""
    try:
        return gym.make(env_id, **kwargs)
    except TypeError as error:
        if not kwargs:
            raise
        raise TypeError(f"{env_id} does not take {', '.join(kwargs)}: {error}") from error


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically; returns the path."""
    with atomic_write(path) as file:
        file.write(figure_to_png(figure))
    return path
