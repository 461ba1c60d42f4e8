"""Agents: the building blocks of hierebm put together."""

from hierebm.agents.ddpg_her import DDPGHERAgent, DDPGHERConfig
from hierebm.agents.hierarchical import HierarchicalEBMAgent, HierarchicalEBMConfig

__all__ = ["DDPGHERAgent", "DDPGHERConfig", "HierarchicalEBMAgent", "HierarchicalEBMConfig"]
