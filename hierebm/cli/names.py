"""What the command line calls the things that the package brings."""

from __future__ import annotations

ENV_ID = "PointMassGoal-v0"
AGENTS = {"hierarchical": "HierarchicalEBMAgent", "ddpg-her": "DDPGHERAgent"}
"""Name on the command line -> class, to be had from ``hierebm``."""
