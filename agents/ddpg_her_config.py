"""What can be set of the low level alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hierebm.control import DDPGConfig
from hierebm.settings import check_ranges, check_types

_RANGES = {
    "max_distance": (2, math.inf),
    "buffer_size": (3, math.inf),
    **dict.fromkeys(("n_critics", "batch_size", "train_freq", "her_horizon"), (1, math.inf)),
    **dict.fromkeys(
        (
            "actor_lr",
            "critic_lr",
            "preactivation_penalty",
            "fourier_features",
            "total_timesteps",
            "learning_starts",
            "gradient_steps",
            "action_noise",
        ),
        (0, math.inf),
    ),
    **dict.fromkeys(("tau", "random_actions", "her_future", "her_random", "her_nearby"), (0, 1)),
}


@dataclass
class DDPGHERConfig(DDPGConfig):
    """Settings of :class:`DDPGHERAgent`; the networks' come from :class:`DDPGConfig`."""

    kernels: bool | None = None
    """Hand-written forward and backward passes (True), autograd (False), or the faster (None)."""
    bf16: bool = False
    """Matrix products of the update in bfloat16, weights in float32: faster from about 256 units
    a layer on, slower below."""
    total_timesteps: int = 20_000
    """Environment steps of a call of ``learn`` that does not say how many."""
    buffer_size: int = 1_000_000
    """States that the replay buffer holds; memory is taken as it fills."""
    batch_size: int = 256
    """Transitions in an update."""
    learning_starts: int = 1000
    """Steps with random actions before learning begins."""
    train_freq: int = 1
    """Environment steps between updates, counted over all environments."""
    gradient_steps: int = 1
    """Updates each time."""
    action_noise: float = 0.2
    """Standard deviation of the exploration noise; actions are in [-1, 1]."""
    random_actions: float = 0.1
    """Share of steps on which the action is uniformly random."""
    her_future: float = 0.4
    """Share of goals taken from the same episode's future."""
    her_random: float = 0.25
    """Share of goals taken from anywhere in the buffer."""
    her_nearby: float = 0.0
    """Share of goals that are near as the crow flies, the nearest of a few random states; what is
    left keeps the goal that was chased."""
    her_horizon: float = 10.0
    """Mean number of steps to a goal from the future."""

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()
        check_ranges(self, _RANGES)
        if self.her_future + self.her_random + self.her_nearby > 1.0 + 1e-9:
            raise ValueError(
                "her_future, her_random and her_nearby are shares of one batch and must not add up "
                f"to more than 1, got {self.her_future}, {self.her_random} and {self.her_nearby}"
            )
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes must be at least one width, got {self.hidden_sizes}")
