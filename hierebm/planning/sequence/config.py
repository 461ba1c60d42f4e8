"""Settings of the sequence optimiser."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class SequenceConfig:
    """Settings of SequenceOptimizer. "Unit" is the rms length of a transition per axis.

    Attributes:
        transition_steps: k, the number of environment steps between planned states; the caller
            draws its training pairs accordingly.
        objective: "infonce" (E is -log p(s'|s)) or "squared" (the loss of the paper's code).
        width, depth, n_features, octaves: see TransitionEnergy.
        learning_rate: of Adam.
        average: decay of the running average of the weights that plans are made with.
        n_negatives: wrong ends, and as many wrong starts, per transition.
        local_scales, global_share, replay_share: see NegativeProposal.
        normaliser_weight: weight of (log Z)^2, "infonce" only.
        start_weight: weight of telling true starts from wrong ones, "infonce" only.
        imagined_weight: weight of the planner's own transitions as negatives (the paper's).
        missed_weight: weight of executed transitions that missed, as negatives.
        negatives_capacity: how many of either are remembered.
        states_capacity: how many replayed states are remembered.
        chains: sequences per query.
        lattice_states: replayed states that initial sequences are drawn through; 0 for none.
        lattice_temperature: of those draws.
        lattice_refresh: updates after which their energies are computed again.
        noise: standard deviation of noisy initial chains, in units.
        levels: number of resolutions; each halves the distance between the states.
        langevin_steps: per level.
        langevin_step_size: relative to a Newton step of a random walk's energy.
        temperature: at the start of each level; falls linearly to 0.
        acceleration_weight: weight of |s_t+1 - 2 s_t + s_t-1|^2 / 2 in units, as in the paper.
        stretch_weight: weight of |s_t+1 - s_t|^2 / 2 in units: straight and even where the energy
            has no opinion.
        barrier: weight of the squared energy above that of 97% of the transitions seen.
        state_cost: nats that one more planned state must save.
        snap: whether planned states are moved to the nearest replayed ones at the end.
        max_transitions: longest plan, at the coarsest level.
        replan_deviation: distance from the planned path, in units, that asks for a new plan.
    """

    transition_steps: int = 8
    objective: str = "infonce"
    width: int = 96
    depth: int = 2
    n_features: int = 48
    octaves: tuple[float, ...] = (0.5, 1.0, 2.0)
    learning_rate: float = 5e-3
    average: float = 0.99
    n_negatives: int = 8
    local_scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    global_share: float = 0.25
    replay_share: float = 0.0
    normaliser_weight: float = 0.1
    start_weight: float = 1.0
    imagined_weight: float = 0.0
    missed_weight: float = 0.3
    negatives_capacity: int = 10_000
    states_capacity: int = 20_000
    chains: int = 16
    lattice_states: int = 256
    lattice_temperature: float = 0.3
    lattice_refresh: int = 100
    noise: float = 0.5
    levels: int = 2
    langevin_steps: int = 15
    langevin_step_size: float = 0.3
    temperature: float = 0.3
    acceleration_weight: float = 1.0
    stretch_weight: float = 0.25
    barrier: float = 10.0
    state_cost: float = 1.0
    snap: bool = True
    max_transitions: int = 48
    replan_deviation: float = 1.5

    def __post_init__(self) -> None:
        if self.objective not in ("infonce", "squared"):
            raise ValueError(f"objective must be 'infonce' or 'squared', got {self.objective!r}")
        for name in ("chains", "levels", "max_transitions", "n_negatives", "transition_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        # JSON gives lists back.
        self.octaves, self.local_scales = tuple(self.octaves), tuple(self.local_scales)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``SequenceConfig(**d)`` gives the configuration back."""
        return asdict(self)
