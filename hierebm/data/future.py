"""Goals that the steps of a data set may be said to have chased."""

from __future__ import annotations

import numpy as np

from hierebm.data.checks import chunks
from hierebm.data.dataset import OfflineDataset
from hierebm.types import FloatArray


def future_goals(dataset: OfflineDataset, rng: np.random.Generator) -> FloatArray:
    """For each row the achieved goal of a later state of its episode, drawn uniformly.

    A data set does not say what was chased. What the episode came to later is a goal that its
    actions led to, and far ones are drawn as often as near ones.

    Args:
        dataset: N rows.
        rng: source of the draws, one for each row.

    Returns:
        (N, goal_dim) float32; the last state of an episode has its own achieved goal.
    """
    goals = np.empty(dataset.achieved_goal.shape, np.float32)
    ends = np.flatnonzero(dataset.episode_end)
    for part in chunks(len(goals), 1):
        rows = np.arange(part.start, part.stop)
        left = ends[np.searchsorted(ends, rows)] - rows
        ahead = np.minimum(1 + (rng.random(len(rows)) * left).astype(np.int64), left)
        goals[part] = dataset.achieved_goal[rows + ahead]
    return goals
