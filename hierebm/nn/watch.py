"""What a device says of the updates that it made: metrics, and the first network that was lost.

Looking after each update would make the host wait for it. So the sums of the metrics and the first
loss, gradient and weights that went wrong stay on the device, and are read together later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hierebm.errors import TrainingDiverged
from hierebm.nn.flat import LARGEST_RMS, FlatAdam


class Watch:
    """Notes on updates, on their device.

    Args:
        optimizers: of the networks that are updated, those first that are looked at first.
        n_metrics, n_agents: there are so many numbers of each of the agents that train together.
    """

    def __init__(self, optimizers: Sequence[FlatAdam], n_metrics: int, n_agents: int = 1) -> None:
        self._optimizers, self._n_agents = list(optimizers), n_agents
        n, device = n_metrics * n_agents, self._optimizers[0].flat.device
        self._most = torch.tensor(
            [LARGEST_RMS * math.sqrt(o.flat.numel()) for o in self._optimizers], device=device
        )
        self.notes = torch.zeros(n + 4 * len(self._optimizers), device=device)
        """Everything in one tensor, which changes with each update."""
        self._sums = self.notes[:n].view(n_metrics, n_agents)
        # Of each network: number of the update in which it was lost (0: it is not), the loss, and
        # the norms of gradient and weights.
        self._lost = self.notes[n:].view(4, -1)
        # What was noted since the last writing.
        self._noted: list[Tensor] = []

    @torch.no_grad()
    def note(self, metrics: Sequence[Tensor], losses: Sequence[Tensor]) -> None:
        """Take the metrics of an update, and how large gradients and weights are after it.

        Args:
            metrics: (n_agents,) each.
            losses: of each optimiser's network, a scalar.
        """
        grads = [optimizer.grad for optimizer in self._optimizers]
        norms = torch._foreach_norm(grads + [optimizer.flat for optimizer in self._optimizers])
        self._noted += [*metrics, *(number.view(1) for number in (*losses, *norms))]

    @torch.no_grad()
    def write(self) -> None:
        """Add up what was noted, and say which networks were lost in which of these updates."""
        k = len(self._optimizers)
        rows = torch.cat(self._noted).view(-1, self._sums.numel() + 3 * k)
        self._noted = []
        self._sums += rows[:, : self._sums.numel()].sum(0).view_as(self._sums)
        # Of each update, loss and norms of each network.
        values = rows[:, self._sums.numel() :].view(-1, 3, k)
        # NaN compares as False.
        is_bad = ~(values[:, 2] <= self._most)
        first = is_bad.int().argmax(0)
        steps = torch.stack([optimizer.state_dict()["step"] for optimizer in self._optimizers])
        steps = steps - (len(rows) - 1) + first
        now = torch.cat([steps[None], values.gather(0, first.expand(1, 3, k))[0]])
        is_old = (self._lost[0] > 0.0) | ~is_bad.any(0)
        self._lost.copy_(torch.where(is_old, self._lost, now))

    def read(self) -> list[list[float]]:
        """Sums of each metric, by agent, since they were last read; waits for the device.

        Raises:
            TrainingDiverged: the weights of a network became NaN, infinite or absurdly large in
                one of these updates; it is lost.
        """
        notes = self.notes.to("cpu", copy=True)
        self.forget()
        n = self._sums.numel()
        lost = notes[n:].view(4, -1).T.tolist()
        for optimizer, (update, *values) in zip(self._optimizers, lost, strict=True):
            if update:
                raise _diverged(optimizer, int(update), *values)
        sums: list[list[float]] = notes[:n].view(-1, self._n_agents).tolist()
        return sums

    def forget(self) -> None:
        """Drop what :meth:`read` would say."""
        self.notes.zero_()


def _diverged(
    optimizer: FlatAdam, update: int, loss: float, gradient: float, weights: float
) -> TrainingDiverged:
    """The error that names the first to go wrong; of gradient and weights, the norms are given."""
    if not math.isfinite(loss):
        return optimizer.diverged("loss", loss, update)
    if not math.isfinite(gradient):
        return optimizer.diverged("gradient", gradient, update)
    return optimizer.diverged("weights", weights / math.sqrt(optimizer.flat.numel()), update)
