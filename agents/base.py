"""What every agent does around its algorithm: the learning loop, predicting, environments."""

from __future__ import annotations

import json
import os
import time
from abc import abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from hierebm.agents.episode_statistics import EpisodeStatistics
from hierebm.agents.persistence import SavedAgent
from hierebm.callbacks import BaseCallback, MaybeCallback, make_callback
from hierebm.checkpoint.state import check_same_space
from hierebm.goal_env.adapter import EnvLike, GoalEnv, StepResult
from hierebm.goal_env.spaces import KEYS
from hierebm.logging.logger import Logger, TableOutput, configure
from hierebm.settings import overridden
from hierebm.types import FloatArray, GoalObservation

Self = TypeVar("Self", bound="GoalAgent")


class GoalAgent(SavedAgent):
    """Base of the agents; subclasses say how to act, what to store and how to train.

    Args:
        config: all settings; its class is the subclass's ``config_class``.
        env: an environment id, a goal environment or a vector of them; can be given to
            :meth:`learn` instead.
        seed: makes runs repeat bit for bit on one machine; None draws a seed.
        tensorboard_log: folder of TensorBoard runs; None writes nothing.
        device: where the networks live.
        verbose: 1 prints a table of metrics while learning.
        overrides: fields of the config by name, e.g. ``batch_size=512``.

    Raises:
        TypeError: for an override that is no field of the config (names the nearest ones), or a
            value of another type than its default.
        ValueError: for a value out of its range, or a device that cannot be used here.
    """

    default_log_name: ClassVar[str]

    def __init__(
        self,
        config: Any = None,
        *,
        env: EnvLike | None = None,
        seed: int | None = None,
        tensorboard_log: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 0,
        **overrides: Any,
    ) -> None:
        config = self.config_class() if config is None else config
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"config must be a {self.config_class.__name__}, got {config!r}; an environment "
                "goes to learn(env) or env=, single settings go by name, e.g. batch_size=512"
            )
        config = overridden(config, overrides)
        super().__init__(config, seed=seed, device=device)
        self.tensorboard_log, self.verbose = tensorboard_log, verbose
        # Until `learn` makes that of its run.
        self.logger: Logger = Logger(None, [TableOutput()] if verbose else [])
        self._episodes = EpisodeStatistics()
        self._clock = (time.perf_counter(), 0)
        if env is not None:
            self.set_env(env)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Start all random streams anew, as the constructor's ``seed``; the next ``learn`` resets
        the environment.
        """
        super().set_random_seed(seed)
        # What was seen last; None where the environment has to be reset before it is acted in.
        self._observation: GoalObservation | None = None

    def _options(self) -> dict[str, Any]:
        own = {"tensorboard_log": self.tensorboard_log, "verbose": self.verbose}
        return {**super()._options(), **own}

    # ------------------------------------------------------- what subclasses define

    @abstractmethod
    def _attach(self, env: GoalEnv) -> None:
        """Make what depends on the environment (the replay buffer); called by ``set_env``."""

    @abstractmethod
    def _begin(self, env: GoalEnv) -> None:
        """All environments were reset and begin an episode."""

    @abstractmethod
    def _act(self, observation: GoalObservation) -> FloatArray:
        """(n, action_dim) exploring actions in [-1, 1]."""

    @abstractmethod
    def _store(self, before: GoalObservation, action: FloatArray, step: StepResult) -> None:
        """Remember what happened."""

    @abstractmethod
    def _train(self) -> None:
        """Learn from what was stored, as often as the config says; log metrics."""

    def _own_callbacks(self, callback: MaybeCallback) -> list[BaseCallback]:
        """Callbacks that the agent adds to the user's."""
        return []

    # ------------------------------------------------------------------- learning

    def learn(
        self: Self,
        env: EnvLike | None = None,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int | None = 10,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn by acting in the environment.

        Args:
            env: id, environment or vector environment; None keeps the one set before.
            total_timesteps: environment steps (over all environments); default: the config's.
            callback: a callback, a list of them, or a function (locals, globals) -> bool; False
                stops the training.
            log_interval: episodes between two rows of the log; None: one row at the end.
            tb_log_name: name of the run's folder.
            reset_num_timesteps: False continues the last call: its step count, its log, and the
                episode that was running, unless it was stopped by an error. True resets the
                environment; what was learnt and the replay buffer are kept either way.
            progress_bar: show a progress bar.

        Raises:
            ValueError, TypeError: an environment that is none this agent can learn in, NaN
                observations or rewards; the message says what to do. What was learnt is kept.
        """
        if isinstance(env, (int, float)):
            raise TypeError(
                "the environment is learn's first argument, then comes the number of steps: "
                f"learn(env, {env:g}), or learn(total_timesteps={env:g}) where one was set before"
            )
        if env is not None:
            self.set_env(env)
        if self.env is None:
            raise ValueError("no environment: learn(env) or set_env(env) first")
        if log_interval is not None and log_interval < 1:
            raise ValueError(f"log_interval must be at least 1 or None, got {log_interval}")
        target = self.config.total_timesteps if total_timesteps is None else total_timesteps
        if reset_num_timesteps:
            self.num_timesteps = self.num_episodes = 0
            # Somebody may have used the environment since.
            self._observation = None
        else:
            target += self.num_timesteps
        self.logger = configure(
            self.tensorboard_log,
            tb_log_name or self.default_log_name,
            reset_num_timesteps,
            self.verbose,
        )
        given = [] if callback is None else [callback]
        entries: list[Any] = [*self._own_callbacks(callback), *given]
        callbacks = make_callback(entries, progress_bar)
        listened = bool(entries) or progress_bar
        callbacks.init_callback(self)
        callbacks.on_training_start({"total_timesteps": target, "self": self}, globals())
        try:
            self._run(target, callbacks if listened else None, log_interval)
        except BaseException:
            # It may have stepped without our knowing: begin the next time with a reset.
            self._observation = None
            raise
        finally:
            callbacks.on_training_end()
            self.logger.close()
        return self

    def _run(self, target: int, callbacks: BaseCallback | None, log_interval: int | None) -> None:
        assert self.env is not None
        if self._observation is None:
            self._observation = self.env.reset(seed=int(self.rng.integers(2**31)))
            self._begin(self.env)
            self._episodes.begin(self.env.n_envs)
            self.env.check_sparse(self._observation.achieved_goal, self._observation.desired_goal)
        self._clock, logged = (time.perf_counter(), self.num_timesteps), self.num_episodes
        if callbacks is not None:
            callbacks.on_rollout_start()
        while self.num_timesteps < target:
            before = self._observation
            action = self._act(before)
            step = self.env.step(action)
            self._store(before, action, step)
            self._observation = step.current
            self.num_timesteps += step.n_valid
            self.num_episodes += self._episodes.count(step)
            if callbacks is not None and not self._tell(callbacks, action, step):
                break
            self._train()
            if callbacks is not None:
                callbacks.on_rollout_start()
            if log_interval is not None and self.num_episodes - logged >= log_interval:
                logged = self.num_episodes
                self.dump_logs()
        if callbacks is not None:
            callbacks.on_rollout_end()
        self.dump_logs()

    def _tell(self, callbacks: BaseCallback, action: FloatArray, step: StepResult) -> bool:
        """Whether the callbacks want to go on after this step."""
        outcome = {"rewards": step.reward, "dones": step.ended, "infos": step.infos}
        callbacks.update_locals({"actions": action, **outcome, "self": self})
        if not callbacks.on_step():
            return False
        callbacks.on_rollout_end()
        return True

    def dump_logs(self) -> None:
        """Write a row of the log now; Stable-Baselines3's callbacks ask for it."""
        started, started_at = self._clock
        elapsed = max(time.perf_counter() - started, 1e-9)
        for key, value in self._episodes.means().items():
            self.logger.record(key, value)
        self.logger.record("time/episodes", self.num_episodes)
        self.logger.record("time/fps", int((self.num_timesteps - started_at) / elapsed))
        self.logger.record("time/time_elapsed", round(elapsed, 1))
        self.logger.record("time/total_timesteps", self.num_timesteps)
        self.logger.record("train/n_updates", self.n_updates)
        self.logger.dump(self.num_timesteps)

    def _log_means(self, metrics: dict[str, float]) -> None:
        """Log each metric as its mean until the next row of the log."""
        for key, value in metrics.items():
            self.logger.record_mean(key, value)

    # ------------------------------------------------------------------ predicting

    def predict(
        self,
        observation: dict[str, NDArray[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """The action for an observation, or for a batch of them.

        Args:
            observation: a Dict observation, or one with a leading batch dimension.
            state: what the last call returned; None at first.
            episode_start: (n,) True where a new episode begins.
            deterministic: False adds the exploration noise.

        Returns:
            The action, batched as the observation, and the state for the next call.

        Raises:
            RuntimeError: if the agent knows no environment yet.
            ValueError: if the observation is not of the environment's kind, or has NaN in it.
        """
        if self.spaces is None:
            raise RuntimeError("the agent knows no spaces yet: learn(env) or load(path) first")
        single = self.spaces.is_single(observation)
        if single:
            observation = {key: np.asarray(observation[key])[None] for key in KEYS}
        batch = self.spaces.flatten(observation)
        n = len(batch.observation)
        start = np.zeros(n, np.bool_) if episode_start is None else np.asarray(episode_start)
        action, state = self._predict(batch, state, np.broadcast_to(start, n), deterministic)
        scaled = self.spaces.to_env_action(action)
        return (scaled[0] if single else scaled), state

    @abstractmethod
    def _predict(
        self,
        observation: GoalObservation,
        state: Any,
        episode_start: NDArray[np.bool_],
        deterministic: bool,
    ) -> tuple[FloatArray, Any]:
        """As :meth:`predict`, on flat rows and with actions in [-1, 1]."""

    # ------------------------------------------------------------------ environment

    def set_env(self, env: EnvLike) -> None:
        """Learn in this environment from now on; its spaces must be those seen before.

        Raises:
            ValueError: if the spaces differ.
        """
        goal_env = GoalEnv(env)
        if self.spaces is None:
            self._build(goal_env.spaces)
            self.spaces = goal_env.spaces
        else:
            for name in ("observation_space", "action_space"):
                check_same_space(getattr(self.spaces, name), getattr(goal_env.spaces, name), name)
        if self.env is None or goal_env.env is not self.env.env:
            self.env = goal_env
            self._observation = None
            self._attach(goal_env)

    def get_env(self) -> gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | None:
        """The environment that was set, as it was given."""
        return None if self.env is None else self.env.env

    @property
    def observation_space(self) -> gym.spaces.Dict | None:
        """What of an observation the agent looks at; None before it has seen an environment."""
        return None if self.spaces is None else self.spaces.observation_space

    @property
    def action_space(self) -> gym.spaces.Box | None:
        """Where its actions are; None before it has seen an environment."""
        return None if self.spaces is None else self.spaces.action_space

    def get_vec_normalize_env(self) -> None:
        """None: these agents scale their inputs themselves. Stable-Baselines3's callbacks ask."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(asdict(self.config))})"
