"""f(a, b) = log p(b follows a) / p(b), learned by telling what follows from what does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.energy.losses import info_nce_rows
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.nn.layers import MLP, RandomFourierFeatures
from hierebm.nn.trusted import check_network, check_range
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.replay.scales import InputScales
from hierebm.types import LARGEST, BoolArray, FloatArray

# Frequencies of one radian per eight steps and their neighbours, as the between-energy's.
STEPS_PER_RADIAN, OCTAVES, FREQUENCIES = 8.0, (0.5, 1.0, 2.0), 64
# Length of phi and psi.
REPRESENTATION = 32


class PointFeatures(nn.Module):
    """Points of goal space scaled to [-1, 1], with Fourier features on the scale of steps."""

    shift: Tensor
    scale: Tensor
    unit: Tensor

    # Buffers that inputs are divided by: positive in every file.
    divisors: ClassVar[tuple[str, ...]] = ("scale", "unit")

    def __init__(self, goal_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.fourier = RandomFourierFeatures(goal_dim, FREQUENCIES, OCTAVES, generator)
        self.out_dim = goal_dim + self.fourier.out_dim
        self.register_buffer("shift", torch.zeros(goal_dim))
        for name in ("scale", "unit"):
            self.register_buffer(name, torch.ones(goal_dim))

    def fit_scale(self, scales: InputScales) -> None:
        """Take the scales of the goal space; called once, before training."""
        shift, scale, step = map(
            torch.from_numpy, (scales.goal_shift, scales.goal_scale, scales.step)
        )
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.unit.copy_(STEPS_PER_RADIAN * step)

    def forward(self, points: Tensor) -> Tensor:
        """(..., goal_dim) -> (..., out_dim)."""
        centred = points - self.shift
        return torch.cat([centred / self.scale, self.fourier(centred / self.unit)], dim=-1)


class PairScore:
    """f(a, b) = -|phi(a) - psi(b)|^2 / 2 on pairs (a, what followed a).

    Trained by symmetric InfoNCE over the batch, whose optimum is f = log p(b | a) / p(b) up to one
    constant for all pairs (van den Oord et al. 2018, arXiv 1807.03748): telling a from other a's
    as well as b from other b's leaves no term of a or b alone. The form is that of Eysenbach et al.
    2024 (arXiv 2403.04082, section 3).

    Args:
        goal_dim: length of a and b, points of goal space.
        config: size of the networks and learning rate.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.features = PointFeatures(goal_dim, generator).to(self.device)
        hidden = [config.energy_width] * config.energy_depth
        sizes = self.features.out_dim, hidden, REPRESENTATION, "silu", generator
        self.encoders = nn.ModuleList([MLP(*sizes), MLP(*sizes)]).to(self.device)
        self.optimizer = FlatAdam(
            flat_parameters(self.encoders), lr=config.energy_lr, name="pair score"
        )
        # Running value that 95% of the pairs that follow one another score above.
        self.threshold = torch.zeros((), device=self.device)

    def update(self, first: FloatArray, second: FloatArray) -> dict[str, float]:
        """One gradient step on pairs (n, goal_dim), (n, goal_dim); returns ``energy/*`` metrics."""
        a, b = self._encode(0, first), self._encode(1, second)
        scores = -0.5 * torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        labels = torch.arange(len(scores), device=self.device)
        # Every other row's b is a negative of a, and every other row's a one of b.
        own = torch.eye(len(scores), dtype=torch.bool, device=self.device)
        positive, negative = -scores.diagonal(), (-scores).masked_fill(own, torch.inf)
        rows = info_nce_rows(positive, negative) + info_nce_rows(positive, negative.T)
        loss = 0.5 * rows.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step(loss)
        follows = scores.detach().diagonal()
        self.threshold.lerp_(follows.quantile(0.05), 0.02)
        right = scores.detach().argmax(1) == labels
        return {"energy/loss": float(loss.detach()), "energy/accuracy": float(right.float().mean())}

    @torch.no_grad()
    def encode(self, which: int, points: FloatArray) -> FloatArray:
        """phi (``which`` = 0) or psi (1) of points (..., goal_dim): (..., ``REPRESENTATION``)."""
        result: FloatArray = self._encode(which, points).cpu().numpy()
        return result

    def score(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """f for broadcast points (..., goal_dim), (..., goal_dim) -> (...)."""
        gap = self.encode(0, first) - self.encode(1, second)
        result: FloatArray = -0.5 * np.square(gap).sum(-1)
        return result

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Verify edges as experience does, for a planner that no longer learns.

        Returns:
            (n,) the predicted steps as they are, and (n,) whether the score is above what 95% of
            the pairs of trajectories reach.
        """
        return predicted, self.score(source, target) >= float(self.threshold)

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """Zeros (n, m) for (n, goal_dim), (m, goal_dim): the score says nothing about steps."""
        return np.zeros((len(source), len(target)), np.float32)

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        """True: the score tells of pairs only."""
        return True

    def _encode(self, which: int, points: FloatArray) -> Tensor:
        encoded: Tensor = self.encoders[which](
            self.features(torch.as_tensor(points, device=self.device))
        )
        return encoded

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {
            "features": self.features.state_dict(),
            "encoders": self.encoders.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "threshold": self.threshold,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
        for name in ("features", "encoders", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for module in (self.features, self.encoders):
            check_network(module, "pair score")
        self.threshold.copy_(state["threshold"])
        check_range(self.threshold, "threshold of the pair score", -LARGEST, LARGEST)
