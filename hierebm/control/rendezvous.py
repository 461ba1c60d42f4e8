"""Low levels that learn in threads of their own and make their updates together.

Each thread collects experience alone; where it has updates to make, it waits for the others, and
one of them launches the updates of all (:class:`~hierebm.control.side_by_side.SideBySide`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch

from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.device_learner import BatchSource
from hierebm.control.side_by_side import SideBySide
from hierebm.replay.device_batches import DeviceBatches, HindsightBatches


class Rendezvous:
    """Where the updates of S low levels are made together.

    One thread works at a time, between two meetings: Python runs one at a time anyway, and changing
    between them in the middle of a step costs more than it saves.

    Args:
        low_levels: S of them, of one kind and settings.
    """

    def __init__(self, low_levels: Sequence[CapturedDDPG]) -> None:
        self._low_levels = list(low_levels)
        # Held by the thread that works.
        self._turn = threading.Condition()
        self._present = set(range(len(self._low_levels)))
        self._orders: dict[int, _Order] = {}
        self.error: BaseException | None = None
        """The first that ended a block; it ends all others."""
        # Updates that each has made: those with as many go together.
        self._n_made = [_n_updates(low_level) for low_level in self._low_levels]
        self._groups: dict[tuple[int, ...], _Group] = {}
        # Of each, sums of its metrics and how many updates they are of.
        self._metrics: list[tuple[dict[str, float], int]] = [({}, 0) for _ in self._low_levels]

    @contextmanager
    def member(self, i: int) -> Iterator[None]:
        """In a thread: the i-th low level makes its updates with the others until the block ends.

        Raises:
            Exception: what went wrong in another's block, where this one waits for it.
        """
        low_level = self._low_levels[i]
        alone = low_level._learner
        with self._turn:
            low_level._learner = cast("Any", _Member(self, i))
            try:
                yield
            except BaseException as error:
                self.error = self.error or error
                raise
            finally:
                low_level._learner = alone
                alone.refresh_scales()
                # The others are fewer from now on.
                self._present.discard(i)
                self._groups.clear()
                self._turn.notify_all()

    def stop(self, error: BaseException) -> None:
        """Let all blocks end with this error, as soon as they have updates to make."""
        with self._turn:
            self.error = self.error or error
            self._turn.notify_all()

    # ------------------------------------------------------- what members ask, in their turn

    def learn(self, i: int, order: _Order) -> None:
        """Make the updates of an order, some together with those of the others."""
        self._orders[i] = order
        try:
            while order.n > 0:
                if self.error is not None:
                    raise RuntimeError(f"learning side by side ended: {self.error}") from self.error
                if self._orders.keys() >= self._present:
                    self._work()
                else:
                    self._turn.wait()
        finally:
            # Also where it is interrupted.
            self._orders.pop(i, None)

    def _work(self) -> None:
        """As many updates of all as each has to make."""
        n = min(order.n for order in self._orders.values())
        together: dict[tuple[int, float], list[int]] = {}
        for i in sorted(self._orders):
            alike = self._n_made[i], self._orders[i].behavior_weight
            together.setdefault(alike, []).append(i)
        for members in map(tuple, together.values()):
            if members not in self._groups:
                self._groups[members] = _Group([self._low_levels[i] for i in members])
            orders = [self._orders[i] for i in members]
            for i, metrics in zip(members, self._groups[members].learn(orders, n), strict=True):
                sums, n_before = self._metrics[i]
                added = {k: sums.get(k, 0.0) + n * value for k, value in metrics.items()}
                self._metrics[i] = added, n_before + n
                self._n_made[i] += n
        for i, order in list(self._orders.items()):
            order.n -= n
            if order.n == 0:
                del self._orders[i]
        self._turn.notify_all()

    def take_metrics(self, i: int) -> dict[str, float]:
        """Means over the updates of the i-th since they were taken last."""
        (sums, n), self._metrics[i] = self._metrics[i], ({}, 0)
        return {name: value / n for name, value in sums.items()}

    def changed(self, i: int) -> None:
        """The i-th was scaled or loaded: take it as it is now before its next update."""
        n = _n_updates(self._low_levels[i])
        if n != self._n_made[i]:
            self._n_made[i] = n
            self._groups.clear()
        for group in self._groups.values():
            group.is_stale = True


@dataclass
class _Order:
    """Updates that a low level has to make."""

    source: BatchSource
    n: int
    behavior_weight: float


class _Group:
    """Low levels with as many updates behind them."""

    def __init__(self, low_levels: Sequence[CapturedDDPG]) -> None:
        self._seeds = SideBySide(low_levels)
        # Whether one of them is not what it was after the last updates.
        self.is_stale = False
        self._sources: tuple[BatchSource, ...] = ()
        self._source: BatchSource | None = None

    def learn(self, orders: Sequence[_Order], n: int) -> list[dict[str, float]]:
        """n updates of each; means of its metrics."""
        if self.is_stale:
            self._seeds.take()
            self.is_stale = False
        sources = tuple(order.source for order in orders)
        if self._source is None or sources != self._sources:
            self._sources, self._source = sources, _joined(sources)
        self._seeds.learn(self._source, n, orders[0].behavior_weight)
        self._seeds.give_back()
        return self._seeds.take_metrics()


class _Member:
    """In place of a low level's own :class:`~hierebm.control.device_learner.DeviceLearner`."""

    def __init__(self, rendezvous: Rendezvous, i: int) -> None:
        self._rendezvous, self._i = rendezvous, i

    def learn(self, source: BatchSource, n: int, tau: float, behavior_weight: float = 0.0) -> None:
        """n updates, when the others make theirs."""
        self._rendezvous.learn(self._i, _Order(source, n, behavior_weight))

    def take_metrics(self) -> list[dict[str, float]]:
        """As :meth:`DeviceLearner.take_metrics`, of this one alone."""
        return [self._rendezvous.take_metrics(self._i)]

    def check(self) -> None:
        """Nothing to do: after each meeting, all was looked at."""

    def refresh_scales(self) -> None:
        """The low level was scaled or loaded."""
        self._rendezvous.changed(self._i)

    def forget(self) -> None:
        """Nothing to do: after each meeting, all was looked at."""


class _Stacked:
    """Batches of several agents, each from a source of its own."""

    def __init__(self, sources: Sequence[BatchSource]) -> None:
        self._sources = sources

    def draw(self, n: int) -> None:
        for source in self._sources:
            source.draw(n)

    def batches(self, n: int) -> DeviceBatches:
        parts = zip(*(source.batches(n) for source in self._sources), strict=True)
        return DeviceBatches._make(torch.cat(part) for part in parts)


def _n_updates(low_level: CapturedDDPG) -> int:
    return int(low_level.critic_optimizer.state_dict()["step"])


def _joined(sources: Sequence[BatchSource]) -> BatchSource:
    """One source for all, which draws in one go where all can be drawn on the device."""
    on_device = [source for source in sources if isinstance(source, HindsightBatches)]
    if len(on_device) == len(sources):
        return HindsightBatches.joined(on_device)
    return _Stacked(sources)
