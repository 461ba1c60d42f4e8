"""Callbacks that evaluate the agent while it learns, and stop it when it is good enough."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from hierebm.callbacks.base import BaseCallback, EventCallback, Hook, goes_on, warn_not_written
from hierebm.evaluation import EvaluationResult, evaluate
from hierebm.files import atomic_write
from hierebm.goal_env.make import make_eval_env
from hierebm.goal_env.spaces import GoalSpaces
from hierebm.goal_env.vec_env import VecEnv, as_gymnasium, is_vec_env


class EvalCallback(EventCallback):
    """Evaluate the agent every ``eval_freq`` calls of the callback.

    Logs ``eval/mean_reward``, ``eval/mean_ep_length`` and, where they are known,
    ``eval/success_rate`` (at the last step) and ``eval/reached_rate`` (at any step; left out of the
    table on the terminal where the two are equal).

    Args:
        eval_env: an env id, an env or a vector env; not the one that the agent learns in.
        callback_on_new_best: triggered when the mean reward is the best so far.
        callback_after_eval: triggered after every evaluation.
        n_eval_episodes: episodes of one evaluation.
        eval_freq: calls between two evaluations (with n sub-envs one call is n env steps).
        log_path: folder for ``evaluations.npz`` (timesteps, results, ep_lengths, successes,
            ever_reached).
        best_model_save_path: folder for ``best_model.zip``.
        deterministic: given to ``predict``.
        verbose: 1 prints a line per evaluation.
        seed: the same tasks at every evaluation. None: the first evaluation is seeded by the
            agent's seed (so that runs repeat), later ones go on with new tasks.
        options: given to every reset of ``eval_env``.
        env_kwargs: given to ``gymnasium.make`` when ``eval_env`` is an id.

    Raises:
        TypeError, ValueError: ``eval_env`` is none of the three, is the training env or cannot be
            acted in by the agent, or there is no episode to evaluate; before training begins.
    """

    def __init__(
        self,
        eval_env: str | gym.Env | VectorEnv | VecEnv,
        callback_on_new_best: Hook | BaseCallback | None = None,
        callback_after_eval: Hook | BaseCallback | None = None,
        n_eval_episodes: int = 5,
        eval_freq: int = 10000,
        log_path: str | os.PathLike[str] | None = None,
        best_model_save_path: str | os.PathLike[str] | None = None,
        deterministic: bool = True,
        verbose: int = 1,
        *,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(callback_after_eval, verbose)
        if n_eval_episodes < 1:
            raise ValueError(f"n_eval_episodes must be at least 1, got {n_eval_episodes}")
        if not isinstance(eval_env, (str, gym.Env, VectorEnv)) and not is_vec_env(eval_env):
            raise TypeError(
                "eval_env must be an env id, a gymnasium.Env, a gymnasium.vector.VectorEnv or a "
                f"VecEnv of Stable-Baselines3, got {type(eval_env).__name__}"
            )
        self.callback_on_new_best = self._adopt(callback_on_new_best)
        self._env_id = eval_env if isinstance(eval_env, str) else None
        self._env_kwargs = env_kwargs
        self.eval_env: Any = None if isinstance(eval_env, str) else eval_env
        self.n_eval_episodes = n_eval_episodes
        self.eval_freq = eval_freq
        self.log_path = None if log_path is None else Path(log_path) / "evaluations.npz"
        self.best_model_save_path = best_model_save_path
        self.deterministic = deterministic
        self.seed = seed
        self.options = options
        self.best_mean_reward = -np.inf
        self.last_mean_reward = -np.inf
        self.last_success_rate = np.nan
        self.evaluations: list[tuple[int, EvaluationResult]] = []

    def _children(self) -> list[BaseCallback]:
        best = self.callback_on_new_best
        return super()._children() + ([] if best is None else [best])

    def _init_callback(self) -> None:
        if self._env_id is not None:
            self.eval_env = make_eval_env(self._env_id, self.n_eval_episodes, self._env_kwargs)
        try:
            self._check_env()
        except BaseException:
            self._close_own()
            raise

    def _check_env(self) -> None:
        training = self.model.get_env()
        mine = getattr(self.eval_env, "unwrapped", self.eval_env)
        if mine is getattr(training, "unwrapped", training):
            raise ValueError(
                "eval_env is the env that the agent learns in: an evaluation would cut its episode "
                "short; make a second one, e.g. gymnasium.make(env.spec)"
            )
        evaluated = GoalSpaces.of(as_gymnasium(self.eval_env))
        # Without a training env, the agent learns from data.
        learned = self.model.spaces if training is None else GoalSpaces.of(as_gymnasium(training))
        for name in ("obs_dim", "goal_dim", "action_dim"):
            theirs, ours = getattr(evaluated, name), getattr(learned, name)
            if theirs != ours:
                raise ValueError(
                    f"the agent cannot act in eval_env: its {name} is {theirs}, that of the "
                    f"{'data' if training is None else 'training env'} is {ours}"
                )

    def _on_training_end(self) -> None:
        super()._on_training_end()
        self._close_own()

    def _close_own(self) -> None:
        if self._env_id is not None and self.eval_env is not None:
            self.eval_env.close()
            self.eval_env = None

    def _on_step(self) -> bool:
        if self.eval_freq <= 0 or self.n_calls % self.eval_freq != 0:
            return True
        seed = self.seed
        if seed is None and not self.evaluations:
            seed = getattr(self.model, "seed", None)
        result = evaluate(
            self.model,
            self.eval_env,
            self.n_eval_episodes,
            seed=seed,
            options=self.options,
            deterministic=self.deterministic,
        )
        self.evaluations.append((self.num_timesteps, result))
        self.last_mean_reward = result.mean_reward
        self.last_success_rate = result.success_rate
        self._log(result)
        proceed = True
        if result.mean_reward > self.best_mean_reward:
            self.best_mean_reward = result.mean_reward
            self._save_best()
            if self.callback_on_new_best is not None:
                proceed = goes_on(self.callback_on_new_best.on_step())
        # The child gets its turn also when the first one wants to stop.
        return self._on_event() and proceed

    def _log(self, result: EvaluationResult) -> None:
        self.logger.record("eval/mean_reward", result.mean_reward)
        self.logger.record("eval/mean_ep_length", result.mean_ep_length)
        if not np.isnan(result.success_rate):
            self.logger.record("eval/success_rate", result.success_rate)
        if not np.isnan(result.reached_rate):
            hidden = None if result.goes_on_at_goal else "stdout"
            self.logger.record("eval/reached_rate", result.reached_rate, exclude=hidden)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        if self.verbose >= 1:
            self.say(f"Evaluation after {self.num_timesteps} steps: {result}")
        if self.log_path is not None:
            try:
                self._write_evaluations(self.log_path)
            except OSError as error:
                warn_not_written(self.log_path, error)

    def _write_evaluations(self, path: Path) -> None:
        episodes = [result.episodes for _, result in self.evaluations]
        arrays = {
            "timesteps": np.array([step for step, _ in self.evaluations]),
            "results": np.array([[e.reward for e in row] for row in episodes]),
            "ep_lengths": np.array([[e.length for e in row] for row in episodes]),
        }
        if all(e.success is not None for row in episodes for e in row):
            arrays["successes"] = np.array([[e.success for e in row] for row in episodes])
        if all(e.ever_reached is not None for row in episodes for e in row):
            arrays["ever_reached"] = np.array([[e.ever_reached for e in row] for row in episodes])
        with atomic_write(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def _save_best(self) -> None:
        if self.best_model_save_path is None:
            return
        path = Path(self.best_model_save_path) / "best_model.zip"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.model.save(path)
        except OSError as error:
            warn_not_written(path, error)


class StopTrainingOnSuccess(BaseCallback):
    """Stop once a success rate reaches a threshold.

    Works as ``callback_after_eval`` of an :class:`EvalCallback` or anywhere beside it.

    Args:
        success_threshold: stop at this rate or above, in (0, 1].
        key: which logged rate; ``"rollout/success_rate"`` needs no evaluation env.
        verbose: 1 prints when it stops.
    """

    def __init__(
        self, success_threshold: float, key: str = "eval/success_rate", verbose: int = 0
    ) -> None:
        super().__init__(verbose)
        if not 0 < success_threshold <= 1:
            raise ValueError(f"success_threshold must be in (0, 1], got {success_threshold}")
        self.success_threshold = success_threshold
        self.key = key

    def _on_step(self) -> bool:
        rate = self.logger.latest.get(self.key, np.nan)
        if not rate >= self.success_threshold:
            return True
        if self.verbose >= 1:
            self.say(
                f"Stopping after {self.num_timesteps} steps: {self.key} {rate:.3f} reached "
                f"{self.success_threshold:.3f}"
            )
        return False
