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
from hierebm.plotting.plots import plan_figures, plot_rollout
from hierebm.plotting.world import World


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
    world, written = World.of(env), []
    for i in range(n_tasks):
        observation, _ = env.reset(
            seed=seed + i, options=None if options is None else dict(options)
        )
        if hasattr(agent, "plan"):
            for name, figure in plan_figures(agent, observation, world).items():
                written.append(save_figure(figure, out / f"{name}_{i}.png"))
        rollout = record_episode(agent, env, seed + i, options)
        figure = plot_rollout(
            rollout.trajectory,
            rollout.goals,
            world,
            subgoals=rollout.subgoals,
            title=rollout.outcome,
        )
        written.append(save_figure(figure, out / f"episode_{i}.png"))
    env.close()
    return written


@dataclass(frozen=True)
class Rollout:
    """One episode as it is drawn.

    Attributes:
        trajectory: (T + 1, goal_dim) achieved goals.
        goals: (K, goal_dim) what was desired, in order; one goal, where it never changes.
        subgoals: (M, goal_dim) what was pursued on the way, in order; None without any.
        success: whether the env reported success in the last step; None if it reports none.
        reached_after: env steps until the goal was first reached; None where it never was.
    """

    trajectory: NDArray[Any]
    goals: NDArray[Any]
    subgoals: NDArray[Any] | None
    success: bool | None
    reached_after: int | None

    @property
    def outcome(self) -> str:
        """What came of it, and after how many steps, for a title."""
        n, reached = len(self.trajectory) - 1, self.reached_after
        if reached is None:
            return f"Did not reach the goal in {n} steps"
        if reached == n:
            return f"Reached the goal in {n} steps"
        text = f"Reached the goal at step {reached} of {n}"
        if len(self.goals) > 1:
            return f"{text}; it changed {len(self.goals) - 1} times"
        return text if self.success else f"{text} and left it again"


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
    goals: list[NDArray[Any]] = []

    def note(seen: ObservedStep) -> None:
        if not achieved:
            achieved.append(np.array(seen.observations["achieved_goal"][0]).reshape(-1))
        # In the precision of the agent, whose last subgoal is the goal.
        goal = np.array(seen.observations["desired_goal"][0], np.float32).reshape(-1)
        if not (goals and np.array_equal(goals[-1], goal)):
            goals.append(goal)
        states = seen.states
        subgoal = getattr(states[0], "subgoal", None) if isinstance(states, Sequence) else None
        if subgoal is not None and not (subgoals and np.array_equal(subgoals[-1], subgoal)):
            subgoals.append(np.array(subgoal))
        achieved.append(np.array(seen.step.next_observation["achieved_goal"][0]).reshape(-1))

    (episode,) = run_episodes(agent, AutoresetEnv(env), 1, seed=seed, options=options, observe=note)
    on_the_way = [s for s in subgoals if not any(np.array_equal(s, goal) for goal in goals)]
    return Rollout(
        np.stack(achieved),
        np.stack(goals),
        np.stack(on_the_way) if on_the_way else None,
        episode.success,
        episode.reached_after,
    )


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically; returns the path."""
    with atomic_write(path) as file:
        file.write(figure_to_png(figure))
    return path
