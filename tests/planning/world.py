"""A world with a wall whose distances are known."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

STEP = np.array([0.2, 0.2], np.float32)
TWO = np.full(2, 2.0, np.float32)
SCALES = InputScales(np.zeros(4, np.float32), np.ones(4, np.float32), TWO, TWO, STEP)


class WallWorld:
    """Steps on the plane [0, 4]^2 with a wall at x = 2 that is open only above y = 3."""

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        gap = np.array([2.0, 3.0])
        straight = np.linalg.norm(goal - achieved_goal, axis=-1)
        around = np.linalg.norm(achieved_goal - gap, axis=-1) + np.linalg.norm(goal - gap, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (2.0 - achieved_goal[:, 0]) / (goal[:, 0] - achieved_goal[:, 0])
            height = achieved_goal[:, 1] + t * (goal[:, 1] - achieved_goal[:, 1])
        crosses = (achieved_goal[:, 0] < 2) != (goal[:, 0] < 2)
        steps = np.where(crosses & ~(height > 3), around, straight) / 0.2
        return np.clip(steps, 1.0, 30.0).astype(np.float32)


def make_pool(n: int = 1500) -> NodePool:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 4, (n, 2)).astype(np.float32)
    velocity = rng.normal(0, 0.1, (n, 2)).astype(np.float32)
    return NodePool(np.concatenate([points, velocity], 1), points)


def reached(achieved: FloatArray, goal: FloatArray) -> np.ndarray:
    return np.linalg.norm(achieved - goal, axis=-1) <= 0.3


RULES = EdgeRules(WallWorld(), GraphConfig(), STEP, reached)
START, GOAL = np.array([1.0, 0.5], np.float32), np.array([3.0, 0.5], np.float32)


def steps_between(a: FloatArray, b: FloatArray) -> FloatArray:
    return WallWorld().distance(a, a, b)


class LeftHalf:
    """Experience of a world of which only x < 2 is known; the frontier is at (1.8, 1.0)."""

    gates = ()
    expected_share = 0.0

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, np.ndarray]:
        return predicted, (source[:, 0] < 2) & (target[:, 0] < 2)

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        known = (source[:, None, 0] < 2) & (target[None, :, 0] < 2)
        return np.where(known, np.float32(0.0), np.float32(np.inf))

    def expected(self, source: FloatArray, target: FloatArray) -> FloatArray:
        return np.ones(len(source), np.float32)

    def fewest(self, source: FloatArray, target: FloatArray, predicted: FloatArray) -> FloatArray:
        return predicted

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        return bool(source[0] < 2 and target[0] < 2)

    spacing = 2.0 * STEP

    def __init__(self) -> None:
        self.doubted: list[tuple[FloatArray, FloatArray, float]] = []

    def doubt(self, point: FloatArray, target: FloatArray, nats: float) -> None:
        self.doubted.append((point, target, nats))

    def hops(self) -> tuple[FloatArray, csr_array]:
        points = np.array([[1.0, 0.5], [1.0, 3.5]], np.float32)
        return points, csr_array(([15.0], ([0], [1])), shape=(2, 2))

    def frontier(
        self, point: FloatArray, max_hop: float, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        points = np.array([[1.4, 0.8], [1.8, 1.0]], np.float32)
        return points, np.full(2, 4.0, np.float32)
