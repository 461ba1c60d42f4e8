"""What a policy does, as a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from hierebm.episode_loop import Episode, ObservedStep, Policy, run_episodes
from hierebm.goal_env.make import open_eval_env
from hierebm.goal_env.spaces import KEYS, GoalSpaces
from hierebm.recording.dataset import DatasetWriter
from hierebm.recording.episodes import EpisodeRecorder, RecordedEpisode, Rows, Transitions


def record_episodes(
    model: Policy,
    env: str | gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
    n_episodes: int,
    dataset_id: str,
    *,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    deterministic: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress_bar: bool = False,
) -> list[Episode]:
    """Let a policy act and write what it did as a Minari data set.

    The episodes are those of :func:`hierebm.evaluation.evaluate` with the same arguments, in the
    order of their tasks. They are written at the end, all or none.

    Args:
        model: anything with Stable-Baselines3's ``predict``.
        env: id of a goal environment, a goal environment or a vector of them.
        n_episodes: number of episodes, at least 1.
        dataset_id: of the data set, ``NAMESPACE/NAME-v0``.
        seed, options, deterministic, env_kwargs, progress_bar: as for ``evaluate``.
        overwrite: replace a data set of this id.

    Returns:
        How the episodes went.

    Raises:
        ImportError, ValueError, OSError: see :class:`DatasetWriter`; before anything is run where
            Minari is not installed or the id is taken.
    """
    with open_eval_env(env, n_episodes, env_kwargs) as opened:
        goal_spaces = GoalSpaces.of(opened.env)
        writer = DatasetWriter(
            dataset_id, goal_spaces.observation_space, goal_spaces.action_space, opened.env,
            type(model).__name__, overwrite,
        )  # fmt: skip
        recorder, recorded = EpisodeRecorder(), list[RecordedEpisode]()
        watched = _Watched(model)

        def observe(seen: ObservedStep) -> None:
            step = seen.step
            recorded.extend(
                recorder.add(
                    Transitions(
                        watched.observation, seen.actions, step.next_observation, step.reward,
                        step.terminated, step.truncated, *step.infos.success(), seen.active,
                    )
                )
            )  # fmt: skip

        running = run_episodes(
            watched, opened, n_episodes, deterministic,
            seed=seed, options=options, observe=observe,
        )  # fmt: skip
        if progress_bar:
            from tqdm import tqdm

            running = tqdm(running, total=n_episodes, unit="episode", desc="record", disable=None)
        episodes = list(running)
        # Of the episodes that end in one step, both list those of lower environments first.
        order = sorted(range(len(episodes)), key=lambda i: episodes[i].task)
        writer.write([recorded[i] for i in order])
    return [episodes[i] for i in order]


class _Watched:
    """A policy, and a copy of what it was shown last."""

    observation: Rows

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """What the policy predicts. It is shown the observation before environments act on it."""
        self.observation = {key: np.array(observation[key]) for key in KEYS}
        return self._policy.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic
        )
