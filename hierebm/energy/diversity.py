"""Spreading points out: which of many candidates become the nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gather(y: Tensor, idx: Tensor) -> Tensor:
    """Rows idx (B, n) of y (B, M, d): (B, n, d). A y of (1, M, d) serves every row of idx."""
    if y.shape[0] == 1:
        return y[0][idx]
    return y.gather(1, idx[..., None].expand(*idx.shape, y.shape[-1]))


def farthest_point(
    points: Tensor,
    n: int,
    generator: torch.Generator | None = None,
    *,
    first: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Greedy farthest-point selection: each choice is farthest from all earlier ones.

    Gonzalez 1985 (a 2-approximation of the k-centre problem). Among candidates resampled by
    exp(-E) it trades fidelity to the density for even spacing: what the nodes of a graph need.

    Args:
        points: (B, M, d).
        n: how many, 1 to M.
        generator: draws the first point where ``first`` is None.
        first: (B, k, d) points that count as chosen already (start and goal), not returned.
        scale: (d,) units of the coordinates; None for one.

    Returns:
        idx (B, n) int64, all different, in the order of choice.

    Raises:
        ValueError: n out of range.
    """
    return _spread(points, n, generator, first, scale, greedy=True)


def kmeans_plus_plus(
    points: Tensor,
    n: int,
    generator: torch.Generator | None = None,
    *,
    first: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """k-means++ seeding (Arthur & Vassilvitskii 2007): next point with probability ~ distance^2.

    Between plain resampling and farthest-point: spread out, yet dense where the candidates are.
    Arguments and result as for ``farthest_point``.
    """
    return _spread(points, n, generator, first, scale, greedy=False)


def _spread(
    points: Tensor,
    n: int,
    generator: torch.Generator | None,
    first: Tensor | None,
    scale: Tensor | None,
    greedy: bool,
) -> Tensor:
    rows, m, _ = points.shape
    if not 1 <= n <= m:
        raise ValueError(f"cannot choose n={n} of {m} points")
    if scale is not None:
        points = points / scale
        first = None if first is None else first / scale
    device = points.device
    chosen = torch.empty((rows, n), dtype=torch.int64, device=device)
    if first is None:
        chosen[:, 0] = torch.randint(m, (rows,), generator=generator, device=device)
        nearest = (points - gather(points, chosen[:, :1])).square().sum(-1)
        nearest.scatter_(1, chosen[:, :1], -1.0)
    else:
        nearest = torch.cdist(points, first).square().min(dim=-1).values
    for i in range(1 if first is None else 0, n):
        if greedy:
            chosen[:, i] = nearest.argmax(dim=-1)
        else:
            # Where every remaining point coincides with a chosen one, any unchosen one will do.
            weight = nearest.clamp(min=0.0) + 1e-12 * (nearest >= 0)
            chosen[:, i] = torch.multinomial(weight, 1, generator=generator).squeeze(1)
        new = chosen[:, i : i + 1]
        nearest = torch.minimum(nearest, (points - gather(points, new)).square().sum(-1))
        # Chosen points are marked, so that duplicates never make an index appear twice.
        nearest.scatter_(1, new, -1.0)
    return chosen


SPREADERS: dict[str, Callable[..., Tensor]] = {
    "farthest": farthest_point,
    "kmeans++": kmeans_plus_plus,
}
