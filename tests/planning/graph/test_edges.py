"""Which pairs are joined, and what experience makes of predicted steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierebm.planning.graph.edges import NEIGHBOURS, GraphConfig, nearest_pairs
from tests.planning.world import (
    RULES,
    LeftHalf,
    WallWorld,
    reached,
)


def test_nearest_pairs_are_the_near_ones() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 4, (2, 40, 2)).astype(np.float32)
    i, j = nearest_pairs(a, b, neighbours=1000, radius=np.array([0.7, 0.3], np.float32))
    near = (np.abs(a[:, None] - b[None]) <= [0.7, 0.3]).all(-1)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == set(
        map(tuple, np.argwhere(near).tolist())
    )
    few, _ = nearest_pairs(a, b, neighbours=2, radius=np.array([9.0, 9.0], np.float32))
    assert (np.bincount(few) == 3).all()


def test_edges_are_as_predicted_until_experience_verifies_them() -> None:
    a, b = (np.random.default_rng(i).uniform(0, 4, (60, 2)).astype(np.float32) for i in (3, 4))
    observation = np.zeros((60, 4), np.float32)
    steps, verified = RULES.evaluate(observation, a, b)
    assert (steps == WallWorld().distance(observation, a, b)).all() and verified.all()
    _, verified = replace(RULES, verifier=LeftHalf()).evaluate(observation, a, b)
    assert (verified == ((a[:, 0] < 2) & (b[:, 0] < 2))).all()
    short = replace(RULES, config=GraphConfig(max_edge=2.0))
    assert short.candidate_radius.dtype == np.float32 and short.candidate_radius == pytest.approx(
        [0.6, 0.6]
    )
    near = np.stack([short.is_candidate(x, b) for x in a])
    assert (near == (np.abs(a[:, None] - b) <= 0.6).all(-1)).all() and near.any()
    # Fewer than the most that are considered for each node.
    assert near.sum(1).max() <= NEIGHBOURS
    i, j = short.candidate_pairs(a, b)
    there = np.stack([reached(np.tile(x, (60, 1)), b) for x in a])
    assert (near & there).any()
    assert set(zip(i, j, strict=True)) == set(zip(*(near & ~there).nonzero(), strict=True))
