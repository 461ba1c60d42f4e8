"""Every subgoal sampler by its name."""

from __future__ import annotations

from typing import Any

import torch

from hierebm.parts import find_part
from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.contrastive import ContrastiveSampler
from hierebm.planning.samplers.cvae import CVAESampler
from hierebm.planning.samplers.ebm import EBMSampler
from hierebm.planning.samplers.unlearned import (
    FarthestPointSampler,
    KMeansSampler,
    ReplaySampler,
    UniformSampler,
)

SAMPLERS: dict[str, type[SubgoalSampler]] = {
    "ebm": EBMSampler,
    "contrastive": ContrastiveSampler,
    "cvae": CVAESampler,
    "replay": ReplaySampler,
    "farthest": FarthestPointSampler,
    "kmeans": KMeansSampler,
    "uniform": UniformSampler,
}


def make_sampler(
    given: Any,
    goal_dim: int,
    config: EnergyConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> SubgoalSampler:
    """A sampler by name or class, untrained; an instance is taken as it is.

    Args:
        given: one of ``SAMPLERS``, a :class:`SubgoalSampler`, or a class of them.
        goal_dim: length of a point of goal space.
        config: settings of those that learn.
        generator: source of their initial parameters.
        device: where their networks live.

    Raises:
        ValueError, TypeError: anything else.
    """
    part = find_part("subgoal_sampler", given, SubgoalSampler, SAMPLERS)
    if isinstance(part, SubgoalSampler):
        return part
    return part.build(goal_dim, config, generator, device)
