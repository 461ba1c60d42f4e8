"""Near a goal, the critics choose among actions, where the policy was held to those of a data set.

The behaviour term draws the policy to the data's mean action at a place, whatever the goal; the
critics learn from every relabelled goal what each action was worth. Ranking sampled actions by the
critics is how BCQ acts (Fujimoto, Meger & Precup 2019, arXiv 1812.02900). Here it is for near goals
alone, of which the data says most; far from them, the policy stays on the data's ways.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hierebm.types import FloatArray, IntArray

# Actions that are compared with the policy's own.
CANDIDATES = 24
# Goals count as near up to this many predicted steps; and by so many an action has to be better.
NEAR, BETTER = 8.0, 0.2


@cache
def candidate_actions(action_dim: int) -> Tensor:
    """(CANDIDATES, action_dim) in [-1, 1]: always the same, so that acting is repeatable."""
    draws = np.random.default_rng(0).uniform(-1.0, 1.0, (CANDIDATES, action_dim))
    return torch.as_tensor(draws.astype(np.float32))


def choose_near_goals(
    action: FloatArray, steps: Callable[[IntArray, Tensor], Tensor]
) -> FloatArray:
    """The policy's actions, or better ones where the goal is near.

    Args:
        action: (B, action_dim) the policy's.
        steps: of rows (m,) of the batch and as many candidates (m, k, action_dim) for each, the
            predicted steps (m, k).

    Returns:
        (B, action_dim) actions.
    """
    own = steps(np.arange(len(action)), torch.as_tensor(action)[:, None])[:, 0].numpy()
    near = np.flatnonzero(own < NEAR)
    if not near.size:
        return action
    others = candidate_actions(action.shape[1])
    left = steps(near, others.expand(len(near), -1, -1)).numpy()
    best = left.argmin(1)
    better = own[near] - left[np.arange(len(near)), best] >= BETTER
    chosen = action.copy()
    chosen[near[better]] = others.numpy()[best[better]]
    return chosen
