"""What actor and critic see of (state, goal): scaled inputs and Fourier features of the pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hierebm.nn.layers import RandomFourierFeatures
from hierebm.nn.scratch import aligned
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

# Positions are measured in units of this many top-speed steps before the Fourier features, so
# that their frequencies follow the world: features of one radian per four steps can bend at a
# wall, whether the world is 20 or 200 steps wide.
STEPS_PER_RADIAN = 4.0
# Beyond about this many steps, the direct displacement says no more than 'far, that way'.
LOCAL_STEPS = 8.0
# The Fourier features weigh as much as this many other inputs together, however many they are. At
# full size, dozens of them drown the others: the networks take every goal far away for one of its
# own, and policies come to rest half-way until all of those were learned.
WAVE_WEIGHT = 2.0
# Scaled observations and goals are cut off here: an entry may turn out to be larger than it was
# when its scale was measured, and one huge input drowns all the others.
LARGEST_INPUT = 10.0


def cut_off(inputs: FloatArray) -> None:
    """Keep scaled inputs within what networks are given, in place."""
    np.minimum(inputs, LARGEST_INPUT, out=inputs)
    np.maximum(inputs, -LARGEST_INPUT, out=inputs)


class GoalFeatures(nn.Module):
    """Fixed input features of actor and critics; nothing in here is trained.

    Concatenates the scaled observation, the scaled goal, the displacement from achieved goal to
    goal (squashed, so that the last few steps are resolved in a world of any size) and random
    Fourier features of the pair (achieved goal, goal). Plain networks are too smooth to represent
    that two points on the two sides of a wall are far apart; the Fourier features are what keeps
    short edges from running through walls (Tancik et al. 2020, arXiv 2006.10739).

    Axes that the agent does not move at will have no part in the Fourier features: a block that
    has to be pushed stops at no wall, and features of its position drown those of the hand. Where
    no axis is left, the features are 0.

    Args:
        obs_dim, goal_dim: lengths of observation and goal.
        n_fourier: number of frequencies, 0 for none.
        octaves: multiples of one radian per four steps that the frequencies are spread over.
        generator: source of the frequencies.
    """

    observation_shift: Tensor
    observation_scale: Tensor
    goal_shift: Tensor
    goal_scale: Tensor
    step_scale: Tensor
    wave_size: Tensor

    # Buffers that inputs are divided by: positive in every file.
    divisors: ClassVar[tuple[str, ...]] = ("observation_scale", "goal_scale", "step_scale")

    def __init__(
        self,
        obs_dim: int,
        goal_dim: int,
        n_fourier: int,
        octaves: Sequence[float],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.register_buffer("observation_shift", torch.zeros(obs_dim))
        self.register_buffer("observation_scale", torch.ones(obs_dim))
        self.register_buffer("goal_shift", torch.zeros(goal_dim))
        self.register_buffer("goal_scale", torch.ones(goal_dim))
        self.register_buffer("step_scale", torch.ones(goal_dim))
        # A buffer: files from before have waves of another size.
        size = math.sqrt(WAVE_WEIGHT / n_fourier) if n_fourier else 1.0
        self.register_buffer("wave_size", torch.tensor([size]))
        self.fourier = (
            RandomFourierFeatures(2 * goal_dim, n_fourier, octaves, generator)
            if n_fourier
            else None
        )
        self.out_dim = obs_dim + 2 * goal_dim + 2 * n_fourier

    def forward(self, observation: Tensor, achieved_goal: Tensor, goal: Tensor) -> Tensor:
        """(..., obs_dim), (..., goal_dim), (..., goal_dim) -> (..., out_dim)."""
        observation = (observation - self.observation_shift) / self.observation_scale
        scaled_goal = (goal - self.goal_shift) / self.goal_scale
        displacement = torch.tanh((goal - achieved_goal) / (LOCAL_STEPS * self.step_scale))
        parts = [x.clamp(-LARGEST_INPUT, LARGEST_INPUT) for x in (observation, scaled_goal)]
        parts.append(displacement)
        if self.fourier is not None:
            pair = torch.cat([achieved_goal - self.goal_shift, goal - self.goal_shift], dim=-1)
            unit = STEPS_PER_RADIAN * self.step_scale
            waves = self.fourier(pair / torch.cat([unit, unit], dim=-1))
            # A product, not a branch: a GPU would have to be waited for.
            moves = (self.fourier.frequencies != 0.0).any(-2, True).any(-1, True)
            parts.append(waves * (self.wave_size * moves))
        return torch.cat(parts, dim=-1)

    def fit(self, scales: InputScales) -> None:
        """Set the scaling.

        Raises:
            ValueError: a scale or a step that is not positive.
        """
        positive = {
            "scale of the observation": scales.observation_scale,
            "scale of the goal": scales.goal_scale,
            "length of a step": scales.step,
        }
        for name, values in positive.items():
            if not (values > 0).all():
                raise ValueError(
                    f"every {name} must be positive, got {values.tolist()}: give a constant entry "
                    "the scale 1"
                )
        for buffer, value in self.scaled(scales):
            buffer.copy_(value)
        if self.fourier is not None:
            still = np.broadcast_to(~scales.at_will, scales.step.shape)
            self.fourier.frequencies[torch.from_numpy(np.concatenate([still, still]))] = 0.0

    @property
    def sees_walls(self) -> bool:
        """Whether there are Fourier features, of an axis that is moved at will."""
        return self.fourier is not None and bool(self.fourier.frequencies.any())

    def scaled(self, scales: InputScales) -> list[tuple[Tensor, Tensor]]:
        """Each buffer of the scaling, and what it is to hold."""
        names = ("observation_shift", "observation_scale", "goal_shift", "goal_scale")
        values = *(getattr(scales, name) for name in names), scales.step
        buffers = *(getattr(self, name) for name in names), self.step_scale
        return [
            (buffer, torch.as_tensor(value, device=buffer.device))
            for buffer, value in zip(buffers, values, strict=True)
        ]

    def compare(self, scales: InputScales) -> tuple[Tensor, Tensor]:
        """What the inputs are now, seen from other scales of observations and goals.

        Returns:
            (obs_dim + goal_dim,) slope and intercept: where the first inputs will be x, they are
            ``slope * x + intercept`` now; where those cut off, to a line.
        """
        before = _linear_range(*(new for new, _ in self.scaled(scales)[:4]))
        shift, scale = _linear_range(*(new for _, new in self.scaled(scales)[:4]))
        ends = torch.stack([shift - scale, shift + scale])
        low, high = ((ends - before[0]) / before[1]).clamp(-LARGEST_INPUT, LARGEST_INPUT)
        same = (shift == before[0]) & (scale == before[1])
        slope = torch.where(same, 1.0, (high - low) / 2)
        return slope.float(), torch.where(same, 0.0, (high + low) / 2).float()


def _linear_range(
    observation_shift: Tensor, observation_scale: Tensor, goal_shift: Tensor, goal_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Shift and scale of the inputs that are linear in observation and goal, as float64."""
    shift = torch.cat([observation_shift, goal_shift])
    return shift.double(), torch.cat([observation_scale, goal_scale]).double()


