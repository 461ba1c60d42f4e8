"""Operations on batches of state sequences ("chains") of different lengths.

A batch of chains is ``x`` (N, S, D) with ``length`` (N,) transitions each: states 0 .. length are
the sequence, the rest is padding that repeats the last state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hierebm.types import FloatArray


@dataclass
class SequencePlan:
    """Planned sequences for B queries; plans shorter than the longest are padded with the goal.

    Attributes:
        states: (B, T, D), first the start, last the goal; world units.
        energies: (B, T - 1) energy of each transition, 0 in the padding.
        total_energy: (B,) their sum.
        n_states: (B,) number of states of each plan without padding.
    """

    states: Tensor
    energies: Tensor
    total_energy: Tensor
    n_states: Tensor


def valid_transitions(length: Tensor, size: int) -> Tensor:
    """(N, size - 1) bool: which transitions of chains padded to ``size`` states are real."""
    return torch.arange(size - 1, device=length.device) < length.unsqueeze(1)


def resample(x: Tensor, length: Tensor, new_length: Tensor, size: int | None = None) -> Tensor:
    """Chains with another number of transitions, linearly interpolated in time.

    Args:
        x: (N, S, D) chains.
        length, new_length: (N,) transitions, now and afterwards; at least 1.
        size: states that the result is padded to; by default those of the longest chain.

    Returns:
        (N, size, D); both ends of each chain are kept bit for bit.
    """
    size = int(new_length.max()) + 1 if size is None else size
    step = torch.arange(size, device=x.device) / new_length.unsqueeze(1)
    at = (step * length.unsqueeze(1)).minimum(length.unsqueeze(1).to(step))
    low = at.floor().long().minimum(length.unsqueeze(1) - 1)
    rows = torch.arange(len(x), device=x.device).unsqueeze(1)
    fraction = (at - low).unsqueeze(-1)
    # Not lerp: at fraction 1 the goal has to come out bit for bit.
    return (1.0 - fraction) * x[rows, low] + fraction * x[rows, low + 1]


def along(way: Tensor, length: Tensor, size: int) -> Tensor:
    """States at equal distances along the straight pieces of a way.

    Args:
        way: (B, T', D).
        length: (B,) transitions, at least 1.
        size: states that the result is padded to.

    Returns:
        (B, size, D); both ends of each way are kept bit for bit.
    """
    pieces = way.diff(dim=1).norm(dim=-1)
    # A repeated point must not stop the search.
    travelled = torch.cat([pieces.new_zeros(len(way), 1), (pieces + 1e-9).cumsum(1)], 1)
    share = (torch.arange(size) / length.unsqueeze(1)).clamp(max=1.0)
    wanted = share * travelled[:, -1:]
    after = torch.searchsorted(travelled, wanted).clamp(1, way.shape[1] - 1)
    rows = torch.arange(len(way)).unsqueeze(1)
    low, high = travelled[rows, after - 1], travelled[rows, after]
    part = ((wanted - low) / (high - low)).clamp(0.0, 1.0).unsqueeze(-1)
    x = (1.0 - part) * way[rows, after - 1] + part * way[rows, after]
    x[:, 0] = way[:, 0]
    return torch.where((share >= 1.0).unsqueeze(-1), way[:, -1:], x)


def evenly(states: FloatArray, unit: FloatArray, n: int) -> FloatArray:
    """A way (T, D) with about n transitions of about the same length: each piece is divided, and
    all its corners are kept. Lengths are in units (D,)."""
    lengths = np.linalg.norm(np.diff(states, axis=0) / unit, axis=1)
    parts = np.maximum(1, np.rint(n * lengths / max(lengths.sum(), 1e-9))).astype(np.int64)
    piece = np.repeat(np.arange(len(parts)), parts)
    share = (np.arange(len(piece)) - (parts.cumsum() - parts)[piece]).astype(np.float32)
    inner = states[piece] + np.diff(states, axis=0)[piece] * (share / parts[piece])[:, None]
    return np.concatenate([inner.astype(states.dtype), states[-1:]])


def bending(x: Tensor, length: Tensor) -> Tensor:
    """(N,) acceleration penalty of chains (N, S, D): sum_t |x_t+1 - 2 x_t + x_t-1|^2 / 2."""
    if x.shape[1] < 3:
        return x.new_zeros(len(x))
    bend = x.diff(n=2, dim=1).square().sum(2)
    # Where the padding begins there is a bend, too.
    return 0.5 * (bend * valid_transitions(length, x.shape[1])[:, 1:]).sum(1)


@lru_cache(maxsize=512)
def stiffness_inverse(n: int, bend: float) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance P of the n inner states of a random walk with both ends held, its root, and what
    it makes of the bending.

    P is the inverse of the Hessian of sum_t |s_t+1 - s_t|^2 / 2 + bend * sum_t |acceleration|^2 / 2
    in the inner states. Descending along P times the gradient moves the whole sequence at once
    where plain descent needs T^2 steps to carry a correction from one end to the other (the
    covariant gradient of CHOMP, Ratliff et al. 2009).

    Args:
        n: inner states, at least 1.
        bend: weight of the accelerations.

    Returns:
        P and L with L L^T = P, (n, n) each, and (n, n + 2) that makes P times the gradient of the
        bending out of all states.
    """
    first = torch.eye(n + 2, dtype=torch.float64).diff(dim=0)
    second = first.diff(dim=0)
    bending = bend * second.t() @ second
    inverse = torch.linalg.inv((first.t() @ first + bending)[1:-1, 1:-1])
    root = torch.linalg.cholesky(inverse)
    return inverse.float(), root.float(), (inverse @ bending[1:-1]).float()


def stiffness_inverses(length: Tensor, size: int, bend: float) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`stiffness_inverse` of chains of ``length`` (N,) transitions padded to ``size`` states.

    Returns:
        P and L, (N, size - 2, size - 2) each, and (N, size - 2, size), zero outside the chains.
    """
    lengths, which = length.unique(return_inverse=True)
    k, inner = len(lengths), size - 2
    covariance, root = torch.zeros(2, k, inner, inner).unbind(0)
    bending = torch.zeros(k, inner, size)
    for i, n in enumerate((lengths - 1).tolist()):
        if n > 0:
            parts = stiffness_inverse(n, bend)
            covariance[i, :n, :n], root[i, :n, :n], bending[i, :n, : n + 2] = parts
    if k == 1:
        return covariance, root, bending
    return covariance[which], root[which], bending[which]
