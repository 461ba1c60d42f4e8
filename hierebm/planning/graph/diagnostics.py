"""How far the low level's distances can be trusted, on the pairs that graphs ask about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.types import BoolArray, FloatArray, StepsFn

# An edge is underestimated if it truly takes more than twice the predicted steps and this many
# more: a shortcut that is none, a "wormhole".
SLACK = 6.0


@dataclass(frozen=True)
class EdgeSample:
    """Pairs that a graph asks about, each array (n,)."""

    predicted: FloatArray
    """Steps as the low level predicts them."""
    used: FloatArray
    """Steps that a graph counts with."""
    verified: BoolArray
    """Whether experience verifies them."""
    true: NDArray[np.floating] | None
    """True steps, where the environment tells them."""

    def underestimated(self, steps: FloatArray) -> BoolArray:
        """(n,) whether the truth is far more than ``steps`` (n,)."""
        assert self.true is not None
        return np.asarray(self.true > 2.0 * steps + SLACK)


def edges_between(
    edges: EdgeRules,
    pool: NodePool,
    rng: np.random.Generator,
    *,
    true_steps: StepsFn | None = None,
    action_repeat: int = 1,
    n_nodes: int = 200,
) -> EdgeSample:
    """Edges among random stored states, as a graph over them would consider.

    Args:
        edges: the graph's.
        pool: stored states.
        rng: source of the draw.
        true_steps: the environment's own answer, where it has one.
        action_repeat: environment steps in a step of the agent.
        n_nodes: how many states.
    """
    nodes = pool.random_nodes(n_nodes, rng)
    points = nodes.achieved_goal
    i, j = edges.candidate_pairs(points, points)
    predicted = edges.predict(nodes.observation[i], points[i], points[j])
    used, verified = edges.verify(points[i], points[j], predicted)
    true = (
        None if true_steps is None else np.asarray(true_steps(points[i], points[j])) / action_repeat
    )
    return EdgeSample(predicted, used, verified, true)


def edge_calibration(edges: EdgeSample, config: GraphConfig) -> dict[str, float]:
    """Metrics of edges; nothing is learned from them.

    Returns:
        ``graph/verified_rate``: share of the edges predicted up to ``max_edge`` that experience
        verifies. Where the truth is known also ``graph/underestimated_rate``, the same among
        verified edges as ``graph/underestimated_rate_verified``, and the median of predicted minus
        true steps by band of prediction: ``graph/error_to_SAFE`` up to ``safe_edge``,
        ``graph/error_to_MAX`` beyond.
        Metrics without a single edge are left out.
    """
    believed = edges.predicted <= config.max_edge
    trusted = edges.verified & (edges.used <= config.max_edge)
    shares = {"graph/verified_rate": (edges.verified, believed)}
    errors: dict[str, tuple[NDArray[np.floating], BoolArray]] = {}
    if edges.true is not None:
        shares["graph/underestimated_rate"] = (edges.underestimated(edges.predicted), believed)
        shares["graph/underestimated_rate_verified"] = (edges.underestimated(edges.used), trusted)
        near, error = edges.predicted <= config.safe_edge, edges.predicted - edges.true
        errors[f"graph/error_to_{config.safe_edge:g}"] = (error, near)
        errors[f"graph/error_to_{config.max_edge:g}"] = (error, believed & ~near)
    metrics = {key: float(flags[of].mean()) for key, (flags, of) in shares.items() if of.any()}
    medians = {key: float(np.median(e[of])) for key, (e, of) in errors.items() if of.any()}
    return metrics | medians
