"""Saving the agent while it learns."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from pathlib import Path

from hierebm.callbacks.base import BaseCallback, warn_not_written
from hierebm.files import Claim, remove_stale


class CheckpointCallback(BaseCallback):
    """Save the agent every ``save_freq`` calls of the callback.

    With n sub-envs one call is n env steps; divide ``save_freq`` by n to count env steps. A full
    disk costs the checkpoint (with a warning), not the training. Where another run saves files of
    the same name in the same folder, this one takes ``PREFIX-2`` and warns. What a run that was
    killed in the middle of writing has left there is removed at the beginning.

    Args:
        save_freq: calls between two checkpoints.
        save_path: folder; made if missing.
        name_prefix: files are called ``PREFIX_STEPS_steps.zip``.
        save_replay_buffer: write the experience into the same files.
        verbose: 2 prints where it saved.
        keep: how many checkpoints stay, the newest of those that this callback wrote; None: all.
    """

    def __init__(
        self,
        save_freq: int,
        save_path: str | os.PathLike[str],
        name_prefix: str = "rl_model",
        save_replay_buffer: bool = False,
        verbose: int = 0,
        keep: int | None = None,
    ) -> None:
        super().__init__(verbose)
        if save_freq < 1:
            raise ValueError(f"save_freq must be at least 1, got {save_freq}")
        if keep is not None and keep < 1:
            raise ValueError(f"keep must be at least 1, or None to keep all, got {keep}")
        self.save_freq = save_freq
        self.save_path = Path(save_path)
        self.name_prefix = name_prefix
        self.save_replay_buffer = save_replay_buffer
        self.keep = keep
        # Oldest first.
        self._written: list[Path] = []
        self._claim: Claim | None = None

    def _on_training_start(self) -> None:
        # A folder that cannot be written to is told of when something is written.
        with suppress(OSError):
            self._claim = claim = Claim(self.save_path, self.name_prefix, "_steps")
            if claim.name != self.name_prefix:
                warnings.warn(
                    f"another run is saving {self.name_prefix}_*_steps.zip in {self.save_path}: "
                    f"the checkpoints of this one are called {claim.name}_*_steps.zip",
                    RuntimeWarning,
                    stacklevel=2,
                )
            remove_stale(self.save_path, rf"{re.escape(claim.name)}_\d+_steps\.zip")

    def _on_step(self) -> bool:
        if self.n_calls % self.save_freq == 0:
            name = self.name_prefix if self._claim is None else self._claim.name
            self._save(self.save_path / f"{name}_{self.num_timesteps}_steps.zip")
        return True

    def _save(self, path: Path) -> None:
        try:
            self.save_path.mkdir(parents=True, exist_ok=True)
            if self.save_replay_buffer:
                self.model.save(path, replay_buffer=True)
            else:
                self.model.save(path)
        except OSError as error:
            warn_not_written(path, error)
            return
        self._written = [*(p for p in self._written if p != path), path]
        if self.verbose >= 2:
            self.say(f"Saved {path}")
        while self.keep is not None and len(self._written) > self.keep:
            with suppress(OSError):
                self._written[0].unlink()
            del self._written[0]

    def _on_training_end(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None
