"""Subgoal samplers: where the nodes of the graph between a state and a goal come from.

All of them answer the same question (:class:`SubgoalSampler`) and are made by name.
"""

from __future__ import annotations

import torch

from hierebm.planning.between_energy import BetweenEnergy, EnergyConfig
from hierebm.planning.samplers_base import LearntSampler, SubgoalSampler, farthest_points
from hierebm.planning.samplers_contrastive import ContrastiveSampler
from hierebm.planning.samplers_cvae import CVAESampler
from hierebm.planning.samplers_energy import EBMSampler
from hierebm.planning.samplers_plain import (
    FarthestPointSampler,
    KMeansSampler,
    ReplaySampler,
    UniformSampler,
)

__all__ = [
    "SAMPLERS",
    "CVAESampler",
    "ContrastiveSampler",
    "EBMSampler",
    "FarthestPointSampler",
    "KMeansSampler",
    "LearntSampler",
    "ReplaySampler",
    "SubgoalSampler",
    "UniformSampler",
    "farthest_points",
    "make_sampler",
]

PLAIN: dict[str, type[SubgoalSampler]] = {
    "replay": ReplaySampler,
    "farthest": FarthestPointSampler,
    "kmeans": KMeansSampler,
    "uniform": UniformSampler,
}
SAMPLERS = ("ebm", "contrastive", "cvae", *PLAIN)
"""Names of all samplers; the first three learn."""


def make_sampler(
    name: str,
    goal_dim: int,
    config: EnergyConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> SubgoalSampler:
    """The sampler called ``name``, untrained.

    Args:
        name: one of ``SAMPLERS``.
        goal_dim: length of a point of goal space.
        config: settings of those that learn.
        generator: source of their initial weights.
        device: where their networks live.

    Raises:
        ValueError: another name.
    """
    if name in PLAIN:
        return PLAIN[name]()
    if name == "ebm":
        return EBMSampler(BetweenEnergy(goal_dim, config, generator, device))
    if name == "contrastive":
        return ContrastiveSampler(goal_dim, config, generator, device)
    if name == "cvae":
        return CVAESampler(goal_dim, config, generator, device)
    raise ValueError(f"subgoal_sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
