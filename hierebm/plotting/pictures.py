"""An agent's plans, energies and episodes as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hierebm.episode_loop import ObservedStep, Policy, run_episodes
from hierebm.files import atomic_write
from hierebm.goal_env.autoreset import AutoresetEnv
from hierebm.goal_env.make import make_env
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
        rollout = record_episode(agent, env, seed + i, options)
        outcome = "Did not reach the goal in"
        if rollout.ever_reached:
            outcome = "Reached the goal and left it again in"
        if rollout.success:
            outcome = "Reached the goal in"
        figure = plot_rollout(
            rollout.trajectory,
            rollout.goal,
            walls,
            subgoals=rollout.subgoals,
            success_radius=radius,
            title=f"{outcome} {len(rollout.trajectory) - 1} steps",
        )
        written.append(save_figure(figure, out / f"episode_{i}.png"))
    env.close()
    return written


@dataclass(frozen=True)
class Rollout:
    """One episode as it is drawn.

    Attributes:
        trajectory: (T + 1, goal_dim) achieved goals.
        goal: (goal_dim,).
        subgoals: (M, goal_dim) what was pursued on the way, in order; None without any.
        success: whether the env reported success in the last step.
        ever_reached: whether the goal was reached at any step.
    """

    trajectory: NDArray[Any]
    goal: NDArray[Any]
    subgoals: NDArray[Any] | None
    success: bool
    ever_reached: bool


def record_episode(
    agent: Policy, env: gym.Env, seed: int, options: Mapping[str, Any] | None = None
) -> Rollout:
    """Reset a goal env, act until the episode ends and note where the agent went.

    Args:
        agent: with ``predict``; its state may tell the current ``subgoal``.
        env: a goal env.
        seed: of the reset.
        options: of the reset.
    """
    achieved: list[NDArray[Any]] = []
    subgoals: list[NDArray[Any]] = []

    def note(seen: ObservedStep) -> None:
        if not achieved:
            achieved.append(np.array(seen.observations["achieved_goal"][0]).reshape(-1))
        states = seen.states
        subgoal = getattr(states[0], "subgoal", None) if isinstance(states, Sequence) else None
        if subgoal is not None and not (subgoals and np.array_equal(subgoals[-1], subgoal)):
            subgoals.append(np.array(subgoal))
        achieved.append(np.array(seen.step.next_observation["achieved_goal"][0]).reshape(-1))

    (episode,) = run_episodes(agent, AutoresetEnv(env), 1, seed=seed, options=options, observe=note)
    assert episode.goal is not None
    on_the_way = [s for s in subgoals if not np.array_equal(s, episode.goal)]
    return Rollout(
        np.stack(achieved),
        episode.goal,
        np.stack(on_the_way) if on_the_way else None,
        bool(episode.success),
        bool(episode.ever_reached),
    )


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically; returns the path."""
    with atomic_write(path) as file:
        file.write(figure_to_png(figure))
    return path
