"""The low level: an actor and critics that know how many steps a goal is away.

In the order of reading: ``base`` (what an agent asks of a low level), ``config``, ``ddpg`` (the
algorithm), ``heads`` (critic outputs as distances), ``features`` (what the networks see),
``ddpg_kernels`` and ``acting`` (the same by hand-written passes), ``exploration``; ``sb3`` wraps
models of Stable-Baselines3.
"""

from hierebm.control.base import LowLevel
from hierebm.control.config import DDPGConfig
from hierebm.control.ddpg import DistanceDDPG
from hierebm.control.ddpg_kernels import FastDistanceDDPG, make_ddpg
from hierebm.control.heads import CategoricalHead, DistanceHead, ScalarHead

__all__ = [
    "CategoricalHead",
    "DDPGConfig",
    "DistanceDDPG",
    "DistanceHead",
    "FastDistanceDDPG",
    "LowLevel",
    "ScalarHead",
    "make_ddpg",
]
