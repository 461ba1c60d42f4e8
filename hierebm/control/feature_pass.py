"""The features of :class:`~hierebm.control.features.GoalFeatures` in a dozen operations."""

from __future__ import annotations

import torch
from torch import Tensor

from hierebm.control.features import (
    LARGEST_INPUT,
    LOCAL_STEPS,
    STEPS_PER_RADIAN,
    GoalFeatures,
)


class FeaturePass:
    """Whole rows at once: what depends on the scales alone is computed when they change.

    Args:
        features: whose scales and frequencies are used; of one agent, or of S (buffers with
            leading dimensions).
    """

    def __init__(self, features: GoalFeatures) -> None:
        self._features = features
        self._o, self._g = features.observation_shift.shape[-1], features.goal_shift.shape[-1]
        self._constants = self._computed()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the scales and frequencies that the features have now."""
        torch._foreach_copy_(self._constants, self._computed())

    def _computed(self) -> list[Tensor]:
        """Shift and scale of a row, of a displacement, of the pair; a factor of each feature."""
        f, step = self._features, self._features.step_scale
        shift = torch.cat([f.observation_shift, f.goal_shift, f.goal_shift], -1)
        scale = torch.cat([f.observation_scale, f.goal_scale, f.goal_scale], -1)
        unit = STEPS_PER_RADIAN * step
        factor = step.new_ones((*step.shape[:-1], f.out_dim))
        if f.fourier is not None:
            # Where no axis is moved at will, there are no waves.
            sees = (f.fourier.frequencies != 0.0).any(-2).any(-1, keepdim=True)
            factor[..., -f.fourier.out_dim :] = f.wave_size * sees.view(*step.shape[:-1], 1)
        return [shift, scale, LOCAL_STEPS * step, torch.cat([unit, unit], -1), factor]

    def __call__(self, rows: Tensor) -> Tensor:
        """(..., obs_dim + 2 goal_dim) observation, achieved goal, goal -> (..., out_dim)."""
        o, g, fourier = self._o, self._g, self._features.fourier
        shift, scale, local, unit, factor = self._constants
        centred = rows - shift
        own = (centred / scale).clamp_(-LARGEST_INPUT, LARGEST_INPUT)
        displacement = torch.tanh((rows[..., o + g :] - rows[..., o : o + g]) / local)
        parts = [own[..., :o], own[..., o + g :], displacement]
        if fourier is None:
            return torch.cat(parts, -1)
        phase = (centred[..., o:] / unit) @ fourier.frequencies
        return torch.cat([*parts, phase.sin(), phase.cos()], -1).mul_(factor)
