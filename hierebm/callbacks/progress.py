"""A progress bar."""

from __future__ import annotations

from typing import Any

from hierebm.callbacks.base import BaseCallback


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
