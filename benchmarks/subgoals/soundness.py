"""How sound the edges of a trained low level are, against the true shortest paths."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from benchmarks.subgoals.measure import World
from hierebm import HierarchicalEBMAgent
from hierebm.planning.graph.diagnostics import EdgeSample, edges_between
from hierebm.planning.graph.nodes import NodePool

BANDS = ((1.0, 3.0), (3.0, 6.0), (6.0, 9.0), (9.0, 14.0), (14.0, 20.0))
"""Bands of predicted steps that errors are reported by."""


def soundness(
    agent: HierarchicalEBMAgent, world: World, draws: int = 8, n_nodes: int = 300
) -> list[dict[str, Any]]:
    """The pairs that graphs over stored states ask about.

    Returns:
        One row for all edges up to ``safe_edge`` and up to ``max_edge`` predicted steps, and one
        for each band of predictions: share of underestimated edges (see
        :mod:`hierebm.planning.graph.diagnostics`) by the predicted distances alone, share of
        verified edges, share of underestimated ones among those; median error and the 99th
        percentile of the true steps.
    """
    c, rng = agent.config, np.random.default_rng(0)
    rules, env = agent.high_level.context.edges, world.make()
    parts = [
        edges_between(
            rules,
            NodePool.draw(agent.replay_buffer, n_nodes, rng),
            rng,
            true_steps=env.shortest_path_steps,
            n_nodes=n_nodes,
        )
        for _ in range(draws)
    ]
    edges = EdgeSample(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(EdgeSample))
    )
    predicted, used = edges.predicted, edges.used
    assert edges.true is not None
    rows = []
    for low, high in [(0.0, c.safe_edge), (0.0, c.max_edge), *BANDS]:
        in_band = (predicted > low) & (predicted <= high)
        in_graph = (used > low) & (used <= high) & edges.verified
        n, error = in_band.sum(), (edges.true - predicted)[in_band]
        rows.append(
            {
                "edges": f"{low:g} to {high:g}",
                "n": int(n),
                "underestimated": _share(edges.underestimated(predicted)[in_band]),
                "verified": _share(edges.verified[in_band]),
                "underestimated_verified": _share(edges.underestimated(used)[in_graph]),
                "error_median": float(np.median(error)) if n else math.nan,
                "true_p99": float(np.quantile(edges.true[in_band], 0.99)) if n else math.nan,
            }
        )
    return rows


def _share(flags: np.ndarray) -> float:
    return float(np.mean(flags)) if len(flags) else math.nan
