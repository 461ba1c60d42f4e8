"""The low level: an actor and critics that know how many steps a goal is away."""

from hierebm.control.ddpg import DDPGConfig, DistanceDDPG
from hierebm.control.distance import CategoricalHead, DistanceHead, ScalarHead
from hierebm.control.fast import FastDistanceDDPG, make_ddpg

__all__ = [
    "CategoricalHead",
    "DDPGConfig",
    "DistanceDDPG",
    "DistanceHead",
    "FastDistanceDDPG",
    "ScalarHead",
    "make_ddpg",
]
