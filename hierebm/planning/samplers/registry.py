"""Every subgoal sampler by its name."""

from __future__ import annotations

import torch

from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.planning.samplers.between_energy import BetweenEnergy, EnergyConfig
from hierebm.planning.samplers.contrastive import ContrastiveSampler
from hierebm.planning.samplers.cvae import CVAESampler
from hierebm.planning.samplers.ebm import EBMSampler
from hierebm.planning.samplers.unlearned import (
    FarthestPointSampler,
    KMeansSampler,
    ReplaySampler,
    UniformSampler,
)

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
