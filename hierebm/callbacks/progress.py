"""A progress bar."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hierebm.callbacks.base import BaseCallback


class ProgressBarCallback(BaseCallback):
    """A progress bar over env steps, with the latest success rate beside it.

    Over gradient steps in ``learn_offline``. Also the rate at which goals were ever reached, where
    that is another one.
    """

    _bar: Any = None

    def _on_training_start(self) -> None:
        from tqdm.auto import tqdm

        total = self.locals.get("total_timesteps")
        remaining = None if total is None else int(total) - self.num_timesteps
        self._bar = tqdm(total=remaining, unit="step", smoothing=0.05, dynamic_ncols=True)
        self._shown = self.num_timesteps

    def _on_step(self) -> bool:
        # A terminal may be closed while learning goes on.
        with suppress(OSError):
            self._bar.update(self.num_timesteps - self._shown)
        self._shown = self.num_timesteps
        if self.n_calls % 100 == 0:
            self._bar.set_postfix(self._rates(), refresh=False)
        return True

    def _rates(self) -> dict[str, str]:
        latest, rates = self.logger.latest, {}
        for name, kind in (("success", "rollout"), ("eval", "eval")):
            success, reached = (latest.get(f"{kind}/{k}_rate") for k in ("success", "reached"))
            if success is not None:
                rates[name] = f"{success:.2f}"
            if reached is not None and reached != success:
                rates["reached" if kind == "rollout" else "eval reached"] = f"{reached:.2f}"
        return rates

    def _on_training_end(self) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None
