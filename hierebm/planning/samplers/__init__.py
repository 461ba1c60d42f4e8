"""Subgoal samplers: where the nodes of the graph between a state and a goal come from.

All of them answer the same question (:class:`SubgoalSampler`) and are made by name.
"""

from hierebm.planning.samplers.base import LearntSampler, SubgoalSampler
from hierebm.planning.samplers.between_energy import BetweenEnergy, EnergyConfig
from hierebm.planning.samplers.contrastive import ContrastiveSampler
from hierebm.planning.samplers.cvae import CVAESampler
from hierebm.planning.samplers.ebm import EBMSampler
from hierebm.planning.samplers.pair_score import PairScore
from hierebm.planning.samplers.registry import SAMPLERS, make_sampler
from hierebm.planning.samplers.training_data import BetweenData
from hierebm.planning.samplers.unlearned import (
    FarthestPointSampler,
    KMeansSampler,
    ReplaySampler,
    UniformSampler,
)

__all__ = [
    "SAMPLERS",
    "BetweenData",
    "BetweenEnergy",
    "CVAESampler",
    "ContrastiveSampler",
    "EBMSampler",
    "EnergyConfig",
    "FarthestPointSampler",
    "KMeansSampler",
    "LearntSampler",
    "PairScore",
    "ReplaySampler",
    "SubgoalSampler",
    "UniformSampler",
    "make_sampler",
]
