"""Toy densities with exact samplers and exact log densities.

All live in about [-1.3, 1.3]^2 so that one configuration can serve them all. Each density divides
its support into ``n_bins`` cells of known probability (cells along the arc for curves), which makes
"does the model spread its samples as the data does" a number: see ``hierebm.energy.toys.metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class ToyDensity(Protocol):
    """A density over the plane that can be sampled, evaluated and binned."""

    name: str
    low: Tensor
    high: Tensor
    n_bins: int

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples, (n, 2)."""

    def log_prob(self, y: Tensor) -> Tensor:
        """Exact log density (...) of y (..., 2)."""

    def bins(self, y: Tensor) -> Tensor:
        """Cell (...) int64 in [0, n_bins) of y (..., 2)."""


def _box(size: float = 1.3) -> tuple[Tensor, Tensor]:
    return torch.full((2,), -size), torch.full((2,), size)


class CurveDensity:
    """Uniform along plane curves, with isotropic Gaussian noise across (and along) them.

    Args:
        name: for tables.
        curves: each (n_i, 2), points along one curve, finely spaced.
        sigma: standard deviation of the noise.
        n_bins: cells of equal arc length over all curves together.
    """

    def __init__(self, name: str, curves: list[Tensor], sigma: float, n_bins: int = 40) -> None:
        self.name, self.sigma, self.n_bins = name, sigma, n_bins
        self.low, self.high = _box()
        starts, ends = zip(*((c[:-1], c[1:]) for c in curves), strict=True)
        start, end = torch.cat(starts).double(), torch.cat(ends).double()
        self._cumulative = (end - start).norm(dim=-1).cumsum(0)
        self.length = float(self._cumulative[-1])
        self._start, self._end = start, end
        # Quadrature nodes half a sigma apart: the mixture is then the convolution to 1e-8.
        nodes = max(200, int(2 * self.length / sigma))
        self._nodes = self.at((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes)

    def at(self, u: Tensor) -> Tensor:
        """Points (..., 2) at the shares u (...) in [0, 1] of the total arc length."""
        s = u.double() * self.length
        i = torch.searchsorted(self._cumulative, s).clamp(max=len(self._start) - 1)
        step = self._end[i] - self._start[i]
        length = step.norm(dim=-1)
        part = (s - (self._cumulative[i] - length)) / length
        return self._start[i] + part[..., None] * step

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n samples (n, 2), float32."""
        points = self.at(torch.rand(n, generator=generator, dtype=torch.float64)).float()
        return points + self.sigma * torch.randn(n, 2, generator=generator)

    def log_prob(self, y: Tensor) -> Tensor:
        """Log density (...), the Gaussian mixture over fine quadrature nodes along the arc."""
        flat = y.reshape(-1, 2).double()
        constant = math.log(len(self._nodes)) + math.log(2 * math.pi * self.sigma**2)
        parts = [
            torch.logsumexp(-torch.cdist(part, self._nodes).square() / (2 * self.sigma**2), -1)
            for part in flat.split(4096)
        ]
        return (torch.cat(parts) - constant).view(y.shape[:-1]).to(y.dtype)

    def distance(self, y: Tensor) -> Tensor:
        """Distance (...) to the nearest curve, to within a hundredth of sigma."""
        return torch.cdist(y.reshape(-1, 2).double(), self._nodes).min(-1).values.view(y.shape[:-1])

    def bins(self, y: Tensor) -> Tensor:
        """The arc cell (...) of the nearest point on the curves."""
        nearest = torch.cdist(y.reshape(-1, 2).double(), self._nodes).argmin(-1)
        return (nearest * self.n_bins // len(self._nodes)).view(y.shape[:-1])


def spiral(turns: float = 2.0, sigma: float = 0.025, n_bins: int = 40) -> CurveDensity:
    """An Archimedean spiral from radius 0.15 to 1, uniform in arc length."""
    angle = torch.linspace(0.0, 2 * math.pi * turns, 4000, dtype=torch.float64)
    radius = 0.15 + 0.85 * angle / angle[-1]
    curve = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return CurveDensity("spiral", [curve], sigma, n_bins)


def parabolas(sigma: float = 0.025, n_bins: int = 40) -> CurveDensity:
    """Two parabolas, y = 1.6 x^2 - 0.8 and its mirror image, that intersect twice."""
    t = torch.linspace(-1.0, 1.0, 2000, dtype=torch.float64)
    v = 1.6 * t.square() - 0.8
    curves = [torch.stack([t, v], dim=-1), torch.stack([t, -v], dim=-1)]
    return CurveDensity("parabolas", curves, sigma, n_bins)


class Checkerboard:
    """Uniform on the 8 black squares of a 4 x 4 board on [-1, 1]^2, edges blurred by sigma."""

    name = "checkerboard"
    n_bins = 32  # four quarters of each black square

    def __init__(self, sigma: float = 0.02) -> None:
        self.sigma = sigma
        self.low, self.high = _box()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n samples (n, 2)."""
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        corner = torch.stack([column, row], dim=-1)
        y = (corner + torch.rand(n, 2, generator=generator)) / 2 - 1
        return y + self.sigma * torch.randn(n, 2, generator=generator)

    def log_prob(self, y: Tensor) -> Tensor:
        """Log density (...): sums of products of one-dimensional blurred intervals."""
        edges = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)
        cdf = torch.special.ndtr((y.double()[..., None] - edges) / self.sigma)
        inside = cdf[..., :-1] - cdf[..., 1:]  # (..., 2, 4): mass of the noise in each interval
        even_x, odd_x = inside[..., 0, 0::2].sum(-1), inside[..., 0, 1::2].sum(-1)
        even_y, odd_y = inside[..., 1, 0::2].sum(-1), inside[..., 1, 1::2].sum(-1)
        density = (even_x * even_y + odd_x * odd_y) / (8 * 0.25)
        return density.clamp(min=1e-300).log().to(y.dtype)

    def bins(self, y: Tensor) -> Tensor:
        """Quarter of the black square that holds y, or of the nearest one."""
        cell = ((y + 1) * 2).clamp(0, 3.9999)
        white = cell.floor().sum(-1) % 2 == 1
        # Leave a white square across its nearest edge, but never off the board.
        offset = cell - cell.floor() - 0.5
        step = torch.where(offset.abs() == offset.abs().amax(-1, keepdim=True), offset.sign(), 0.0)
        moved = cell + step * (0.5 - offset.abs() + 1e-3)
        off = (moved < 0) | (moved >= 4)
        other = torch.where(step == 0, offset.sign(), 0.0)
        second = cell + other * (0.5 - offset.abs() + 1e-3)
        moved = torch.where(off.any(-1, keepdim=True), second, moved)
        cell = torch.where(white[..., None], moved, cell).clamp(0, 3.9999)
        square = cell.floor().long()
        index = square[..., 0] * 2 + square[..., 1] // 2
        half = ((cell - cell.floor()) * 2).floor().long()
        return index * 4 + half[..., 0] * 2 + half[..., 1]


