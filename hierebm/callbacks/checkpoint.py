"""Saving the agent while it learns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hierebm.callbacks.base import BaseCallback, warn_not_written


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
