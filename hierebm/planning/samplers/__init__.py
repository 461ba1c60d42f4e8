"""Subgoal samplers: where the nodes of a graph come from.

In the order of reading: ``base`` (what a sampler is), ``ebm`` with ``between_energy`` and
``recursive_bisection`` (the default), ``contrastive`` and ``cvae`` (learned, too), ``unlearned``
(baselines), ``registry`` (all of them by name).
"""

from hierebm.planning.samplers.base import LearnedSampler, SubgoalSampler
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.contrastive import ContrastiveSampler
from hierebm.planning.samplers.cvae import CVAESampler
from hierebm.planning.samplers.ebm import EBMSampler
from hierebm.planning.samplers.pair_score import PairScore
from hierebm.planning.samplers.registry import SAMPLERS, make_sampler
from hierebm.planning.samplers.training_data import TrainingData
from hierebm.planning.samplers.unlearned import (
    FarthestPointSampler,
    KMeansSampler,
    ReplaySampler,
    UniformSampler,
)

__all__ = [
    "SAMPLERS",
    "BetweenEnergy",
    "CVAESampler",
    "ContrastiveSampler",
    "EBMSampler",
    "EnergyConfig",
    "FarthestPointSampler",
    "KMeansSampler",
    "LearnedSampler",
    "PairScore",
    "ReplaySampler",
    "SubgoalSampler",
    "TrainingData",
    "UniformSampler",
    "make_sampler",
]
