"""Goal-conditioned reinforcement learning with energy-based subgoals and graph search.

Importing this package registers ``PointMassGoal-v0`` and OGBench's mazes with Gymnasium. It imports
neither torch nor ogbench: what needs them is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from hierebm.nn.threads import prefer_passive_waiting

__version__ = "0.2.0"

_LAZY = {
    "HierarchicalEBMAgent": "hierebm.agents.hierarchical",
    "HierarchicalEBMConfig": "hierebm.agents.hierarchical",
    "DDPGHERAgent": "hierebm.agents.ddpg_her",
    "DDPGHERConfig": "hierebm.agents.ddpg_her",
    "evaluate_policy": "hierebm.evaluation",
    "learn_together": "hierebm.agents.together",
    "sweep": "hierebm.sweeps.run",
}

if TYPE_CHECKING:
    from hierebm.agents.ddpg_her import DDPGHERAgent, DDPGHERConfig
    from hierebm.agents.hierarchical import HierarchicalEBMAgent, HierarchicalEBMConfig
    from hierebm.agents.together import learn_together
    from hierebm.evaluation import evaluate_policy
    from hierebm.sweeps.run import sweep

__all__ = [
    "DDPGHERAgent",
    "DDPGHERConfig",
    "HierarchicalEBMAgent",
    "HierarchicalEBMConfig",
    "__version__",
    "evaluate_policy",
    "learn_together",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'hierebm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


# In a source checkout, hierebm.envs and hierebm.agents are the folders beside this one (setup.cfg
# maps them when installing): `python -m benchmarks` finds them from there too.
_checkout = Path(__file__).parents[1]
if (_checkout / "setup.cfg").is_file() and (_checkout / "agents").is_dir():
    __path__.append(str(_checkout))

prefer_passive_waiting()

if "PointMassGoal-v0" not in gymnasium.registry:
    gymnasium.register(
        id="PointMassGoal-v0",
        entry_point="hierebm.envs.point_mass:PointMassGoalEnv",
        vector_entry_point="hierebm.envs.point_mass_vector:PointMassGoalVectorEnv",
    )
    for agent in ("point", "ant"):
        for maze in ("medium", "large", "giant", "teleport"):
            gymnasium.register(
                id=f"OGBench{agent.title()}Maze-{maze}-v0",
                entry_point="hierebm.envs.ogbench_maze:OGBenchMazeEnv",
                max_episode_steps=1000,
                kwargs={"maze": maze, "agent": agent},
            )
