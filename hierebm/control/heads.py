"""Critic outputs read as distances: reward -1 per step, no discount, support 1..N steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class DistanceHead(ABC):
    """How the last layer of a critic ensemble encodes the number of steps to the goal."""

    def __init__(self, max_distance: int) -> None:
        if max_distance < 2:
            raise ValueError(f"max_distance must be at least 2 steps, got {max_distance}")
        self.max_distance = max_distance
        self.out_dim: int

    @abstractmethod
    def distance(self, outputs: Tensor) -> Tensor:
        """(E, B, out_dim) -> (E, B) predicted steps, differentiable.

        Targets are in [1, max_distance]; a regression may leave that range between them.
        """

    @abstractmethod
    def bootstrap(self, next_outputs: Tensor, reached: Tensor, failure: Tensor) -> Tensor:
        """One Bellman backup: a step more than from the next state; 1 if it reaches the goal.

        Args:
            next_outputs: (..., E, B, out_dim) of the target networks at the next state.
            reached: (B,) bool, the next state reaches the goal; beats ``failure``. Of several
                ensembles, (..., 1, B).
            failure: the same of whether no goal can be reached any more: max_distance.

        Returns:
            What ``loss`` takes as its target, (..., E, B, out_dim).
        """

    @abstractmethod
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Scalar regression loss, averaged over the batch and summed over the ensemble."""

    @abstractmethod
    def loss_and_slope(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """``loss`` of each ensemble and its gradient at the outputs, without autograd.

        Args:
            outputs: (..., E, B, out_dim)
            target: as many, from ``bootstrap``.

        Returns:
            (...,) and (..., E, B, out_dim).
        """

    @abstractmethod
    def distance_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """``distance`` (..., E, B), and its gradient at the outputs (..., E, B, out_dim)."""


class CategoricalHead(DistanceHead):
    """A distribution over 1..N steps, the last bin standing for 'N or more' (SORB).

    Eysenbach, Salakhutdinov & Levine 2019, arXiv 1906.05253, "Better distance estimates": the
    target is the next state's distribution shifted right by one bin, one-hot on the first bin if
    the goal is reached. The atoms lie one step apart, so the projection of distributional RL
    (Bellemare et al. 2017, arXiv 1707.06887, algorithm 1) is that shift and rounds nothing.
    """

    def __init__(self, max_distance: int) -> None:
        super().__init__(max_distance)
        self.out_dim = max_distance
        # What does not depend on outputs, by device: three operations less, every time.
        self._constants: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(out_dim,) the steps of the bins, and all weight on the first and on the last bin."""
        if device not in self._constants:
            steps = torch.arange(1.0, self.out_dim + 1, device=device)
            first, last = (steps == 1.0).float(), (steps == self.out_dim).float()
            self._constants[device] = steps, first, last
        return self._constants[device]

    def distance(self, outputs: Tensor) -> Tensor:  # noqa: D102
        steps = torch.arange(1, self.out_dim + 1, dtype=outputs.dtype, device=outputs.device)
        return torch.softmax(outputs, dim=-1) @ steps

    def bootstrap(self, next_outputs: Tensor, reached: Tensor, failure: Tensor) -> Tensor:  # noqa: D102
        probabilities = torch.softmax(next_outputs, dim=-1)
        target = torch.zeros_like(probabilities)
        target[..., 1:] = probabilities[..., :-1]
        target[..., -1] += probabilities[..., -1]
        # No indexing by masks and no constant from the host: a GPU would have to be waited for.
        _, first, last = self._on(target.device)
        target = torch.where(failure[..., None], last, target)
        return torch.where(reached[..., None], first, target)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        return -(target * torch.log_softmax(outputs, dim=-1)).sum(-1).mean(-1).sum()

    def loss_and_slope(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        log_p = torch.log_softmax(outputs, dim=-1)
        loss = (target * log_p).sum((-3, -2, -1)) / -outputs.shape[-2]
        # sum(target) = 1, so that the slope is softmax - target.
        return loss, log_p.exp_().sub_(target).div_(outputs.shape[-2])

    def distance_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        steps, _, _ = self._on(outputs.device)
        p = torch.softmax(outputs, dim=-1)
        mean = (p * steps).sum(-1)
        # d mean / d logit_k = p_k (k - mean)
        return mean, p.mul_(steps - mean[..., None])


class ScalarHead(DistanceHead):
    """One number per state, goal and action: the mean distance, its targets clipped to [1, N]."""

    def __init__(self, max_distance: int) -> None:
        super().__init__(max_distance)
        self.out_dim = 1

    def distance(self, outputs: Tensor) -> Tensor:  # noqa: D102
        return outputs.squeeze(-1)

    def bootstrap(self, next_outputs: Tensor, reached: Tensor, failure: Tensor) -> Tensor:  # noqa: D102
        target = (next_outputs + 1.0).clamp(1.0, float(self.max_distance))
        target = torch.where(failure[..., None], float(self.max_distance), target)
        return torch.where(reached[..., None], 1.0, target)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        return (outputs - target).square().mean(dim=(1, 2)).sum()

    def loss_and_slope(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        error, rows = outputs - target, outputs.shape[-2]
        return error.square().sum((-3, -2, -1)) / rows, error * (2.0 / rows)

    def distance_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return outputs.squeeze(-1), torch.ones_like(outputs)


def make_head(kind: str, max_distance: int) -> DistanceHead:
    """The head called ``kind``: "categorical" or "scalar"."""
    heads = {"categorical": CategoricalHead, "scalar": ScalarHead}
    if kind not in heads:
        raise ValueError(f"critic must be one of {sorted(heads)}, got {kind!r}")
    return heads[kind](max_distance)
