"""Signals that ask a command to stop: Ctrl-C, and what clusters and closed terminals send."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from hierebm.callbacks import BaseCallback

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# Seconds: signals that follow the first one sooner are taken for the same wish to stop.
PATIENCE = 2.0


class Stopped(KeyboardInterrupt):
    """A signal asked to stop.

    Args:
        signum: which one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.status = 128 + signum


class StopSignals:
    """While it is entered, a signal ends learning after the current step, and waits for the save.

    Where a step does not come to its end, another signal after ``PATIENCE`` seconds raises
    :class:`Stopped` there and then; nothing but the running episode is lost by that. Signals that
    the process was told to ignore (``nohup``) stay ignored.

    Attributes:
        received: the first signal; None until then.
        is_ending: learning comes to its end by itself now, so that further signals need not be
            heeded.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_ending = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            for signum in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = signum, time.monotonic()
        elif not self.is_ending and time.monotonic() - self._since > PATIENCE:
            self.is_ending = True
            raise Stopped(self.received)


class StopCallback(BaseCallback):
    """Ends learning once a signal was received.

    Args:
        signals: which were received.
    """

    def __init__(self, signals: StopSignals) -> None:
        super().__init__()
        self.signals = signals

    def _on_step(self) -> bool:
        if self.signals.received is not None:
            self.signals.is_ending = True
        return not self.signals.is_ending
