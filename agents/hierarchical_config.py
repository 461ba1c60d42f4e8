"""What can be set of the hierarchical agent."""

from __future__ import annotations

from dataclasses import dataclass, field

from hierebm.agents.ddpg_her import DDPGHERConfig
from hierebm.planning.planner import PlannerConfig
from hierebm.planning.samplers import SAMPLERS
from hierebm.planning.samplers.between_energy import EnergyConfig
from hierebm.planning.sequence import SequenceConfig

PLANNERS = ("graph", "sequence")


@dataclass
class HierarchicalEBMConfig(PlannerConfig, EnergyConfig, DDPGHERConfig):
    """Settings of the hierarchical agent: those of all its parts, by plain name."""

    planner: str = "graph"
    """"graph" (shortest path over subgoals) or "sequence" (most likely sequence of states)."""
    subgoal_sampler: str = "ebm"
    """Where subgoals come from. Learnt, between state and goal: "ebm" (energy), "contrastive"
    (follows the state and is followed by the goal), "cvae" (as in HTM). Anywhere: "replay" (SORB),
    "farthest" (spread out evenly), "kmeans", "uniform" (walls or not)."""
    pool_size: int = 4000
    """Stored states, redrawn before each round of energy training, that subgoals are made of."""
    direct_episodes: float = 0.2
    """Share of training episodes in which the low level chases the final goal all the way."""
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    """Settings of the sequence optimiser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sequence, dict):
            self.sequence = SequenceConfig(**self.sequence)
        for name, choices in (("planner", PLANNERS), ("subgoal_sampler", SAMPLERS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
