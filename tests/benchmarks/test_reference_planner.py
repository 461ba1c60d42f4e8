"""The reference planner knows the world: it gets to the goal, and by the cheaper way."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import hierebm  # noqa: F401 - registers the environment
from benchmarks.reference_planner import ReferencePolicy


@pytest.mark.parametrize(
    ("layout", "slip", "start", "goal"),
    [
        (["......", "####.#", "......"], 0.0, (-1.2, -0.5), (-1.2, 0.5)),
        (["..>..", ".##v#", "..<.."], 0.3, (1.0, -0.4), (0.5, 0.5)),
        (["...A#..a", "....#..."], 0.0, (-1.5, -0.2), (0.5, -0.2)),
    ],
)
def test_it_gets_there(
    layout: list[str], slip: float, start: tuple[float, float], goal: tuple[float, float]
) -> None:
    env = gymnasium.make("PointMassGoal-v0", layout=layout, slip=slip, start=start, goal=goal)
    policy = ReferencePolicy(env.unwrapped.layout, slip)  # type: ignore[attr-defined]
    observation, _ = env.reset(seed=0)
    expected = policy.expected.at(policy.expected.to(goal), [start])[0]
    assert np.isfinite(expected)
    steps, ended = 0, False
    while not ended:
        observation, _, terminated, truncated, _ = env.step(policy.predict(observation))
        steps, ended = steps + 1, terminated or truncated
    assert terminated
    assert steps <= 1.5 * expected + 12
