"""Chains that relax: annealed Langevin dynamics on whole sequences, and what they cost.

Chains are in units here: divided by the rms length of a transition along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hierebm.planning.sequence.chains import bending, stiffness_inverses, valid_transitions
from hierebm.planning.sequence.transition_model import TransitionModel

# Step of the Langevin dynamics, relative to a Newton step of a random walk's energy.
STEP_SIZE = 0.3
# Nats; temperature at the start of a level. It falls linearly to 0 over ANNEALED_SHARE of the
# steps; the rest only descends.
TEMPERATURE, ANNEALED_SHARE = 0.3, 0.75
# Units; the farthest that the gradient moves a state in one step: a wall's gradient is steep.
MAX_MOVE = 0.5
# Weight of |s_t+1 - 2 s_t + s_t-1|^2 / 2 in units, the paper's penalty. Without it plans on
# four_rooms are 6% longer than the shortest path instead of 1.5%.
ACCELERATION_WEIGHT = 1.0


def bend_weight(level: int) -> float:
    """Weight of the accelerations: twice as many states are half as far apart, a quarter of the
    energy and of its noise."""
    return ACCELERATION_WEIGHT * 4.0**level


def chain_costs(
    model: TransitionModel, x: Tensor, length: Tensor, level: int, state_cost: float
) -> Tensor:
    """What chains (N, S, D) of ``length`` (N,) transitions are compared by, nats (N,).

    Args:
        level: how fine they are.
        state_cost: nats of each state.
    """
    valid, dim = valid_transitions(length, x.shape[1]), x.shape[2]
    pairs = torch.cat([x[:, :-1], x[:, 1:]], 2).view(-1, 2 * dim)[valid.view(-1)]
    costs = torch.zeros(valid.shape)
    costs[valid] = torch.from_numpy(model.costs_in_units(pairs.numpy()))
    return costs.sum(1) + state_cost * length + bend_weight(level) * bending(x, length)


def relax(
    model: TransitionModel,
    x: Tensor,
    length: Tensor,
    level: int,
    steps: int,
    generator: torch.Generator,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Annealed Langevin dynamics of the inner states of all chains (N, S, D).

    ds = -h P grad + sqrt(2 h temperature P) noise: the paper's Langevin dynamics, preconditioned by
    a constant matrix (Roberts & Stramer 2002). P is the covariance of a random walk with both ends
    held (:func:`~hierebm.planning.sequence.chains.stiffness_inverse`).

    Args:
        length: (N,) transitions of each chain; the states beyond are padding.
        level: how fine they are.
        steps: of the dynamics.
        generator: source of the noise.
        watch: told of the chains before every step.
    """
    n, size, dim = x.shape
    if size < 3 or not steps:
        return x
    parts = stiffness_inverses(length, size, bend_weight(level))
    covariance, root, bends = (part.numpy() for part in parts)
    temperatures = [
        TEMPERATURE / 4.0**level * max(0.0, 1.0 - (step + 1) / (ANNEALED_SHARE * steps))
        for step in range(steps)
    ]
    warm = sum(temperature > 0 for temperature in temperatures)
    noise = root @ torch.randn(warm, n, size - 2, dim, generator=generator).numpy()
    valid = valid_transitions(length, size).numpy()
    # NumPy's operations on the same memory: on small arrays they cost a third of torch's.
    x = x.clone()
    states, used = x.numpy(), None if valid.all() else np.flatnonzero(valid)
    pairs = np.empty((n, size - 1, 2 * dim), states.dtype)
    gradient = np.zeros_like(pairs)
    for step, temperature in enumerate(temperatures):
        if watch is not None:
            watch(x)
        pairs[..., :dim], pairs[..., dim:] = states[:, :-1], states[:, 1:]
        rows = pairs.reshape(-1, 2 * dim)
        if used is None:
            gradient = model.cost_and_grad(rows)[1].reshape(pairs.shape)
        else:
            # P takes nothing from the padding.
            gradient.reshape(-1, 2 * dim)[used] = model.cost_and_grad(rows[used])[1]
        inner = gradient[:, :-1, dim:] + gradient[:, 1:, :dim]
        move = -STEP_SIZE * (bends @ states + covariance @ inner)
        farthest = np.sqrt(np.einsum("nsd,nsd->ns", move, move).max(1)).clip(MAX_MOVE)
        move *= (MAX_MOVE / farthest)[:, None, None]
        if temperature > 0:
            move += np.float32(math.sqrt(2.0 * STEP_SIZE * temperature)) * noise[step]
        states[:, 1:-1] += move
    return x
