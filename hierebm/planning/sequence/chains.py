"""Operations on batches of state sequences ("chains") of different lengths.

A batch of chains is ``x`` (N, S, D) with ``length`` (N,) transitions each: states 0 .. length are
the sequence, the rest is padding that repeats the last state. The sampling among a finite set of
states is exact inference in a Markov chain (forward filtering, backward sampling: Scott 2002,
"Bayesian methods for hidden Markov models").
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


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


def bending(x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Acceleration penalty of chains (N, S, D): sum_t |x_t+1 - 2 x_t + x_t-1|^2 / 2.

    Returns:
        The penalty (N,) and its gradient (N, S, D).
    """
    gradient = torch.zeros_like(x)
    if x.shape[1] < 3:
        return x.new_zeros(len(x)), gradient
    bend = x[:, 2:] - 2.0 * x[:, 1:-1] + x[:, :-2]
    bend = bend * valid_transitions(length, x.shape[1])[:, 1:].unsqueeze(-1)
    gradient[:, 2:] += bend
    gradient[:, 1:-1] -= 2.0 * bend
    gradient[:, :-2] += bend
    return 0.5 * bend.square().sum((1, 2)), gradient


@lru_cache(maxsize=128)
def stiffness_inverses(size: int, bend: float) -> tuple[Tensor, Tensor]:
    """Covariances P of the inner states of random walks with both ends held, and their roots.

    P is the inverse of the Hessian of sum_t |s_t+1 - s_t|^2 / 2 + bend * sum_t |acceleration|^2 / 2
    in the inner states. Descending along P times the gradient moves the whole sequence at once
    where plain descent needs T^2 steps to carry a correction from one end to the other (the
    covariant gradient of CHOMP, Ratliff et al. 2009).

    Args:
        size: S, states that chains are padded to; at least 3.
        bend: weight of the accelerations.

    Returns:
        P and L with L L^T = P, each (size - 1, size - 2, size - 2): entry T - 1 is for chains of T
        transitions padded to ``size`` states, zero outside their inner states.
    """
    covariance, root = torch.zeros(2, size - 1, size - 2, size - 2).unbind(0)
    for n in range(1, size - 1):
        first = torch.eye(n + 2, dtype=torch.float64).diff(dim=0)
        second = first.diff(dim=0)
        hessian = (first.t() @ first + bend * second.t() @ second)[1:-1, 1:-1]
        inverse = torch.linalg.inv(hessian)
        covariance[n, :n, :n] = inverse
        root[n, :n, :n] = torch.linalg.cholesky(inverse)
    return covariance, root


def least_costs(direct: Tensor, first: Tensor, table: Tensor, last: Tensor, longest: int) -> Tensor:
    """Least cost of a sequence through given states, for every number of transitions at once.

    Args:
        direct: (B,) cost of going from start to goal in one transition.
        first: (B, M) cost from the start to each state.
        table: (M, M) cost from state to state.
        last: (B, M) cost from each state to the goal.
        longest: largest number of transitions T.

    Returns:
        (B, longest): column T - 1 is the least cost of exactly T transitions (Bellman's recursion,
        a min-plus product for each transition).
    """
    costs, to_go = [direct], last
    for n_transitions in range(2, longest + 1):
        costs.append((first + to_go).amin(1))
        if n_transitions < longest:
            # Row by row: (B, M, M) at once would not fit the cache.
            to_go = torch.stack([(table + row).amin(1) for row in to_go])
    return torch.stack(costs, 1)


def sample_sequences(
    first: Tensor,
    table: Tensor,
    last: Tensor,
    length: Tensor,
    n: int,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw sequences of states with p proportional to exp(-cost / temperature), exactly.

    Messages run from the goal to the start, states are drawn from the start to the goal.

    Args:
        first, table, last: as in :func:`least_costs`.
        length: (B,) number of transitions of each query's sequences.
        n: sequences per query.
        temperature: in the unit of the costs.
        generator: source of the draws; None takes torch's global one.

    Returns:
        (B, n, max(length) - 1) indices of the inner states; -1 in the padding, and wherever no
        sequence of that length exists.
    """
    batch, size = len(first), int(length.max())
    picked = torch.full((batch, n, max(size - 1, 0)), -1, dtype=torch.long, device=first.device)
    # Products of exponentials in double precision, rescaled at every step, span 700 nats.
    weight = (-table.double() / temperature).exp()
    message = -last.double() / temperature
    messages = [message]
    for _ in range(size - 2):
        top = message.amax(1, keepdim=True)
        top = torch.where(top.isfinite(), top, torch.zeros_like(top))
        message = ((message - top).exp() @ weight.t()).log() + top
        messages.append(message)
    to_goal = torch.stack(messages)
    step = -first.double().unsqueeze(1).expand(-1, n, -1) / temperature
    queries = torch.arange(batch, device=first.device)
    alive = torch.ones(batch, n, dtype=torch.bool, device=first.device)
    for t in range(size - 1):
        transitions_after = length - t - 1
        logits = step + to_goal[(transitions_after - 1).clamp(min=0), queries].unsqueeze(1)
        top = logits.amax(-1, keepdim=True)
        alive &= (transitions_after >= 1).unsqueeze(1) & (top.squeeze(-1) > -math.inf)
        p = torch.where(alive.unsqueeze(-1), (logits - top).exp(), torch.ones_like(logits))
        drawn = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(batch, n)
        picked[:, :, t] = torch.where(alive, drawn, picked[:, :, t])
        step = -table.double()[drawn] / temperature
    return picked
