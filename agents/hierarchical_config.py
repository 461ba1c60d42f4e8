"""What can be set of the hierarchical agent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hierebm.agents.ddpg_her_config import DDPGHERConfig
from hierebm.planning.graph_planner import PlannerConfig
from hierebm.planning.samplers import SAMPLERS
from hierebm.planning.samplers.between_energy import EnergyConfig
from hierebm.planning.sequence import SequenceConfig
from hierebm.settings import check_ranges, overridden

PLANNERS = ("graph", "sequence")
_RANGES = {
    **dict.fromkeys(
        (
            "energy_width",
            "energy_depth",
            "energy_batch_size",
            "energy_negatives",
            "energy_train_freq",
            "stitched_buffer",
            "candidates",
            "latent_dim",
            "contrastive_dim",
            "max_edge",
            "neighbours",
            "n_subgoals",
            "pool_size",
        ),
        (1, math.inf),
    ),
    **dict.fromkeys(
        (
            "energy_lr",
            "energy_gradient_steps",
            "langevin_steps",
            "safe_edge",
            "hop_cost",
            "budget_factor",
            "budget_slack",
            "redraws",
            "random_walk_steps",
        ),
        (0, math.inf),
    ),
    **dict.fromkeys(
        ("stitched_share", "straight_candidates", "explore", "direct_episodes"), (0, 1)
    ),
}


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
        check_ranges(self, _RANGES)
        if isinstance(self.sequence, dict):
            self.sequence = overridden(SequenceConfig(), self.sequence)
        if not isinstance(self.sequence, SequenceConfig):
            raise TypeError(
                f"sequence must be a SequenceConfig or a dict of its fields, got {self.sequence!r}"
            )
        for name, choices in (("planner", PLANNERS), ("subgoal_sampler", SAMPLERS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
