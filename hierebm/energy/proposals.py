"""Proposals: where the candidates of the samplers come from."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from hierebm.energy.bounds import Bounds


class Proposal(Protocol):
    """A source of candidates.

    Attributes:
        bounds: the box outside which the target counts as zero, or None.
        density: "flat" (uniform), "known" (a density with a gradient), or "unknown" (can only be
            sampled: the energy then has to be the log ratio to it).
    """

    bounds: Bounds | None
    density: Literal["flat", "known", "unknown"]

    def __call__(
        self, batch: int, m: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """Candidates (batch or 1, m, y_dim); their log density (same, without y_dim) if known."""

    def log_prob_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (...) up to a constant and its gradient (..., y_dim); zeros if not known."""


class _Flat:
    """Log density and gradient of a proposal that has none, or a constant one."""

    def log_prob_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros."""
        return y.new_zeros(y.shape[:-1]), torch.zeros_like(y)


class UniformProposal(_Flat):
    """Candidates uniform in the box [low, high], one set for all conditions."""

    density: Literal["flat", "known", "unknown"] = "flat"

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self.low, self.high = low, high
        self.bounds: Bounds | None = (low, high)

    def __call__(
        self, batch: int, m: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """See ``Proposal``."""
        u = torch.rand((1, m, len(self.low)), generator=generator, device=self.low.device)
        return self.low + (self.high - self.low) * u, None


class ReplayProposal(_Flat):
    """Candidates drawn from stored states (N, y_dim), for energies trained against the same.

    Where an energy is the log *ratio* to these states (``ReplayNegatives``), resampling them by
    exp(-E) draws from p; the energy's own gradient does not lead there, so nothing is refined.
    """

    density: Literal["flat", "known", "unknown"] = "unknown"

    def __init__(self, states: Tensor, bounds: Bounds | None = None) -> None:
        self.states, self.bounds = states, bounds

    def __call__(
        self, batch: int, m: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """See ``Proposal``."""
        device = self.states.device
        pick = torch.randint(len(self.states), (m,), generator=generator, device=device)
        return self.states[pick][None], None


class GaussianProposal:
    """Candidates from a diagonal Gaussian: for many dimensions, where boxes are mostly corners.

    Args:
        mean: (y_dim,).
        std: (y_dim,); wider than the data, or the weights have no bound.
        bounds: as for ``Proposal``.
    """

    density: Literal["flat", "known", "unknown"] = "known"

    def __init__(self, mean: Tensor, std: Tensor, bounds: Bounds | None = None) -> None:
        self.mean, self.std, self.bounds = mean, std, bounds

    def __call__(
        self, batch: int, m: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """See ``Proposal``."""
        e = torch.randn((1, m, len(self.mean)), generator=generator, device=self.mean.device)
        return self.mean + self.std * e, -0.5 * e.square().sum(-1)

    def log_prob_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Proposal``."""
        e = (y - self.mean) / self.std
        return -0.5 * e.square().sum(-1), -e / self.std
