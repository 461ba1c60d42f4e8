"""Energies with known densities, and small helpers, for the tests of energies and samplers."""

from __future__ import annotations

import torch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box(low: float, high: float, dim: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((dim,), low), torch.full((dim,), high)


class Gaussian:
    """E = |y - mean|^2 / (2 var), with x as the mean where given: its samples are known."""

    def __init__(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        self.mean, self.var = mean, var

    def __call__(self, y, x=None, z=None):
        mean = self.mean if x is None else x
        return 0.5 * ((y - mean).square() / self.var).sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        mean = self.mean if x is None else x
        return self(y, x), (y - mean) / self.var


class Quadratic:
    """E = |y|^2 / 2."""

    def __call__(self, y, x=None, z=None):
        return 0.5 * y.square().sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        return self(y), y.clone()


class Valleys:
    """E = sum of y^4 / 4 - y^2 + y / 2: two valleys an axis, neither Gaussian nor symmetric."""

    def __call__(self, y, x=None, z=None):
        return (y.pow(4) / 4 - y.square() + y / 2).sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        return self(y), y.pow(3) - 2 * y + 0.5

    def quantiles(self, n: int, temperature: float, low: float, high: float) -> torch.Tensor:
        """(n,) points that cut exp(-E / T) on [low, high] into equal parts: its exact samples."""
        grid = torch.linspace(low, high, 200_001, dtype=torch.float64)
        cdf = (-self(grid[:, None]) / temperature).exp().cumsum(0)
        share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return grid[torch.searchsorted(cdf / cdf[-1], share)]
