"""How well samples and energies follow a known density."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hierebm.energy.toys.conditional_densities import AccelerateBrake, TwoBranches
from hierebm.energy.toys.densities import ToyDensity


def sample_metrics(
    density: ToyDensity, samples: Tensor, *, reference: int = 50_000, seed: int = 12345
) -> dict[str, float]:
    """Precision, total variation over bins and coverage of samples (n, 2).

    - precision: share of samples in the smallest region that holds 99.7% of the true density (for
      noise around a curve: within three standard deviations of it). Real data scores 0.997.
    - tv: total variation between the samples' and the true bin probabilities, 0 to 1. Real data
      does not score 0: with n samples and k bins about 0.4 sqrt(k / n).
    - coverage: share of the bins that hold at least a fifth of their due number of samples.
    """
    gen = torch.Generator().manual_seed(seed)
    real = density.sample(reference, gen)
    threshold = torch.quantile(density.log_prob(real), 0.003)
    probability = torch.bincount(density.bins(real), minlength=density.n_bins) / reference
    counts = torch.bincount(density.bins(samples), minlength=density.n_bins)
    share = counts / len(samples)
    return {
        "precision": float((density.log_prob(samples) >= threshold).float().mean()),
        "tv": float(0.5 * (share - probability).abs().sum()),
        "coverage": float((share >= 0.2 * probability).float().mean()),
    }


@torch.no_grad()
def log_density_fit(
    density: ToyDensity,
    energy: Callable[[Tensor], Tensor],
    *,
    n: int = 4000,
    spread: float = 0.025,
    seed: int = 54321,
) -> tuple[float, float]:
    """Correlation of -E with the exact log density, and the slope of their regression line.

    Evaluated at half fresh data, half fresh data moved by Gaussian noise of ``spread``, so that the
    flanks count as well as the ridge. The slope is that of -E on log p: one for a calibrated
    energy, zero for a flat one.
    """
    gen = torch.Generator().manual_seed(seed)
    y = density.sample(n, gen)
    y[n // 2 :] += spread * torch.randn(n - n // 2, 2, generator=gen)
    log_p, score = density.log_prob(y).double(), -energy(y).double()
    log_p, score = log_p - log_p.mean(), score - score.mean()
    covariance = (log_p * score).mean()
    correlation = covariance / (log_p.square().mean() * score.square().mean()).sqrt()
    return float(correlation), float(covariance / log_p.square().mean())


def branch_shares(density: TwoBranches, x: Tensor, y: Tensor) -> dict[str, float]:
    """How R inferences for each of N conditions, y (N, R, 1), fall on the branches.

    precision: within three sigma of a branch; upper_share: of those, on the upper one;
    both_branches: share of the conditions under which each branch was reached at least once.
    """
    f = density.branch(x)
    upper = ((y - f).abs() < 3 * density.sigma).squeeze(-1)
    lower = ((y + f).abs() < 3 * density.sigma).squeeze(-1)
    near = int((upper | lower).sum())
    return {
        "precision": near / upper.numel(),
        "upper_share": int(upper.sum()) / max(1, near),
        "both_branches": float((upper.any(-1) & lower.any(-1)).float().mean()),
    }


@torch.no_grad()
def path_profile(
    model: Callable[[Tensor, Tensor], Tensor], shares: Tensor, *, pairs: int = 256, seed: int = 7
) -> Tensor:
    """Energies (pairs, S) on straight lines from start to goal, at the shares (S,) of the way."""
    gen = torch.Generator().manual_seed(seed)
    start, goal, _ = AccelerateBrake().trajectories(pairs, gen)
    y = start[:, None] + shares[:, None] * (goal - start)[:, None]
    return model(y, torch.cat([start, goal], dim=-1)[:, None])


def mid_path_saddle(
    model: Callable[[Tensor, Tensor], Tensor], *, pairs: int = 256, seed: int = 7
) -> float:
    """Median over pairs of mean E over the middle tenth minus mean E over the two end tenths.

    In nats. The outermost fiftieth is left out: there the density itself ends.
    """
    ends = torch.linspace(0.02, 0.1, 5)
    shares = torch.cat([ends, torch.linspace(0.45, 0.55, 5), 1.0 - ends])
    energy = path_profile(model, shares, pairs=pairs, seed=seed)
    middle = energy[:, 5:10].mean(-1)
    outer = torch.cat([energy[:, :5], energy[:, 10:]], dim=-1).mean(-1)
    return float((middle - outer).median())