class Pinwheel:
    """Five Gaussian blades, sheared by a rotation that grows with the radius.

    The rotation depends on the radius alone, so it preserves area and the density is exact.
    """

    name = "pinwheel"
    n_bins = 40  # eight radial cells of equal probability on each of five blades

    def __init__(self, blades: int = 5, twist: float = 2.0) -> None:
        self.blades, self.twist = blades, twist
        self.radius, self.radial, self.tangential = 0.6, 0.16, 0.05
        self.low, self.high = _box()
        radii = self._unrotated(self.sample(100_000, torch.Generator().manual_seed(0))).norm(dim=-1)
        cells = self.n_bins // blades
        self._cuts = torch.quantile(radii, torch.arange(1, cells) / cells)

    def _rotate(self, y: Tensor, angle: Tensor) -> Tensor:
        c, s = angle.cos(), angle.sin()
        return torch.stack([c * y[..., 0] - s * y[..., 1], s * y[..., 0] + c * y[..., 1]], -1)

    def _unrotated(self, y: Tensor) -> Tensor:
        return self._rotate(y, -self.twist * (y.norm(dim=-1) - self.radius))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n samples (n, 2)."""
        scale = torch.tensor([self.radial, self.tangential])
        y = torch.randn(n, 2, generator=generator) * scale + torch.tensor([self.radius, 0.0])
        blade = torch.randint(self.blades, (n,), generator=generator)
        turn = 2 * math.pi * blade / self.blades
        return self._rotate(y, turn + self.twist * (y.norm(dim=-1) - self.radius))

    def log_prob(self, y: Tensor) -> Tensor:
        """Log density (...), a mixture of Gaussians in the unrotated plane."""
        base = self._unrotated(y.double())
        parts = []
        for blade in range(self.blades):
            angle = torch.tensor(-2 * math.pi * blade / self.blades, dtype=torch.float64)
            u = self._rotate(base, angle)
            quad = ((u[..., 0] - self.radius) / self.radial).square()
            parts.append(-0.5 * (quad + (u[..., 1] / self.tangential).square()))
        constant = math.log(2 * math.pi * self.radial * self.tangential * self.blades)
        return (torch.logsumexp(torch.stack(parts), 0) - constant).to(y.dtype)

    def bins(self, y: Tensor) -> Tensor:
        """Blade and radial cell of y."""
        base = self._unrotated(y)
        turn = torch.atan2(base[..., 1], base[..., 0]) * self.blades / (2 * math.pi)
        blade = turn.round().long() % self.blades
        cell = torch.bucketize(base.norm(dim=-1).contiguous(), self._cuts)
        return blade * (self.n_bins // self.blades) + cell


def toy_density(name: str) -> ToyDensity:
    """A plane density by name: spiral, parabolas, checkerboard, pinwheel.

    Raises:
        ValueError: an unknown name.
    """
    makers: dict[str, Callable[[], ToyDensity]] = {
        "spiral": spiral,
        "parabolas": parabolas,
        "checkerboard": Checkerboard,
        "pinwheel": Pinwheel,
    }
    if name not in makers:
        raise ValueError(f"density {name!r} is none of {sorted(makers)}")
    return makers[name]()
