"""Settings of the sequence optimiser."""

from __future__ import annotations

from dataclasses import dataclass

from hierebm.settings import Config, setting


@dataclass
class SequenceConfig(Config):
    """The sequence optimiser, used with planner="sequence"."""

    transition_steps: int = setting(
        8,
        "Largest number of steps between the two states of a training pair, and so "
        "between planned states at the coarsest level.",
        low=1,
        high=1000,
    )
    objective: str = setting(
        "infonce",
        "What the transition energy is trained with: infonce (it becomes -log p of the next state) "
        "or squared (the loss of the paper's code; half the training time, plans less straight).",
        choices=("infonce", "squared"),
    )
    missed_weight: float = setting(
        0.3,
        "Weight of executed transitions that missed, as negatives; 0 turns active learning off.",
        low=0,
        high=1000,
    )
    chains: int = setting(
        8, "Sequences that are optimised side by side for each query.", low=1, high=1024
    )
    lattice_states: int = setting(
        256,
        "Replayed states over which first sequences are found where experience knows no way; 0 "
        "starts from straight lines.",
        low=0,
        high=4096,
    )
    levels: int = setting(
        2,
        "Resolutions, from coarse to fine; each halves the distance between planned states.",
        low=1,
        high=6,
    )
    langevin_steps: int = setting(
        4,
        "Steps of annealed Langevin dynamics at each level; 0 keeps the initial chains.",
        low=0,
        high=200,
    )
    snap: bool = setting(
        True,
        "Move planned states to visited ground at the end, and plans round corners that they clip.",
    )
    max_transitions: int = setting(
        48, "Transitions of the longest plan, at the coarsest level.", low=1, high=512
    )
    state_cost: float = setting(
        1.0,
        "Nats that one more planned state must save; a higher cost gives plans of fewer states.",
        low=0,
        high=1e6,
    )
