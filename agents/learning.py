"""How an agent learns: by acting in an environment, or from a data set."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar, TypeVar

from numpy.typing import ArrayLike

from hierebm.agents.describing import log_description
from hierebm.agents.loop import LearningLoop
from hierebm.agents.offline import OfflineLoop, take_data
from hierebm.agents.persistence import SavedAgent
from hierebm.callbacks import BaseCallback, MaybeCallback, make_callback
from hierebm.callbacks.base import init_callback
from hierebm.data import OfflineDataset
from hierebm.goal_env.adapter import EnvLike
from hierebm.logging.logger import configure

Self = TypeVar("Self", bound="LearningAgent")


class LearningAgent(SavedAgent):
    """Learning of every agent; the rest of it is in :class:`~hierebm.agents.base.GoalAgent`."""

    default_log_name: ClassVar[str]
    tensorboard_log: str | os.PathLike[str] | None
    verbose: int
    # Acts in the environment that was set.
    _loop: LearningLoop | None = None
    # While it learns from data.
    _offline: OfflineLoop | None = None

    @abstractmethod
    def _default_callbacks(self, callback: MaybeCallback) -> list[BaseCallback]:
        """Callbacks that the agent adds to the user's."""

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

        After :meth:`learn_offline` it goes on from there: without random actions first, and with
        the data in the replay buffer.

        Args:
            env: id, environment or vector environment; None keeps the one set before.
            total_timesteps: environment steps (over all environments); default: the config's.
            callback: a callback, a list of them, or a function (locals, globals) -> bool; False
                stops the training.
            log_interval: episodes between two rows of the log, or 2,000 steps where episodes are
                long; None: one row at the end.
            tb_log_name: name of the run's folder.
            reset_num_timesteps: False continues the last call: its step count, its log, and the
                episode that was running, unless it was stopped by an error. True resets the
                environment; what was learned and the replay buffer are kept either way.
            progress_bar: show a progress bar.

        Raises:
            ValueError, TypeError: an environment that is none this agent can learn in, NaN
                observations or rewards; the message says what to do. What was learned is kept.
        """
        if isinstance(env, Real):
            raise TypeError(
                "the environment is learn's first argument, then comes the number of steps: "
                f"learn(env, {env!r}), or learn(total_timesteps={env!r}) where one was set before"
            )
        if env is not None:
            self.set_env(env)
        loop = self._loop
        if loop is None:
            raise ValueError("no environment: learn(env) or set_env(env) first")
        _check_log_interval(log_interval)
        target = self.config.total_timesteps if total_timesteps is None else total_timesteps
        if target < 0:
            raise ValueError(f"total_timesteps must not be negative, got {target}")
        if reset_num_timesteps:
            self.num_timesteps = self.num_episodes = 0
            # The environment may have been used since.
            loop.restart()
        else:
            target += self.num_timesteps
        self.unfinished = {**self.unfinished, "timesteps": target}
        self._begin_log(tb_log_name or self.default_log_name, reset_num_timesteps)
        try:
            with self._told(callback, progress_bar, total_timesteps=target) as callbacks:
                loop.run(target, callbacks, log_interval)
        except BaseException:
            # It may have stepped without our knowing: begin the next time with a reset.
            loop.restart()
            raise
        self._finish("timesteps", self.num_timesteps)
        return self

    def _finish(self, unit: str, done: int) -> None:
        if done >= self.unfinished[unit]:
            self.unfinished = {k: v for k, v in self.unfinished.items() if k != unit}

    def learn_offline(
        self: Self,
        data: OfflineDataset | None,
        gradient_steps: int = 3000,
        callback: MaybeCallback = None,
        log_interval: int | None = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        *,
        success_tolerance: ArrayLike | None = None,
        behavior_weight: float = 2.0,
    ) -> Self:
        """Learn from a data set, without acting; :meth:`learn` then goes on online from there.

        No environment is needed: where none was set, the agent's spaces are made from the data.
        The data goes into the replay buffer, which grows by it, unless it is there already (given
        again after an interrupt, say), seen at every ``action_repeat``-th state; that number is
        measured on the data unless the config sets it. ``num_timesteps`` stays what it is. Logs and
        callbacks count gradient steps instead, over all calls (``n_updates``): ``on_step`` is
        called once for each.

        Args:
            data: episodes, added to those in the replay buffer unless they are among them. None:
                nothing is added, learning goes on with what is there, online experience and a
                loaded replay buffer included.
            gradient_steps: updates of the low level. The high level is trained after every
                ``energy_train_freq`` of them, and at the end; 0 stores the data, no more.
            callback: as in :meth:`learn`.
            log_interval: gradient steps between two rows of the log; None: one row at the end.
            tb_log_name: name of the run's folder; default: that of :meth:`learn` with
                ``_offline``.
            reset_num_timesteps: False continues the log of the last call, True begins another one.
            progress_bar: show a progress bar.
            success_tolerance: how far from a goal it counts as reached, in units of goals: one
                number, the Euclidean distance, or (goal_dim,) half axes of an ellipsoid. Needed
                where no environment was set, whose ``compute_reward`` says it otherwise; kept for
                later calls, until an environment is set.
            behavior_weight: how much the policy is held to the actions of the data; see
                :meth:`~hierebm.control.base.LowLevel.update`.

        Raises:
            TypeError: ``data`` is no data set.
            ValueError: data that does not fit the agent's spaces, nothing that says what counts as
                reached, or a low level without a behaviour term; the message says what to do.
        """
        _check_log_interval(log_interval)
        if not _is_number(gradient_steps) or gradient_steps % 1:
            raise ValueError(
                f"gradient_steps must be a whole number, 0 or more, got {gradient_steps!r}"
            )
        if not _is_number(behavior_weight):
            raise ValueError(f"behavior_weight must be a number >= 0, got {behavior_weight!r}")
        take_data(self, data, success_tolerance, behavior_weight)
        if self._loop is not None:
            # The episode that ran is not the last one in the buffer any more.
            self._loop.restart()
        self._begin_log(tb_log_name or f"{self.default_log_name}_offline", reset_num_timesteps)
        loop = self._offline = OfflineLoop(self, gradient_steps, behavior_weight)
        self.unfinished = {**self.unfinished, "gradient_steps": loop.target}
        try:
            steps = {"total_timesteps": loop.target, "gradient_step": loop.step}
            with self._told(callback, progress_bar, **steps) as callbacks:
                loop.run(callbacks, log_interval)
            self._finish("gradient_steps", loop.step)
        finally:
            self._offline = None
        return self

    def _begin_log(self, name: str, reset: bool) -> None:
        self.logger = configure(self.tensorboard_log, name, reset, self.verbose)

    @contextmanager
    def _told(
        self, callback: MaybeCallback, progress_bar: bool, **locals_: int
    ) -> Iterator[BaseCallback | None]:
        """All callbacks as one, told of the beginning and the end; None where nobody listens."""
        given = [] if callback is None else [callback]
        entries: list[Any] = [*self._default_callbacks(callback), *given]
        callbacks = make_callback(entries, progress_bar)
        listened = bool(entries) or progress_bar
        unit = "gradient_steps" if "gradient_step" in locals_ else "total_timesteps"
        target = {unit: locals_["total_timesteps"]}
        log_description(self, **target)
        init_callback(callbacks, self)
        callbacks.on_training_start({**locals_, "self": self}, globals())
        try:
            yield callbacks if listened else None
        finally:
            self.replay_buffer.flush()
            callbacks.on_training_end()
            # The clock is known by now.
            log_description(self, **target)
            self.logger.close()

    def dump_logs(self) -> None:
        """Write a row of the log now; Stable-Baselines3's callbacks ask for it."""
        loop = self._offline or self._loop
        if loop is not None:
            loop.dump_logs()


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and 0.0 <= float(value) < float("inf")


def _check_log_interval(log_interval: int | None) -> None:
    if log_interval is not None and log_interval < 1:
        raise ValueError(f"log_interval must be at least 1 or None, got {log_interval}")
