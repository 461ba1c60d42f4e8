"""How far the low level's distances can be trusted, on the pairs that graphs ask about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.graph import DistanceModel, EdgeCheck, GraphConfig, candidate_pairs
from hierebm.planning.places import PlacePool
from hierebm.replay.episodes import FloatArray

# An edge that truly takes more than twice the predicted steps, and this many more, is a wormhole.
SLACK = 6.0

StepsFn = Callable[[FloatArray, FloatArray], NDArray[np.floating]]
"""(n, goal_dim), (n, goal_dim) -> (n,) true steps along the shortest path."""


def edge_calibration(
    model: DistanceModel,
    pool: PlacePool,
    config: GraphConfig,
    step_scale: FloatArray,
    rng: np.random.Generator,
    *,
    experience: EdgeCheck | None = None,
    true_steps: StepsFn | None = None,
    n_nodes: int = 200,
) -> dict[str, float]:
    """Metrics of the edges between random stored states; nothing is learnt from them.

    Args:
        model, pool, config, step_scale, experience: as a graph is made of.
        rng: source of the states.
        true_steps: the world's own answer, where it has one.
        n_nodes: how many states.

    Returns:
        ``graph/supported_rate``: share of the critics' edges (up to ``max_edge``) that experience
        bears out. With ``true_steps`` also ``graph/wormhole_rate`` and, among supported edges,
        ``graph/wormhole_rate_supported``; and the median of predicted minus true steps by band of
        prediction: ``graph/error_to_SAFE`` up to ``safe_edge``, ``graph/error_to_MAX`` beyond.
        Metrics without a single edge to speak of are left out.
    """
    rows = rng.choice(len(pool), size=min(n_nodes, len(pool)), replace=False)
    places = pool.places_at(pool.achieved_goal[rows])
    points = places.achieved_goal
    i, j = candidate_pairs(points, points, config.neighbours, 1.5 * config.max_edge * step_scale)
    i, j = i[i != j], j[i != j]
    predicted = model.distance(places.observation[i], points[i], points[j])
    used, supported = predicted, np.ones(len(i), np.bool_)
    if experience is not None:
        used, supported = experience.judge(points[i], points[j], predicted)
    believed, trusted = predicted <= config.max_edge, supported & (used <= config.max_edge)
    shares = {"graph/supported_rate": (supported, believed)}
    errors: dict[str, tuple[NDArray[np.floating], NDArray[np.bool_]]] = {}
    if true_steps is not None:
        true = np.asarray(true_steps(points[i], points[j]))
        shares["graph/wormhole_rate"] = (true > 2.0 * predicted + SLACK, believed)
        shares["graph/wormhole_rate_supported"] = (true > 2.0 * used + SLACK, trusted)
        near = predicted <= config.safe_edge
        errors[f"graph/error_to_{config.safe_edge:g}"] = (predicted - true, near)
        errors[f"graph/error_to_{config.max_edge:g}"] = (predicted - true, believed & ~near)
    metrics = {key: float(flags[of].mean()) for key, (flags, of) in shares.items() if of.any()}
    medians = {key: float(np.median(e[of])) for key, (e, of) in errors.items() if of.any()}
    return metrics | medians
