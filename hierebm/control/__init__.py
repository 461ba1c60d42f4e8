"""The low level: an actor and critics that know how many steps a goal is away."""

from hierebm.control.ddpg import DDPGConfig, DistanceDDPG
from hierebm.control.ddpg_kernels import FastDistanceDDPG, make_ddpg
from hierebm.control.heads import CategoricalHead, DistanceHead, ScalarHead

__all__ = [
    "CategoricalHead",
    "DDPGConfig",
    "DistanceDDPG",
    "DistanceHead",
    "FastDistanceDDPG",
    "ScalarHead",
    "make_ddpg",
]
