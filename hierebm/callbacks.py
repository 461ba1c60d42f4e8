"""Callbacks of ``learn``, with Stable-Baselines3's hooks and names.

A callback subclasses :class:`BaseCallback` and defines ``_on_step`` (and whichever other hook it
needs); a plain function ``callback(locals, globals) -> bool`` does as well. False stops training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hierebm.callback_base import (
    BaseCallback,
    CallbackList,
    ConvertCallback,
    EventCallback,
    Hook,
    as_callback,
    warn_not_written,
)
from hierebm.callback_evaluation import EvalCallback, StopTrainingOnSuccess
from hierebm.callback_plans import PlanFigureCallback

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

MaybeCallback = Hook | BaseCallback | Sequence[Hook | BaseCallback] | None


def make_callback(callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
    """Whatever a user may pass as ``callback``, as one callback.

    Args:
        callback: None, a callback, a plain function, or a list of those. Callbacks that were
            written for Stable-Baselines3 are taken as they are.
        progress_bar: add a :class:`ProgressBarCallback`.

    Raises:
        TypeError: something else.
    """
    callbacks = [as_callback(entry) for entry in _entries(callback)]
    if progress_bar:
        callbacks.append(ProgressBarCallback())
    return callbacks[0] if len(callbacks) == 1 else CallbackList(callbacks)


def _entries(callback: MaybeCallback) -> list[Any]:
    if callback is None:
        return []
    if isinstance(callback, Iterable):
        return list(callback)
    return [callback]


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
            warn_not_written(self.save_path / name, error)
        else:
            if self.verbose >= 2:
                self.say(f"Saved {self.save_path / name}")


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
