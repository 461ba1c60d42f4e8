"""Launches updates on a device, and says later what came of them."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np

from hierebm.control.device_update import METRICS, DeviceUpdate
from hierebm.nn.capture import Captured, product_precision
from hierebm.replay.device_batches import MOST_AT_ONCE, DeviceBatches

# Updates after which the host looks whether the networks are still good, and waits for that.
CHECK_EVERY = 64


class BatchSource(Protocol):
    """Where batches come from on the device."""

    def draw(self, n: int) -> None:
        """Get ready for n updates: whatever needs the host."""

    def batches(self, n: int) -> DeviceBatches:
        """Their batches, from what is on the device alone."""


class DeviceLearner:
    """Updates of S agents, as graphs of one and of several updates.

    Args:
        update: one of them.
    """

    def __init__(self, update: DeviceUpdate) -> None:
        self._update = update
        # Graphs, by all that is constant in them; they read one source.
        self._graphs: dict[Any, Captured] = {}
        self._source: BatchSource | None = None
        # Sums of the metrics that were read, of how many updates, and of how many they were not.
        self._sums = np.zeros((len(METRICS), update.n_agents))
        self._n_read = self._n_unread = 0
        # Whether the last update had a behaviour term.
        self._has_term = False

    def learn(self, source: BatchSource, n: int, tau: float, behavior_weight: float = 0.0) -> None:
        """n updates on batches of the source; :meth:`take_metrics` says what came of them.

        Raises:
            TrainingDiverged: in one of the last ``CHECK_EVERY`` updates or in these, loss, gradient
                or weights came to NaN, infinity or absurdly large numbers; the networks are lost.
        """
        if source is not self._source:
            # No graph may go while it runs.
            self.check()
            self._source, self._graphs = source, {}
        self._has_term = behavior_weight > 0.0
        while n > 0:
            # A launch takes the host about a hundredth of a millisecond.
            size = MOST_AT_ONCE if n >= MOST_AT_ONCE else 1
            source.draw(size)
            self._update.set_rates()
            key = size, tau, behavior_weight, product_precision()
            if key not in self._graphs:
                work = partial(self._work, source, size, tau, behavior_weight)
                changed, device = self._update.changed(), self._update.watch.notes.device
                self._graphs[key] = Captured(work, changed, device)
            self._graphs[key]()
            n -= size
            self._n_unread += size
            if self._n_unread >= CHECK_EVERY:
                self.check()

    def _work(self, source: BatchSource, size: int, tau: float, behavior_weight: float) -> None:
        self._update(source.batches(size), tau, behavior_weight)

    def check(self) -> None:
        """Look whether the networks are still good; waits for the device.

        Raises:
            TrainingDiverged: they are lost, and were since one of the updates after the last look.
        """
        if self._n_unread:
            n, self._n_unread = self._n_unread, 0
            self._sums += self._update.watch.read()
            self._n_read += n

    def take_metrics(self) -> list[dict[str, float]]:
        """Of each agent, means over the updates since they were taken last; none without updates.

        Raises:
            TrainingDiverged: see :meth:`check`.
        """
        self.check()
        if not self._n_read:
            return [{} for _ in range(self._update.n_agents)]
        names = METRICS if self._has_term else METRICS[:-1]
        means = (self._sums / self._n_read).T.tolist()
        self._sums, self._n_read = np.zeros_like(self._sums), 0
        return [dict(zip(names, some, strict=False)) for some in means]

    def refresh_scales(self) -> None:
        """Take the scales that the features have now; call it whenever they changed."""
        self._update.refresh_scales()

    def forget(self) -> None:
        """Drop what is known of updates that were not looked at."""
        self._n_unread = 0
        self._update.watch.forget()
