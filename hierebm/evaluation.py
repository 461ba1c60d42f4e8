"""Run a policy for a number of episodes and count what happened.

:func:`evaluate_policy` has the signature and results of Stable-Baselines3's function of that name;
:func:`evaluate` returns what a goal-conditioned task is measured by: the success rate with its 95%
interval, and every episode. Both take an env id, an env, or a Gymnasium ``VectorEnv`` in any
autoreset mode, and any object with Stable-Baselines3's ``predict``.

Episodes are unbiased: how many episodes each sub-env contributes is fixed in advance. Taking the
first n that finish would favour short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from hierebm.episode_loop import Episode, ObservedStep, Policy, run_episodes
from hierebm.goal_env.autoreset import AutoresetEnv
from hierebm.goal_env.make import open_eval_env
from hierebm.goal_env.vec_env import VecEnv, normalization_of

__all__ = [
    "Episode",
    "EvaluationResult",
    "Policy",
    "evaluate",
    "evaluate_policy",
    "wilson_interval",
]


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` found.

    Attributes:
        success_rate: share of episodes that were a success at their last step, nan if the env does
            not report success.
        ci95: Wilson interval of ``success_rate``.
        reached_rate: share of episodes in which the goal was reached at any step, nan if that is
            not known. Higher than ``success_rate`` where episodes go on at the goal.
        reached_ci95: Wilson interval of ``reached_rate``.
        mean_reward: mean undiscounted return per episode.
        std_reward: its standard deviation.
        mean_ep_length: env steps.
        episodes: every episode, in the order of their tasks.
    """

    success_rate: float
    ci95: tuple[float, float]
    reached_rate: float
    reached_ci95: tuple[float, float]
    mean_reward: float
    std_reward: float
    mean_ep_length: float
    episodes: list[Episode] = field(repr=False)

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    @property
    def goes_on_at_goal(self) -> bool:
        """Whether the two rates differ, so that one does not tell the other."""
        return not math.isnan(self.reached_rate) and self.reached_rate != self.success_rate

    @classmethod
    def from_episodes(cls, episodes: list[Episode]) -> EvaluationResult:
        """Summarise a list of at least one episode."""
        episodes = sorted(episodes, key=lambda episode: episode.task)
        rewards = np.array([episode.reward for episode in episodes])
        success_rate, ci95 = _rate([episode.success for episode in episodes])
        reached_rate, reached_ci95 = _rate([episode.ever_reached for episode in episodes])
        return cls(
            success_rate=success_rate,
            ci95=ci95,
            reached_rate=reached_rate,
            reached_ci95=reached_ci95,
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
            "reached_rate": number(self.reached_rate),
            "reached_ci95": [number(bound) for bound in self.reached_ci95],
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
            success = f"success {_in_words(self.success_rate, self.ci95)}"
        if self.goes_on_at_goal:
            at_end = "" if math.isnan(self.success_rate) else " at the end"
            reached = _in_words(self.reached_rate, self.reached_ci95)
            success += f"{at_end}, goal ever reached {reached}"
        return (
            f"{success}, reward {self.mean_reward:.2f} ± {self.std_reward:.2f}, "
            f"length {self.mean_ep_length:.1f} over {self.n_episodes} episodes"
        )


class _Normalized:
    """A policy that is used to observations behind ``VecNormalize``.

    Args:
        model: the policy.
        normalization: what scales observations for it.
    """

    def __init__(self, model: Policy, normalization: Any) -> None:
        self._model, self._normalization = model, normalization

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self._model.predict(self._normalization.normalize_obs(observation), *args, **kwargs)


def _as_it_sees(model: Policy, env: Any) -> Policy:
    """The policy, whose observations are scaled as those that it learned from."""
    ask = getattr(model, "get_vec_normalize_env", None)
    normalization = None if ask is None else ask()
    normalization = normalization if normalization is not None else normalization_of(env)
    if normalization is None or not normalization.norm_obs:
        return model
    return _Normalized(model, normalization)


def _rate(outcomes: list[bool | None]) -> tuple[float, tuple[float, float]]:
    """The share of what is known, and its interval; nan where nothing is."""
    known = [outcome for outcome in outcomes if outcome is not None]
    rate = float(np.mean(known)) if known else math.nan
    return rate, wilson_interval(sum(known), len(known))


def _in_words(rate: float, interval: tuple[float, float]) -> str:
    return f"{rate:.3f} (95% {interval[0]:.3f} to {interval[1]:.3f})"


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
    env: str | gym.Env | VectorEnv | VecEnv,
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
            a ``VectorEnv`` in any autoreset mode, or a ``VecEnv`` of Stable-Baselines3.
        n_eval_episodes: number of episodes, at least 1.
        seed: of the first reset. The same seed and kind of env give the same tasks.
        options: given to *every* reset, e.g. ``{"distance": (4.0, 8.0)}``.
        deterministic: given to ``predict``.
        env_kwargs: given to ``gymnasium.make`` when ``env`` is an id, e.g. ``{"layout": "u"}``.
        progress_bar: show one.

    Raises:
        ValueError: n_eval_episodes < 1, or env_kwargs with something that is not an id.
        TypeError: env is none of these.
    """
    with open_eval_env(env, n_eval_episodes, env_kwargs) as opened:
        episodes = run_episodes(
            _as_it_sees(model, env),
            opened,
            n_eval_episodes,
            deterministic,
            seed=seed,
            options=options,
        )
        if progress_bar:
            from tqdm import tqdm

            episodes = tqdm(
                episodes, total=n_eval_episodes, unit="episode", desc="evaluate", disable=None
            )
        return EvaluationResult.from_episodes(list(episodes))


def evaluate_policy(
    model: Policy,
    env: str | gym.Env | VectorEnv | VecEnv,
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
    with open_eval_env(env, n_eval_episodes, None) as opened:

        def observe(seen: ObservedStep) -> None:
            if render:
                opened.env.render()
            for i in np.flatnonzero(seen.active).tolist():
                if callback is not None:
                    callback(_callback_locals(model, opened, seen, i), globals())

        observed = render or callback is not None
        episodes = list(
            run_episodes(
                _as_it_sees(model, env),
                opened,
                n_eval_episodes,
                deterministic,
                seed=seed,
                observe=observe if observed else None,
            )
        )
    rewards = [episode.reward for episode in episodes]
    mean, deviation = float(np.mean(rewards)), float(np.std(rewards))
    if reward_threshold is not None and not mean > reward_threshold:
        raise AssertionError(f"mean reward {mean:.2f} is not above {reward_threshold:.2f}")
    if return_episode_rewards:
        return rewards, [episode.length for episode in episodes]
    return mean, deviation


def _callback_locals(
    model: Policy, env: AutoresetEnv, seen: ObservedStep, i: int
) -> dict[str, Any]:
    """What Stable-Baselines3's ``evaluate_policy`` hands to its callback for sub-env i."""
    step = seen.step
    return {
        "model": model,
        "env": env.env,
        "n_envs": env.n_envs,
        "i": i,
        "observations": seen.observations,
        "new_observations": step.current,
        "actions": seen.actions,
        "states": seen.states,
        "rewards": step.reward,
        "dones": step.ended,
        "reward": step.reward[i],
        "done": bool(step.ended[i]),
        "info": step.infos[i],
        "episode_starts": seen.episode_starts,
        "episode_counts": seen.counts,
        "episode_count_targets": seen.targets,
        "current_rewards": seen.rewards,
        "current_lengths": seen.lengths,
    }
