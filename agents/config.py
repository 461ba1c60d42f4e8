"""What can be set of the agents: the settings of all their parts, by plain name."""

from __future__ import annotations

from dataclasses import dataclass, field

from hierebm.control.config import DDPGConfig
from hierebm.planning.graph_plan import PlannerConfig
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.settings import overridden, setting


@dataclass
class DDPGHERConfig(DDPGConfig):
    """Experience, relabelling and exploration."""

    low_level: str = setting(
        "ddpg",
        "The low level: ddpg (networks and updates of this package), inverse (no more than a "
        "learnt inverse model), or the name of the class that was given.",
    )
    total_timesteps: int = setting(
        20_000,
        "Environment steps of a call of learn that does not say how many.",
        low=0,
        high=1_000_000_000_000,
    )
    buffer_size: int = setting(
        1_000_000,
        "States that the replay buffer holds; memory is taken as it fills.",
        low=3,
        high=20_000_000,
    )
    batch_size: int = setting(256, "Transitions in an update.", low=1, high=100_000)
    learning_starts: int = setting(
        1000,
        "Environment steps with random actions before learning begins; 50 at least, on which "
        "inputs are scaled.",
        low=0,
        high=1_000_000_000,
    )
    action_repeat: int = setting(
        0,
        "The clock: environment steps for which an action is held while learning, one step of the "
        "agent, the unit of all distances. 0: measured in the first learning_starts steps, so that "
        "a step goes about as far as the success tolerance.",
        low=0,
        high=1000,
    )
    train_freq: int = setting(
        1,
        "Stored steps of the agent between updates, counted over all environments.",
        low=1,
        high=1_000_000,
    )
    gradient_steps: int = setting(1, "Updates each time.", low=0, high=1000)
    action_noise: float = setting(
        0.2, "Standard deviation of the exploration noise; actions are in [-1, 1].", low=0, high=10
    )
    random_actions: float = setting(
        0.1, "Share of steps on which the action is uniformly random.", low=0, high=1
    )
    her_future: float = setting(
        0.4, "Share of goals taken from the same episode's future.", low=0, high=1
    )
    her_random: float = setting(
        0.25,
        "Share of goals taken from anywhere in the buffer; the rest keep the goal that was chased.",
        low=0,
        high=1,
    )
    her_horizon: float = setting(
        10.0, "Mean number of steps to a goal from the future.", low=1, high=1e6
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden_sizes:
            raise ValueError("hidden_sizes must be at least one width, got ()")
        if self.her_future + self.her_random > 1.0 + 1e-9:
            raise ValueError(
                "her_future and her_random are shares of one batch and must not add up to more "
                f"than 1, got {self.her_future} and {self.her_random}"
            )


@dataclass
class HierarchicalEBMConfig(PlannerConfig, EnergyConfig, DDPGHERConfig):
    """The high level."""

    planner: str = setting(
        "graph",
        "graph (shortest path over subgoals), sequence (most likely sequence of states), or the "
        "name of the class that was given.",
    )
    subgoal_sampler: str = setting(
        "ebm",
        "Where subgoals come from. Learned, between state and goal: ebm (energy), contrastive "
        "(follows the state and is followed by the goal), cvae (as in HTM). Anywhere: replay "
        "(SORB), farthest (spread out evenly), kmeans, uniform (inside walls or not).",
    )
    pool_size: int = setting(
        4000,
        "Stored states, drawn again before each round of energy training, that nodes are made of.",
        low=1,
        high=100_000,
    )
    direct_episodes: float = setting(
        0.2,
        "Share of training episodes in which the low level chases the final goal all the way.",
        low=0,
        high=1,
    )
    sequence: SequenceConfig = field(default_factory=SequenceConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sequence, dict):
            self.sequence = overridden(SequenceConfig(), self.sequence)
        if not isinstance(self.sequence, SequenceConfig):
            raise TypeError(
                f"sequence must be a SequenceConfig or a dict of its fields, got {self.sequence!r}"
            )
