"""A random walk in the box [-2, 2]^2, open or with a wall, and optimisers trained on it."""

from __future__ import annotations

import torch
from torch import Tensor

from hierebm.planning.sequence import SequenceConfig, SequenceOptimizer

WALL_HALF_WIDTH, WALL_TOP = 0.2, 0.6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def through_wall(a: Tensor, b: Tensor) -> Tensor:
    """Whether segments (..., 2) hit the wall |x| < 0.2, y < 0.6 of the box [-2, 2]^2."""
    points = torch.lerp(a.unsqueeze(-2), b.unsqueeze(-2), torch.linspace(0, 1, 41).unsqueeze(-1))
    inside = (points[..., 0].abs() < WALL_HALF_WIDTH) & (points[..., 1] < WALL_TOP)
    return inside.any(-1)


def random_transitions(n: int, wall: bool, g: torch.Generator) -> Tensor:
    """(n, 2, 2) transitions of a random walk in the box, of which none crosses the wall."""
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n:
        s = torch.rand(2 * n, 2, generator=g) * 4 - 2
        s_next = s + 0.35 * torch.randn(s.shape, generator=g)
        fine = (s_next.abs() < 2).all(-1)
        if wall:
            fine &= ~through_wall(s, s_next)
        kept.append(torch.stack([s, s_next], 1)[fine])
    return torch.cat(kept)[:n]


def trained(wall: bool, updates: int, **settings_: object) -> SequenceOptimizer:
    config = SequenceConfig(**settings_)  # type: ignore[arg-type]
    optimizer, g = SequenceOptimizer(2, config, seeded()), seeded(1)
    for _ in range(updates):
        optimizer.update(random_transitions(128, wall, g))
    return optimizer
