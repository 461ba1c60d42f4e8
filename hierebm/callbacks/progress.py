"""A progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hierebm.callbacks.base import BaseCallback


class ProgressBarCallback(BaseCallback):
    """A progress bar over env steps, with the latest success rate beside it.

    Over gradient steps in ``learn_offline``. Also the rate at which goals were ever reached, where
    that is another one. Where standard error is no terminal but a file, say, there is a line for
    every twentieth of the way instead.
    """

    _bar: Any = None

    def _on_training_start(self) -> None:
        total = self.locals.get("total_timesteps")
        remaining = None if total is None else int(total) - self.num_timesteps
        self._bar = _bar(remaining)
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


def _bar(total: int | None) -> Any:
    """What shows progress where standard error goes to."""
    from tqdm.auto import tqdm

    # In a notebook it is not a text at all.
    if sys.stderr.isatty() or "notebook" in tqdm.__module__ or "ipykernel" in sys.modules:
        return tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True)
    return ProgressLines(total)


class ProgressLines:
    """Progress as lines of text, with the interface of a ``tqdm`` bar.

    Args:
        total: steps; None where it is not known.
    """

    # Lines on the whole way; without a total, a line for so many steps.
    _lines, _steps = 20, 10_000

    def __init__(self, total: int | None) -> None:
        self._total, self._done, self._began = total, 0, time.monotonic()
        self._every = self._steps if not total else max(total / self._lines, 1.0)
        self._rates = ""

    def update(self, n: int) -> None:
        """Note n more steps."""
        before, self._done = self._done, self._done + n
        if self._done // self._every > before // self._every:
            self._print()

    def set_postfix(self, rates: Mapping[str, str], refresh: bool = True) -> None:
        """What stands at the end of the next line."""
        self._rates = "".join(f", {name} {rate}" for name, rate in rates.items())

    def close(self) -> None:
        """There is nothing to close."""

    def _print(self) -> None:
        seconds = time.monotonic() - self._began
        share = "" if not self._total else f" of {self._total} ({self._done / self._total:.0%})"
        left = ""
        if self._total and self._done < self._total:
            left = f", {seconds * (self._total / self._done - 1.0):.0f} s left"
        print(
            f"{self._done}{share} steps in {seconds:.0f} s{left}{self._rates}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
