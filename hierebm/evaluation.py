"""Run a policy for a number of episodes and count what happened.

:func:`evaluate_policy` has the signature and results of Stable-Baselines3's function of that name;
:func:`evaluate` returns what a goal-conditioned task is judged by: the success rate with its 95%
interval, and every episode. Both take an env id, an env, or a Gymnasium ``VectorEnv`` in any
autoreset mode, and any object with Stable-Baselines3's ``predict``.

Episodes are unbiased: how many episodes each sub-env contributes is fixed in advance. Taking the
first n that finish would favour short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from hierebm.goal_env.lanes import Lanes, goal_ends, hold_rows, open_lanes


class Policy(Protocol):
    """Anything with Stable-Baselines3's ``predict`` on batched observations."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Return (actions, state) for a batch of observations."""
        ...


@dataclass(frozen=True)
class Episode:
    """One finished episode.

    Attributes:
        task: position of the task in the seeded order. Two policies that are evaluated with the
            same seed on the same (vector) env got the same task under the same number.
        reward: undiscounted sum.
        length: env steps.
        success: whether ``is_success`` or ``success`` was true in the ``info`` of the last step,
            as Stable-Baselines3 counts it; None if the env reports neither.
        start: achieved goal after the reset, (goal_dim,); None unless the env is a goal env.
        goal: desired goal after the reset, (goal_dim,); None unless the env is a goal env.
    """

    task: int
    reward: float
    length: int
    success: bool | None
    start: np.ndarray | None = None
    goal: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        row = asdict(self)
        for key in ("start", "goal"):
            row[key] = None if row[key] is None else np.asarray(row[key], float).tolist()
        return row


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` found.

    Attributes:
        success_rate: share of successful episodes, nan if the env does not report success.
        ci95: Wilson interval of ``success_rate``.
        mean_reward: mean undiscounted return per episode.
        std_reward: its standard deviation.
        mean_ep_length: env steps.
        episodes: every episode, in the order of their tasks.
    """

    success_rate: float
    ci95: tuple[float, float]
    mean_reward: float
    std_reward: float
    mean_ep_length: float
    episodes: list[Episode] = field(repr=False)

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    @classmethod
    def from_episodes(cls, episodes: list[Episode]) -> EvaluationResult:
        """Summarise a list of at least one episode."""
        episodes = sorted(episodes, key=lambda episode: episode.task)
        rewards = np.array([episode.reward for episode in episodes])
        outcomes = [episode.success for episode in episodes if episode.success is not None]
        return cls(
            success_rate=float(np.mean(outcomes)) if outcomes else math.nan,
            ci95=wilson_interval(sum(outcomes), len(outcomes)),
            mean_reward=float(rewards.mean()),
            std_reward=float(rewards.std()),
            mean_ep_length=float(np.mean([episode.length for episode in episodes])),
            episodes=episodes,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values (nan becomes None)."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "success_rate": number(self.success_rate),
            "ci95": [number(bound) for bound in self.ci95],
            "mean_reward": self.mean_reward,
            "std_reward": self.std_reward,
            "mean_ep_length": self.mean_ep_length,
            "n_episodes": self.n_episodes,
            "episodes": [episode.to_dict() for episode in self.episodes],
        }

    def __str__(self) -> str:
        if math.isnan(self.success_rate):
            success = "success not reported by the env"
        else:
            low, high = self.ci95
            success = f"success {self.success_rate:.3f} (95% {low:.3f} to {high:.3f})"
        return (
            f"{success}, reward {self.mean_reward:.2f} ± {self.std_reward:.2f}, "
            f"length {self.mean_ep_length:.1f} over {self.n_episodes} episodes"
        )


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927).

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0 and 1.

    Args:
        successes: number of successes.
        trials: number of trials; 0 gives (nan, nan).
        z: quantile of the standard normal; the default gives 95%.
    """
    if trials == 0:
        return math.nan, math.nan
    p = successes / trials
    scale = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the bound is exact; rounding would leave it a hair off.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def evaluate(
    model: Policy,
    env: str | gym.Env | VectorEnv,
    n_eval_episodes: int = 100,
    *,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    deterministic: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
    progress_bar: bool = False,
) -> EvaluationResult:
    """Evaluate a policy on goal tasks.

    Args:
        model: anything with Stable-Baselines3's ``predict``.
        env: an env id (made and closed here, natively vectorised where the env offers it), an env,
            or a ``VectorEnv`` in any autoreset mode.
        n_eval_episodes: number of episodes, at least 1.
        seed: of the first reset. The same seed and kind of env give the same tasks.
        options: given to *every* reset, e.g. ``{"distance": (4.0, 8.0)}``.
        deterministic: given to ``predict``.
        env_kwargs: given to ``gymnasium.make`` when ``env`` is an id, e.g. ``{"layout": "u"}``.
        progress_bar: show one.

    Raises:
        ValueError: n_eval_episodes < 1, or env_kwargs with something that is not an id.
        TypeError: env is none of the three.
    """
    with open_lanes(env, n_eval_episodes, env_kwargs) as lanes:
        episodes = _run_episodes(
            model, lanes, n_eval_episodes, deterministic, seed=seed, options=options
        )
        if progress_bar:
            from tqdm import tqdm

            episodes = tqdm(episodes, total=n_eval_episodes, unit="episode", desc="evaluate")
        return EvaluationResult.from_episodes(list(episodes))


def evaluate_policy(
    model: Policy,
    env: str | gym.Env | VectorEnv,
    n_eval_episodes: int = 10,
    deterministic: bool = True,
    render: bool = False,
    callback: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
    reward_threshold: float | None = None,
    return_episode_rewards: bool = False,
    warn: bool = True,
    *,
    seed: int | None = None,
) -> tuple[float, float] | tuple[list[float], list[int]]:
    """Stable-Baselines3's ``evaluate_policy`` for envs, env ids and Gymnasium's vector envs.

    Args:
        model: anything with Stable-Baselines3's ``predict``.
        env: an env id, an env, or a ``VectorEnv``.
        n_eval_episodes: number of episodes.
        deterministic: given to ``predict``.
        render: call ``env.render()`` after every step.
        callback: called as ``callback(locals, globals)`` for every sub-env after every step;
            ``locals`` holds ``i``, ``reward``, ``done``, ``info``, ``actions``, ``states``, ...
        reward_threshold: the mean return has to exceed it.
        return_episode_rewards: return the lists instead of mean and deviation.
        warn: accepted for compatibility; rewards are counted from ``step``, or taken from
            ``info["episode"]`` where a monitor wrapper provides it.
        seed: of the first reset.

    Returns:
        (mean return, standard deviation), or (returns, lengths) of every episode.

    Raises:
        AssertionError: the mean return does not exceed ``reward_threshold``.
    """
    with open_lanes(env, n_eval_episodes, None) as lanes:
        run = _run_episodes(
            model,
            lanes,
            n_eval_episodes,
            deterministic,
            seed=seed,
            render=render,
            callback=callback,
        )
        episodes = list(run)
    rewards = [episode.reward for episode in episodes]
    mean, deviation = float(np.mean(rewards)), float(np.std(rewards))
    if reward_threshold is not None and not mean > reward_threshold:
        raise AssertionError(f"mean reward {mean:.2f} is not above {reward_threshold:.2f}")
    if return_episode_rewards:
        return rewards, [episode.length for episode in episodes]
    return mean, deviation


def _run_episodes(
    model: Policy,
    lanes: Lanes,
    n_episodes: int,
    deterministic: bool,
    *,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    render: bool = False,
    callback: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> Iterator[Episode]:
    n = lanes.num_envs
    targets = np.array([(n_episodes + i) // n for i in range(n)])
    counts = np.zeros(n, int)
    rewards, lengths = np.zeros(n), np.zeros(n, int)
    success, reported = np.zeros(n, bool), np.zeros(n, bool)
    # An automatic reset cannot carry options. Such envs are reset by hand, all lanes together, and
    # a lane that is done waits for the others.
    in_rounds = options is not None and not lanes.resets_with_options
    waiting = np.zeros(n, bool)

    observation = lanes.reset(seed, options)
    starts, goals = goal_ends(observation, n)
    states: Any = None
    first = np.ones(n, bool)
    while (counts < targets).any():
        actions, states = model.predict(
            observation, state=states, episode_start=first, deterministic=deterministic
        )
        step = lanes.step(actions)
        active = step.valid & ~waiting & (counts < targets)
        rewards += np.where(active, step.reward, 0.0)
        lengths += active
        success = np.where(active, step.success, success)
        reported |= active & step.reported
        if render:
            lanes.render()
        for i in np.flatnonzero(active).tolist():
            if callback is not None:
                callback(
                    {
                        "model": model,
                        "env": lanes.env,
                        "n_envs": n,
                        "i": i,
                        "observations": observation,
                        "new_observations": step.observation,
                        "actions": actions,
                        "states": states,
                        "rewards": step.reward,
                        "dones": step.done,
                        "reward": step.reward[i],
                        "done": bool(step.done[i]),
                        "info": step.info(i),
                        "episode_starts": first,
                        "episode_counts": counts,
                        "episode_count_targets": targets,
                        "current_rewards": rewards,
                        "current_lengths": lengths,
                    },
                    globals(),
                )
            if step.done[i]:
                reward, length = _monitored(step.info(i), float(rewards[i]), int(lengths[i]))
                yield Episode(
                    task=int(counts[i] * n + i),
                    reward=reward,
                    length=length,
                    success=bool(success[i]) if reported[i] else None,
                    start=None if starts is None else starts[i],
                    goal=None if goals is None else goals[i],
                )
                counts[i] += 1
                rewards[i], lengths[i], success[i], reported[i] = 0.0, 0, False, False
                waiting[i] = in_rounds
        # A lane with nothing left to do keeps its observation: agents plan where an episode starts.
        idle = waiting | (counts >= targets)
        observation = hold_rows(step.observation, observation, idle)
        first = step.first & ~idle
        if in_rounds and idle.all() and (counts < targets).any():
            observation, first = lanes.reset(None, options), np.ones(n, bool)
            waiting[:] = False
        if first.any():
            new_starts, new_goals = goal_ends(observation, n)
            if starts is not None and new_starts is not None:
                starts = np.where(first[:, None], new_starts, starts)
            if goals is not None and new_goals is not None:
                goals = np.where(first[:, None], new_goals, goals)


def _monitored(info: Mapping[str, Any], reward: float, length: int) -> tuple[float, int]:
    """A monitor wrapper counts below wrappers that alter rewards: its figures go first."""
    episode = info.get("episode")
    if isinstance(episode, Mapping) and {"r", "l"} <= set(episode):
        return float(np.asarray(episode["r"])), int(np.asarray(episode["l"]))
    return reward, length
