"""Nodes of the graph: points with an observation that stands for them."""

from __future__ import annotations

import numpy as np

from tests.planning.world import (
    make_pool,
)


def test_a_node_repeats_the_point_and_averages_the_rest() -> None:
    nodes = make_pool().nodes_at(np.array([[1.0, 1.0], [2.5, 3.5]], np.float32))
    assert (nodes.observation[:, :2] == nodes.achieved_goal).all()
    assert (np.abs(nodes.observation[:, 2:]) < 0.1).all()
    assert np.isnan(nodes.energy).all()
