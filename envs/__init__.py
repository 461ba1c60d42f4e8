"""The worlds that ship with hierebm: a point mass on a plane, and OGBench's mazes.

Names are loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_LAZY = {
    "LAYOUTS": "hierebm.envs.layouts",
    "Layout": "hierebm.envs.layouts",
    "OGBenchMazeEnv": "hierebm.envs.ogbench_maze",
    "PointMassGoalEnv": "hierebm.envs.point_mass",
    "PointMassGoalVectorEnv": "hierebm.envs.point_mass_vector",
}

if TYPE_CHECKING:
    from hierebm.envs.layouts import LAYOUTS, Layout
    from hierebm.envs.ogbench_maze import OGBenchMazeEnv
    from hierebm.envs.point_mass import PointMassGoalEnv
    from hierebm.envs.point_mass_vector import PointMassGoalVectorEnv

__all__ = [
    "LAYOUTS",
    "Layout",
    "OGBenchMazeEnv",
    "PointMassGoalEnv",
    "PointMassGoalVectorEnv",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'hierebm.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
