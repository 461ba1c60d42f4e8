"""Diagnostics find underestimated edges and what experience makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hierebm.planning.graph.diagnostics import edge_calibration, edges_between
from hierebm.types import FloatArray
from tests.planning.world import (
    RULES,
    LeftHalf,
    WallWorld,
    make_pool,
)


def test_calibration_finds_underestimated_edges_and_what_experience_makes_of_them() -> None:
    class Straight(WallWorld):
        """Predicts that walls can be crossed."""

        def distance(self, observation, achieved_goal, goal, reduce="max"):  # type: ignore
            steps = np.linalg.norm(goal - achieved_goal, axis=-1) / 0.2
            return np.clip(steps, 1.0, 30.0).astype(np.float32)

    def true_steps(a: FloatArray, b: FloatArray) -> np.ndarray:
        return WallWorld().distance(a, a, b)

    def measure(model: WallWorld, verifier: LeftHalf | None) -> dict[str, float]:
        rules = replace(RULES, model=model, verifier=verifier)
        edges = edges_between(rules, make_pool(), np.random.default_rng(0), true_steps=true_steps)
        return edge_calibration(edges, rules.config)

    honest, fooled = measure(WallWorld(), None), measure(Straight(), None)
    assert honest["graph/underestimated_rate"] == 0.0 and honest["graph/verified_rate"] == 1.0
    assert abs(honest["graph/error_to_8"]) < 0.01
    assert fooled["graph/underestimated_rate"] > 0.01
    checked = measure(Straight(), LeftHalf())
    assert checked["graph/underestimated_rate"] == fooled["graph/underestimated_rate"]
    assert checked["graph/underestimated_rate_verified"] == 0.0
    assert 0.3 < checked["graph/verified_rate"] < 0.7
