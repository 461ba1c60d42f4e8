"""Settings of the low level."""

from __future__ import annotations

from dataclasses import dataclass

from hierebm.settings import Config, setting

# Frequencies of the Fourier features, in multiples of one radian per four steps at full speed.
FOURIER_OCTAVES = (0.5, 1.0, 2.0)


@dataclass
class DDPGConfig(Config):
    """Networks and updates of the low level."""

    hidden_sizes: tuple[int, ...] = setting(
        (128, 128), "Units of the hidden layers of the actor and of each critic.", low=1, high=4096
    )
    n_critics: int = setting(
        3,
        "Critics in the ensemble; each has its own target and they are never mixed in training.",
        low=1,
        high=100,
    )
    critic: str = setting(
        "categorical",
        "categorical (a distribution over steps) or scalar (its mean only, cheaper).",
        choices=("categorical", "scalar"),
    )
    max_distance: int = setting(
        30,
        "Largest distance in steps that a critic can say; everything farther counts as this.",
        low=2,
        high=10_000,
    )
    actor_lr: float = setting(1e-3, "Learning rate of the actor.", low=0, high=1e30)
    critic_lr: float = setting(1e-3, "Learning rate of the critics.", low=0, high=1e30)
    tau: float = setting(
        0.01,
        "Share of the trained networks that moves into the target networks at each update.",
        low=0,
        high=1,
    )
    fourier_features: int = setting(
        48,
        "Random frequencies of the (achieved goal, goal) pair; 0 for plain inputs.",
        low=0,
        high=4096,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.fourier_features < len(FOURIER_OCTAVES):
            raise ValueError(
                f"fourier_features must be 0 or at least {len(FOURIER_OCTAVES)}, one for each "
                f"octave, got {self.fourier_features}"
            )
