"""How far the low level's distances can be trusted, on the pairs that graphs ask about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.edges import EdgeRules, GraphConfig
from hierebm.planning.places import PlacePool
from hierebm.replay.episodes import FloatArray

# An edge that truly takes more than twice the predicted steps, and this many more, is a wormhole.
SLACK = 6.0

StepsFn = Callable[[FloatArray, FloatArray], NDArray[np.floating]]
"""(n, goal_dim), (n, goal_dim) -> (n,) true steps along the shortest path."""


@dataclass(frozen=True)
class Edges:
    """Pairs that a graph asks about, each array (n,)."""

    predicted: FloatArray
    """Steps by the critics' word alone."""
    used: FloatArray
    """Steps that a graph counts with."""
    supported: NDArray[np.bool_]
    """Whether experience bears them out."""
    true: NDArray[np.floating] | None
    """Steps by the world's own word, where it has one."""

    def wormholes(self, steps: FloatArray) -> NDArray[np.bool_]:
        """(n,) whether the truth makes a mockery of ``steps`` (n,)."""
        assert self.true is not None
        return np.asarray(self.true > 2.0 * steps + SLACK)


def edges_between(
    edges: EdgeRules,
    pool: PlacePool,
    rng: np.random.Generator,
    *,
    true_steps: StepsFn | None = None,
    n_nodes: int = 200,
) -> Edges:
    """Edges among random stored states, as a graph over them would consider.

    Args:
        edges: the graph's.
        pool: stored states.
        rng: source of the draw.
        true_steps: the world's own answer, where it has one.
        n_nodes: how many states.
    """
    places = pool.random_places(n_nodes, rng)
    points = places.achieved_goal
    i, j = edges.open_pairs(points, points)
    predicted = edges.model.distance(places.observation[i], points[i], points[j])
    used, supported = edges.check(points[i], points[j], predicted)
    true = None if true_steps is None else np.asarray(true_steps(points[i], points[j]))
    return Edges(predicted, used, supported, true)


def edge_calibration(edges: Edges, config: GraphConfig) -> dict[str, float]:
    """Metrics of edges; nothing is learnt from them.

    Returns:
        ``graph/supported_rate``: share of the critics' edges (up to ``max_edge``) that experience
        bears out. Where the truth is known also ``graph/wormhole_rate`` and, among supported edges,
        ``graph/wormhole_rate_supported``; and the median of predicted minus true steps by band of
        prediction: ``graph/error_to_SAFE`` up to ``safe_edge``, ``graph/error_to_MAX`` beyond.
        Metrics without a single edge to speak of are left out.
    """
    believed = edges.predicted <= config.max_edge
    trusted = edges.supported & (edges.used <= config.max_edge)
    shares = {"graph/supported_rate": (edges.supported, believed)}
    errors: dict[str, tuple[NDArray[np.floating], NDArray[np.bool_]]] = {}
    if edges.true is not None:
        shares["graph/wormhole_rate"] = (edges.wormholes(edges.predicted), believed)
        shares["graph/wormhole_rate_supported"] = (edges.wormholes(edges.used), trusted)
        near, error = edges.predicted <= config.safe_edge, edges.predicted - edges.true
        errors[f"graph/error_to_{config.safe_edge:g}"] = (error, near)
        errors[f"graph/error_to_{config.max_edge:g}"] = (error, believed & ~near)
    metrics = {key: float(flags[of].mean()) for key, (flags, of) in shares.items() if of.any()}
    medians = {key: float(np.median(e[of])) for key, (e, of) in errors.items() if of.any()}
    return metrics | medians
