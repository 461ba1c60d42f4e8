"""The energy between state and goal on a GPU: a gradient step is one launch of a CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierebm.energy.losses import info_nce_rows
from hierebm.nn.capture import Captured, product_precision, sent
from hierebm.nn.watch import Watch
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray

METRICS = ("energy/loss", "energy/accuracy", "energy/gap")
# Gradient steps after which the host looks what came of them, and waits for that.
LOOK_EVERY = 50


class CapturedBetweenEnergy(BetweenEnergy):
    """:class:`BetweenEnergy` whose gradient step is recorded once and replayed.

    The same steps within rounding; :meth:`update` says what came of them now and then, and
    :meth:`look` of those that it has not told of. Runs on the CPU, too.
    """

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(goal_dim, config, generator, device)
        self._goal_dim = goal_dim
        self._watch = Watch([self.optimizer], len(METRICS))
        self._rate = torch.zeros((), device=self.device)
        self._rate_is: float | None = None
        self._parameters = list(self.model.parameters())
        self._gradients = [p.grad for p in self._parameters if p.grad is not None]
        # Points and conditions of a batch, and the step on it, by all that is constant in it.
        self._steps: dict[tuple[Any, ...], tuple[Tensor, Captured]] = {}
        self._n_unread = 0

    def update(self, positives: BetweenTriplets, negatives: FloatArray) -> dict[str, float]:
        """One gradient step of InfoNCE; see the parent.

        Returns:
            Means over all steps that were not told of yet, after every ``LOOK_EVERY`` of them;
            elsewhere nothing.
        """
        points = np.concatenate([positives.between[:, None], negatives], axis=1)
        condition = np.concatenate(
            [positives.start, positives.goal, positives.half[:, None]], axis=1
        )
        key = points.shape[:2], product_precision()
        if key not in self._steps:
            self._steps[key] = self._make_step(points.shape[:2])
        inputs, step = self._steps[key]
        row = np.concatenate([points.reshape(len(points), -1), condition], axis=1, dtype=np.float32)
        inputs.copy_(sent(row, self.device), non_blocking=True)
        if self.optimizer.lr != self._rate_is:
            self._rate_is = self.optimizer.lr
            self._rate.fill_(self.optimizer.lr)
        step()
        self._n_unread += 1
        return self.look() if self._n_unread >= LOOK_EVERY else {}

    def _make_step(self, shape: tuple[int, ...]) -> tuple[Tensor, Captured]:
        n, m = shape
        goal_dim = self._goal_dim
        widths = m * goal_dim, 2 * goal_dim + 1
        inputs = torch.zeros((n, sum(widths)), device=self.device)

        @torch.enable_grad()
        def step() -> None:
            points, condition = inputs.split(widths, 1)
            energies = self.model(points.unflatten(1, (m, goal_dim)), condition[:, None])
            loss = info_nce_rows(energies[:, 0], energies[:, 1:]).mean()
            # Not backward(): what adds up gradients remembers another stream than the graph's.
            gradients = torch.autograd.grad(loss, self._parameters)
            with torch.no_grad():
                torch._foreach_copy_(self._gradients, gradients)
            self.optimizer.descend(self._rate)
            loss, energies = loss.detach(), energies.detach()
            best = (energies[:, 0] <= energies[:, 1:].amin(1)).float().mean()
            gap = energies[:, 1:].mean() - energies[:, 0].mean()
            self._watch.note([part[None] for part in (loss, best, gap)], [loss])
            self._watch.write()

        changed = [self._watch.notes, self.optimizer.flat, self.optimizer.grad]
        changed += self.optimizer.state_dict().values()
        return inputs, Captured(step, changed, self.device)

    def look(self) -> dict[str, float]:
        """Means over the steps that were not told of yet; waits for the device.

        Raises:
            TrainingDiverged: the energy is lost, and was since one of these steps.
        """
        if not self._n_unread:
            return {}
        n, self._n_unread = self._n_unread, 0
        return {name: value / n for name, (value,) in zip(METRICS, self._watch.read(), strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on.

        Raises:
            TrainingDiverged: see :meth:`look`.
        """
        if self._n_unread:
            self._watch.read()
            self._n_unread = 0
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
        self._n_unread = 0
        self._watch.forget()
        super().load_state_dict(state)
