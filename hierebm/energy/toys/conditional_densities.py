"""Toy conditional densities p(y | x): two branches, rings in d dimensions, moves along a line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class TwoBranches:
    """y | x is one of two branches, +f(x) or -f(x), with equal probability, plus noise.

    f(x) = 0.3 + 0.5 sin(pi (x + 1) / 2), x in [-1, 1]: the same condition has
    two outcomes. A prediction that averages lands between them, where there is no data.
    """

    sigma: float = 0.05
    name: str = "two_branches"

    def branch(self, x: Tensor) -> Tensor:
        """f(x) (..., 1) of x (..., 1)."""
        return 0.3 + 0.5 * torch.sin(math.pi * (x + 1) / 2)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Pairs x (n, 1), y (n, 1)."""
        x = 2 * torch.rand(n, 1, generator=generator) - 1
        sign = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
        noise = self.sigma * torch.randn(n, 1, generator=generator)
        return x, sign * self.branch(x) + noise

    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y | x) (...)."""
        f = self.branch(x)
        pair = torch.stack([-(y - f).square(), -(y + f).square()]) / (2 * self.sigma**2)
        constant = math.log(2) + math.log(self.sigma * math.sqrt(2 * math.pi))
        return (torch.logsumexp(pair, 0) - constant).squeeze(-1)


@dataclass
class ConditionalRing:
    """y in d dimensions given x: a ring of random centre and radius, for coverage against d.

    x = (centre (2), radius); the first two coordinates of y lie on that ring, uniform in angle, the
    others follow linearly: y_k = radius (a_k cos(angle) + b_k sin(angle)); plus noise. So y is a
    closed curve in d dimensions that depends on x: one degree of freedom, whatever d.
    """

    dim: int
    sigma: float = 0.05
    n_bins: int = 16

    def __post_init__(self) -> None:
        gen = torch.Generator().manual_seed(self.dim)
        self._mix = torch.randn(self.dim, 2, generator=gen) * 0.7
        self._mix[:2] = torch.eye(2)
        self.name = f"ring_{self.dim}d"
        extent = 0.5 + 0.5 * self._mix.norm(dim=-1) + 4 * self.sigma
        self.low, self.high = -extent - 0.3, extent + 0.3

    def conditions(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n conditions (n, 3): centre in [-0.5, 0.5]^2, radius in [0.25, 0.5]."""
        u = torch.rand(n, 3, generator=generator)
        return torch.cat([u[:, :2] - 0.5, 0.25 + 0.25 * u[:, 2:]], dim=-1)

    def sample_given(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One y (..., dim) for each x (..., 3)."""
        angle = 2 * math.pi * torch.rand(x.shape[:-1], generator=generator)
        ring = torch.stack([angle.cos(), angle.sin()], -1) * x[..., 2:]
        noise = torch.randn(*x.shape[:-1], self.dim, generator=generator)
        return self._centre(x) + ring @ self._mix.T + self.sigma * noise

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Pairs x (n, 3), y (n, dim)."""
        x = self.conditions(n, generator)
        return x, self.sample_given(x, generator)

    def _centre(self, x: Tensor) -> Tensor:
        pad = x.new_zeros(*x.shape[:-1], self.dim - 2)
        return torch.cat([x[..., :2], pad], dim=-1)

    def ring_distance(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distance (...) to the noise-free curve of x, and the angle bin (...) nearest to y."""
        angle = 2 * math.pi * (torch.arange(256) + 0.5) / 256
        ring = torch.stack([angle.cos(), angle.sin()], -1) @ self._mix.T  # (256, dim)
        offset = y - self._centre(x)
        square = offset.square().sum(-1, keepdim=True)
        r = x[..., 2:]
        cross = offset @ ring.T
        distance = square - 2 * r * cross + r.square() * ring.square().sum(-1)
        best = distance.min(dim=-1)
        return best.values.clamp(min=0).sqrt(), best.indices * self.n_bins // 256


@dataclass
class AccelerateBrake:
    """Triplets (start, goal, state between) of point-to-point moves that accelerate, then brake.

    The path is straight, of T + 1 states; speed rises for half the way and falls for the other, so
    equal times are unequal distances: drawing the state in between uniformly in *time* puts most of
    the data near the ends.
    """

    steps: int = 40
    sigma: float = 0.05
    name: str = "accelerate_brake"

    def _shares(self) -> Tensor:
        """Share of the way (T + 1,) covered at each step."""
        t = torch.linspace(0.0, 1.0, self.steps + 1)
        return torch.where(t < 0.5, 2 * t.square(), 1 - 2 * (1 - t).square())

    def _weights(self, by: str) -> Tensor:
        """Probability (T + 1,) of each step's state."""
        weight = torch.zeros(self.steps + 1)
        if by == "time":
            weight += 1.0
        elif by == "arc":
            # A state stands for half of each of the two steps that it touches.
            length = self._shares().diff()
            weight[1:] += length / 2
            weight[:-1] += length / 2
        else:
            raise ValueError(f"by={by!r} is none of 'time', 'arc'")
        return weight / weight.sum()

    def log_prob(self, y: Tensor, x: Tensor, by: str = "arc") -> Tensor:
        """log p(y | x) (...) of states y (..., 2) given x (..., 4): a mixture over the steps."""
        start, goal = x[..., :2], x[..., 2:]
        path = start[..., None, :] + self._shares()[:, None] * (goal - start)[..., None, :]
        square = (y[..., None, :] - path).square().sum(-1)
        log_w = self._weights(by).clamp(min=1e-30).log()
        constant = math.log(2 * math.pi * self.sigma**2)
        return torch.logsumexp(log_w - square / (2 * self.sigma**2), -1) - constant

    def trajectories(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Start (n, 2) and goal (n, 2), uniform on [-1, 1]^2, and the states (n, T + 1, 2).

        A goal nearer than 0.5 is moved to that distance, even if that is outside the square.
        """
        start = 2 * torch.rand(n, 2, generator=generator) - 1
        goal = 2 * torch.rand(n, 2, generator=generator) - 1
        short = (goal - start).norm(dim=-1, keepdim=True)
        direction = (goal - start) / short.clamp(min=1e-6)
        goal = torch.where(short < 0.5, start + 0.5 * direction, goal)
        path = start[:, None] + self._shares()[:, None] * (goal - start)[:, None]
        return start, goal, path + self.sigma * torch.randn(path.shape, generator=generator)

    def sample(
        self, n: int, generator: torch.Generator | None = None, by: str = "arc"
    ) -> tuple[Tensor, Tensor]:
        """Conditions x = [start, goal] (n, 4) and states between y (n, 2).

        Args:
            n: number of triplets, one of each trajectory.
            generator: source of randomness.
            by: "time" draws the state uniformly in time, "arc" in proportion to its step length
                (uniform in arc length).
        """
        start, goal, path = self.trajectories(n, generator)
        index = torch.multinomial(self._weights(by).expand(n, -1), 1, generator=generator)
        y = path.gather(1, index[..., None].expand(n, 1, 2)).squeeze(1)
        return torch.cat([start, goal], dim=-1), y
