"""Callbacks of ``learn``, with Stable-Baselines3's hooks and names.

A callback subclasses :class:`BaseCallback` and defines ``_on_step`` (and whichever other hook it
needs); a plain function ``callback(locals, globals) -> bool`` does as well. False stops training.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from hierebm.callback_base import (
    BaseCallback,
    CallbackList,
    ConvertCallback,
    EventCallback,
    Hook,
    MaybeCallback,
    goes_on,
    make_callback,
)
from hierebm.evaluation import EvaluationResult, evaluate
from hierebm.files import atomic_write
from hierebm.lanes import make_env

__all__ = [
    "BaseCallback",
    "CallbackList",
    "CheckpointCallback",
    "ConvertCallback",
    "EvalCallback",
    "EventCallback",
    "EveryNTimesteps",
    "MaybeCallback",
    "PlanFigureCallback",
    "ProgressBarCallback",
    "StopTrainingOnSuccess",
    "make_callback",
]


class EveryNTimesteps(EventCallback):
    """Trigger a callback every ``n_steps`` env steps, counted over all sub-envs."""

    def __init__(self, n_steps: int, callback: Hook | BaseCallback) -> None:
        super().__init__(callback)
        self.n_steps = n_steps
        self._last = 0

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._last = self.num_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps - self._last < self.n_steps:
            return True
        self._last = self.num_timesteps
        return self._on_event()


class CheckpointCallback(BaseCallback):
    """Save the agent every ``save_freq`` calls of the callback.

    With n sub-envs one call is n env steps; divide ``save_freq`` by n to count env steps. A full
    disk costs the checkpoint (with a warning), not the training.

    Args:
        save_freq: calls between two checkpoints.
        save_path: folder; made if missing.
        name_prefix: files are called ``PREFIX_STEPS_steps.zip``.
        save_replay_buffer: also write ``PREFIX_replay_buffer_STEPS_steps.zip``.
        verbose: 2 prints where it saved.
    """

    def __init__(
        self,
        save_freq: int,
        save_path: str | os.PathLike[str],
        name_prefix: str = "rl_model",
        save_replay_buffer: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        if save_freq < 1:
            raise ValueError(f"save_freq must be at least 1, got {save_freq}")
        self.save_freq = save_freq
        self.save_path = Path(save_path)
        self.name_prefix = name_prefix
        self.save_replay_buffer = save_replay_buffer

    def _on_step(self) -> bool:
        if self.n_calls % self.save_freq == 0:
            suffix = f"{self.num_timesteps}_steps.zip"
            self._save(self.model.save, f"{self.name_prefix}_{suffix}")
            if self.save_replay_buffer:
                name = f"{self.name_prefix}_replay_buffer_{suffix}"
                self._save(self.model.save_replay_buffer, name)
        return True

    def _save(self, save: Callable[[Path], Any], name: str) -> None:
        try:
            self.save_path.mkdir(parents=True, exist_ok=True)
            save(self.save_path / name)
        except OSError as error:
            _warn_not_written(self.save_path / name, error)
        else:
            if self.verbose >= 2:
                self.logger.log(f"Saved {self.save_path / name}")


class EvalCallback(EventCallback):
    """Evaluate the agent every ``eval_freq`` calls of the callback.

    Logs ``eval/mean_reward``, ``eval/mean_ep_length`` and, where the env reports it,
    ``eval/success_rate``.

    Args:
        eval_env: an env id, an env or a vector env; not the one that the agent learns in.
        callback_on_new_best: triggered when the mean reward is the best so far.
        callback_after_eval: triggered after every evaluation.
        n_eval_episodes: episodes of one evaluation.
        eval_freq: calls between two evaluations (with n sub-envs one call is n env steps).
        log_path: folder for ``evaluations.npz`` (timesteps, results, ep_lengths, successes).
        best_model_save_path: folder for ``best_model.zip``.
        deterministic: given to ``predict``.
        verbose: 1 prints a line per evaluation.
        seed: the same tasks at every evaluation. None: the first evaluation is seeded by the
            agent's seed (so that runs repeat), later ones go on with new tasks.
        options: given to every reset of ``eval_env``.
        env_kwargs: given to ``gymnasium.make`` when ``eval_env`` is an id.
    """

    def __init__(
        self,
        eval_env: str | gym.Env | VectorEnv,
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
            self.eval_env = make_env(self._env_id, self.n_eval_episodes, self._env_kwargs)
            return
        mine = getattr(self.eval_env, "unwrapped", self.eval_env)
        if mine is getattr(self.training_env, "unwrapped", self.training_env):
            raise ValueError(
                "eval_env is the env that the agent learns in: an evaluation would cut its episode "
                "short; make a second one, e.g. gymnasium.make(env.spec)"
            )

    def _on_training_end(self) -> None:
        super()._on_training_end()
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
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        if self.verbose >= 1:
            self.logger.log(f"Evaluation after {self.num_timesteps} steps: {result}")
        if self.log_path is not None:
            try:
                self._write_evaluations(self.log_path)
            except OSError as error:
                _warn_not_written(self.log_path, error)

    def _write_evaluations(self, path: Path) -> None:
        episodes = [result.episodes for _, result in self.evaluations]
        arrays = {
            "timesteps": np.array([step for step, _ in self.evaluations]),
            "results": np.array([[e.reward for e in row] for row in episodes]),
            "ep_lengths": np.array([[e.length for e in row] for row in episodes]),
        }
        if all(e.success is not None for row in episodes for e in row):
            arrays["successes"] = np.array([[e.success for e in row] for row in episodes])
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
            _warn_not_written(path, error)


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
            self.logger.log(
                f"Stopping after {self.num_timesteps} steps: {self.key} {rate:.3f} reached "
                f"{self.success_threshold:.3f}"
            )
        return False


class ProgressBarCallback(BaseCallback):
    """A progress bar over env steps, with the latest success rate beside it."""

    _bar: Any = None

    def _on_training_start(self) -> None:
        from tqdm.auto import tqdm

        total = self.locals.get("total_timesteps")
        remaining = None if total is None else int(total) - self.num_timesteps
        self._bar = tqdm(total=remaining, unit="step", smoothing=0.05, dynamic_ncols=True)
        self._shown = self.num_timesteps

    def _on_step(self) -> bool:
        self._bar.update(self.num_timesteps - self._shown)
        self._shown = self.num_timesteps
        if self.n_calls % 100 == 0:
            rates = {
                name: f"{self.logger.latest[key]:.2f}"
                for name, key in (
                    ("success", "rollout/success_rate"),
                    ("eval", "eval/success_rate"),
                )
                if key in self.logger.latest
            }
            self._bar.set_postfix(rates, refresh=False)
        return True

    def _on_training_end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class PlanFigureCallback(BaseCallback):
    """Draw the plans of a few fixed tasks every ``freq`` env steps, as images for TensorBoard.

    For every task ``plan/path_I`` shows the subgoal graph with its shortest path and
    ``plan/energy_I`` the energy between state and goal, where the agent offers one; none is drawn
    before the agent can plan. ``rollout/success_over_time`` is the success rate so far.

    Args:
        freq: env steps between two pictures.
        n_plans: number of tasks.
        env: where the tasks come from, an id or an env; None makes a copy of the training env.
        seed: of the tasks.
        options: given to ``env.reset``, e.g. ``{"distance": (4.0, 8.0)}``.
    """

    def __init__(
        self,
        freq: int = 5000,
        n_plans: int = 2,
        env: str | gym.Env | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.freq, self.n_plans, self.env, self.seed = freq, n_plans, env, seed
        self.options = options
        self.observations: list[Any] = []
        self.walls: Any = None
        self._last = 0
        self._drawn = self._failed = False
        self._not_ready: RuntimeError | None = None
        self._success: dict[int, float] = {}

    def _on_training_start(self) -> None:
        from hierebm.plots import walls_of

        env = self.env if self.env is not None else self.training_env.spec
        if env is None:
            raise ValueError("the training env has no spec to copy it by; pass env=")
        made = env if isinstance(env, gym.Env) else gym.make(env)
        self.walls = walls_of(made)
        options = None if self.options is None else dict(self.options)
        self.observations = [
            made.reset(seed=self.seed + i, options=options)[0] for i in range(self.n_plans)
        ]
        if made is not self.env:
            made.close()
        self._last = self.num_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps - self._last >= self.freq:
            self._last = self.num_timesteps
            self._draw()
        return True

    def _on_training_end(self) -> None:
        self._draw()
        if self._drawn:
            self.logger.dump(self.num_timesteps)
        elif self._not_ready is not None:
            self.logger.log(f"No plan was drawn: {self._not_ready}")

    def _on_rollout_start(self) -> None:
        rate = self.logger.latest.get("rollout/success_rate")
        if rate is not None and rate != next(reversed(self._success.values()), None):
            self._success[self.num_timesteps] = rate

    def _draw(self) -> None:
        from hierebm.plots import plan_figures, plot_success

        self._on_rollout_start()
        try:
            if self._success:
                curve = (list(self._success), list(self._success.values()), None)
                figure = plot_success({"while learning": curve})
                self.logger.record_figure("rollout/success_over_time", figure)
            for i, observation in enumerate(self.observations):
                for name, figure in plan_figures(self.model, observation, self.walls).items():
                    self.logger.record_figure(f"plan/{name}_{i}", figure)
                    self._drawn = True
        except RuntimeError as error:
            # What an agent says that has not learnt enough to plan yet.
            self._not_ready = error
        # A picture is not worth a training run.
        except Exception as error:
            if not self._failed:
                warnings.warn(f"plans are not drawn: {error!r}", RuntimeWarning, stacklevel=2)
            self._failed = True


def _warn_not_written(path: Path, error: OSError) -> None:
    warnings.warn(
        f"{path} was not written ({error}); training goes on", RuntimeWarning, stacklevel=3
    )
