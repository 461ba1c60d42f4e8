"""Settings of the learned subgoal samplers."""

from __future__ import annotations

from dataclasses import dataclass

from hierebm.settings import Config, setting


@dataclass
class EnergyConfig(Config):
    """The energy E(w | s, g) and the other learned subgoal samplers."""

    energy_width: int = setting(128, "Units of each hidden layer.", low=1, high=1024)
    energy_depth: int = setting(3, "Hidden layers.", low=1, high=64)
    energy_lr: float = setting(1e-3, "Learning rate.", low=0, high=1e30)
    energy_batch_size: int = setting(
        128, "Triplets (s, g, w) in a gradient step.", low=1, high=10_000
    )
    energy_negatives: int = setting(
        32, "Stored states contrasted with each triplet's w.", low=1, high=4096
    )
    energy_train_freq: int = setting(
        1000, "Stored steps of the agent between two rounds of training.", low=1, high=1_000_000_000
    )
    energy_gradient_steps: int = setting(100, "Gradient steps in a round.", low=0, high=100_000)
    stitched_share: float = setting(
        0.8,
        "Share of triplets from shortest paths over stored states; the rest come from "
        "trajectories.",
        low=0,
        high=1,
    )
    bisection: bool = setting(
        False,
        "Lay out subgoals by recursive bisection: the way is halved by a point of low energy, its "
        "first part first; those left over are spread along the way. For agents that have learned "
        "(ebm only).",
    )
