"""Agents that are small enough for tests, with every part in use."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch

from hierebm import DDPGHERAgent, HierarchicalEBMAgent

SMALL: dict[str, Any] = {
    "hidden_sizes": (32, 32),
    "n_critics": 2,
    "batch_size": 32,
    "learning_starts": 120,
    "max_distance": 15,
    "fourier_features": 8,
    "buffer_size": 5000,
    "train_freq": 4,
}
SMALL_PLANNING: dict[str, Any] = {
    **SMALL,
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 120,
    "energy_gradient_steps": 3,
    "pool_size": 200,
    "n_subgoals": 8,
    "sequence": {"chains": 4, "langevin_steps": 3, "lattice_states": 32},
}
KINDS = {
    "flat": (DDPGHERAgent, SMALL),
    "graph": (HierarchicalEBMAgent, SMALL_PLANNING),
    "replay": (HierarchicalEBMAgent, {**SMALL_PLANNING, "subgoal_sampler": "replay"}),
    "sequence": (HierarchicalEBMAgent, {**SMALL_PLANNING, "planner": "sequence"}),
}


def make(kind: str, **kwargs: Any) -> Any:
    """An agent of one of the kinds, with seed 0."""
    agent_class, settings = KINDS[kind]
    return agent_class(**{"seed": 0, **settings, **kwargs})


@cache
def _trained(kind: str) -> Any:
    return make(kind).learn("PointMassGoal-v0", 300)


def trained(kind: str) -> Any:
    """A copy of an agent that learned once, for 300 steps."""
    return copy.deepcopy(_trained(kind))


def tensors(value: Any) -> list[torch.Tensor]:
    """All numbers in nested dicts and lists."""
    if isinstance(value, dict):
        return [t for key in value for t in tensors(value[key])]
    if isinstance(value, (list, tuple)):
        return [t for entry in value for t in tensors(entry)]
    return [torch.as_tensor(value)] if isinstance(value, (torch.Tensor, float, int)) else []


def same(a: Any, b: Any) -> bool:
    """Whether two agents are equal, bit for bit."""
    ours, theirs = tensors(a._tensors()), tensors(b._tensors())
    return len(ours) == len(theirs) > 10 and all(
        torch.equal(x, y) for x, y in zip(ours, theirs, strict=True)
    )
