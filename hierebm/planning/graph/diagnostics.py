"""How far the low level's distances can be trusted, on the pairs that graphs ask about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.types import FloatArray, StepsFn

# An edge that truly takes more than twice the predicted steps, and this many more, is a wormhole.
SLACK = 6.0


@dataclass(frozen=True)
class EdgeSample:
    """Pairs that a graph asks about, each array (n,)."""

    predicted: FloatArray
    """Steps by the critics' word alone."""
    used: FloatArray
    """Steps that a graph counts with."""
    verified: NDArray[np.bool_]
    """Whether experience bears them out."""
    true: NDArray[np.floating] | None
    """Steps by the world's own word, where it has one."""

    def underestimated(self, steps: FloatArray) -> NDArray[np.bool_]:
        """(n,) whether the truth makes a mockery of ``steps`` (n,)."""
        assert self.true is not None
        return np.asarray(self.true > 2.0 * steps + SLACK)


def edges_between(
    edges: EdgeRules,
    pool: NodePool,
    rng: np.random.Generator,
    *,
    true_steps: StepsFn | None = None,
    n_nodes: int = 200,
) -> EdgeSample:
    """Edges among random stored states, as a graph over them would consider.

    Args:
        edges: the graph's.
        pool: stored states.
        rng: source of the draw.
        true_steps: the world's own answer, where it has one.
        n_nodes: how many states.
    """
    nodes = pool.random_nodes(n_nodes, rng)
    points = nodes.achieved_goal
    i, j = edges.open_pairs(points, points)
    predicted = edges.model.distance(nodes.observation[i], points[i], points[j])
    used, verified = edges.check(points[i], points[j], predicted)
    true = None if true_steps is None else np.asarray(true_steps(points[i], points[j]))
    return EdgeSample(predicted, used, verified, true)


def edge_calibration(edges: EdgeSample, config: GraphConfig) -> dict[str, float]:
    """Metrics of edges; nothing is learnt from them.

    Returns:
        ``graph/verified_rate``: share of the critics' edges (up to ``max_edge``) that experience
        bears out. Where the truth is known also ``graph/underestimated_rate`` and, among verified
        edges, ``graph/underestimated_rate_verified``; and the median of predicted minus true by band
        of prediction: ``graph/error_to_SAFE`` up to ``safe_edge``, ``graph/error_to_MAX`` beyond.
        Metrics without a single edge to speak of are left out.
    """
    believed = edges.predicted <= config.max_edge
    trusted = edges.verified & (edges.used <= config.max_edge)
    shares = {"graph/verified_rate": (edges.verified, believed)}
    errors: dict[str, tuple[NDArray[np.floating], NDArray[np.bool_]]] = {}
    if edges.true is not None:
        shares["graph/underestimated_rate"] = (edges.underestimated(edges.predicted), believed)
        shares["graph/underestimated_rate_verified"] = (edges.underestimated(edges.used), trusted)
        near, error = edges.predicted <= config.safe_edge, edges.predicted - edges.true
        errors[f"graph/error_to_{config.safe_edge:g}"] = (error, near)
        errors[f"graph/error_to_{config.max_edge:g}"] = (error, believed & ~near)
    metrics = {key: float(flags[of].mean()) for key, (flags, of) in shares.items() if of.any()}
    medians = {key: float(np.median(e[of])) for key, (e, of) in errors.items() if of.any()}
    return metrics | medians