class FeatureWriter:
    """:class:`GoalFeatures` in NumPy, column by column into a buffer.

    For few rows, dispatching torch's twenty small operations costs five times their arithmetic.
    The scales are shared with the module, whoever sets or loads them.

    Args:
        features: on the CPU; stay there.
    """

    def __init__(self, features: GoalFeatures) -> None:
        self._observation_shift, self._observation_scale, self._goal_shift, self._goal_scale = (
            buffer.numpy()
            for buffer in (
                features.observation_shift,
                features.observation_scale,
                features.goal_shift,
                features.goal_scale,
            )
        )
        self._step_scale, self._wave_size = features.step_scale.numpy(), features.wave_size.numpy()
        fourier = features.fourier
        self._frequencies = None if fourier is None else fourier.frequencies
        # The same memory: asked at every call, and NumPy answers in a fifth of the time.
        self._waves = np.zeros(0) if self._frequencies is None else self._frequencies.numpy()
        o, g = len(self._observation_shift), len(self._goal_shift)
        n = 0 if features.fourier is None else features.fourier.n_features
        edges = np.cumsum([0, o, g, g, n, n])
        self._columns = [slice(a, b) for a, b in pairwise(edges)]
        self._wave_columns = slice(edges[3], edges[5])

    def write(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray, out: FloatArray
    ) -> None:
        """(B, obs_dim), (B, goal_dim), (B, goal_dim) -> ``out`` (B, out_dim), to rounding."""
        own, other, displacement, sine, cosine = (out[:, columns] for columns in self._columns)
        np.subtract(observation, self._observation_shift, out=own)
        np.divide(own, self._observation_scale, out=own)
        cut_off(own)
        offset = goal - self._goal_shift
        np.divide(offset, self._goal_scale, out=other)
        cut_off(other)
        np.subtract(goal, achieved_goal, out=displacement)
        np.divide(displacement, LOCAL_STEPS * self._step_scale, out=displacement)
        np.tanh(displacement, out=displacement)
        if not self._waves.any():
            sine[...] = cosine[...] = 0.0
        elif self._frequencies is not None:
            unit = STEPS_PER_RADIAN * self._step_scale
            pair = np.concatenate([achieved_goal - self._goal_shift, offset], axis=1)
            pair /= np.concatenate([unit, unit])
            # torch's product: NumPy's may wake a second thread.
            phase = torch.mm(aligned(torch.from_numpy(pair)), self._frequencies).numpy()
            np.sin(phase, out=sine)
            np.cos(phase, out=cosine)
            out[:, self._wave_columns] *= self._wave_size
