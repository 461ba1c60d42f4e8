"""The benchmark of worlds where luck decides: its worlds, its measure, its rows and its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import luck as benchmark
from benchmarks import tables
from benchmarks.luck_worlds import WORLDS, Gusts, World
from hierebm.envs import Layout
from hierebm.envs.expected_steps import ExpectedSteps
from hierebm.planning.graph import edge_cutoff, gates

STRIP = ("............",)


def _steps_along(world: World, start: tuple[float, float], goal: tuple[float, float]) -> float:
    expected = world.reference().expected
    return float(expected.at(expected.to(goal), [start])[0])


def test_expected_steps_know_of_wind_and_mud() -> None:
    left, right = (-2.5, 0.0), (2.5, 0.0)
    still = World("", STRIP, 0)
    ground = ("".join("~" for _ in STRIP[0]),)
    windy = World("", ground, 0, strikes=0.5, push=(-0.2, 0.0))
    mud = World("", ground, 0, strikes=0.5)
    there, back = (_steps_along(windy, *way) for way in ((left, right), (right, left)))
    calm = _steps_along(still, left, right)
    # Half a full step of wind for each step: half the speed against it, half as much more with it.
    assert there == pytest.approx(2.0 * calm, rel=0.1) and back == pytest.approx(
        calm / 1.5, rel=0.1
    )
    assert _steps_along(mud, left, right) == pytest.approx(3.0 * calm, rel=0.1)


@pytest.mark.parametrize("world", [w for w in WORLDS if w.strikes], ids=lambda w: w.name)
def test_what_strikes_is_what_the_reference_expects(world: World) -> None:
    env = world.make()
    point: Any = env.unwrapped
    policy = world.reference()
    moved, expected = [], []
    for seed in range(150):
        env.reset(seed=seed, options={"start": (0.0, 0.0), "goal": (3.0, 3.0)})
        position, velocity = point._position.copy(), point._velocity.copy()
        for _ in range(6):
            action = np.array([1.0, 0.3], np.float32)
            position, velocity = policy._advance(position, velocity, action[None])
            env.step(action)
        moved.append(point._position[0])
        expected.append(position[0])
    np.testing.assert_allclose(np.mean(moved, 0), np.mean(expected, 0), atol=0.08)


def test_a_gust_stops_at_walls() -> None:
    layout = Layout(["~~#~~"])
    pushed = Gusts(layout, 1.0, (0.2, 0.0)).pushed(np.array([[-0.3, 0.0]], np.float32))
    assert -0.3 < pushed[0, 0] < -0.25


def test_tasks_are_the_same_whatever_luck_brings() -> None:
    seen: list[list[tuple[float, ...]]] = []

    class Walker:
        def __init__(self, sign: float) -> None:
            self.action = np.full(2, sign, np.float32)
            seen.append([])

        def predict(self, observation: Any, state: Any) -> tuple[Any, Any]:
            if state is None:
                seen[-1].append((*observation["achieved_goal"], *observation["desired_goal"]))
            return self.action, 0

    world = World("", STRIP, 0, slip=0.5)
    first, second = (benchmark.measured(Walker(sign), world, 4) for sign in (1.0, -1.0))
    assert seen[0] == seen[1] and len(set(seen[0])) == 4
    assert first["curve"] != second["curve"]
    failed = [steps for steps in first["curve"] if steps < 0]
    assert failed and first["success"] == 1.0 - len(failed) / 4
    assert first["steps"] == pytest.approx(np.abs(first["curve"]).mean(), abs=0.05)


def test_ratios_count_failures_and_leave_them_out() -> None:
    def row(method: str, curve: list[int], **more: Any) -> dict[str, Any]:
        return {"world": "w", "method": method, "curve": curve, **more}

    rows = [row(benchmark.REFERENCE, [10, 10, -100]), row("ours", [12, -100, 50], seed=0)]
    reference, ours = benchmark.compared(rows)
    assert reference == rows[0]
    assert ours["reference_steps"] == 40.0
    assert ours["ratio"] == pytest.approx(162 / 120, abs=1e-3) and ours["ratio_solved"] == 1.2
    low, high = ours["ratio_ci95"]
    assert low < ours["ratio"] < high


def test_the_deterministic_planner_is_put_back() -> None:
    before = gates.JUMP, edge_cutoff.NOTICED
    with pytest.raises(RuntimeError), benchmark.deterministic():
        far = np.full((1, 2), 50.0, np.float32)
        assert not gates.far_steps(far, np.ones(1, np.float32))[0]
        raise RuntimeError
    assert before == (gates.JUMP, edge_cutoff.NOTICED)


def test_worlds_make_sense_and_have_a_table() -> None:
    for world in WORLDS:
        env: Any = world.make(tasks=True).unwrapped
        assert env.luck.acts or env.layout.tiles.has_doors or not world.lucky
        observation, _ = env.reset(seed=0)
        expected = world.reference().expected
        assert isinstance(expected, ExpectedSteps)
        steps = expected.at(
            expected.to(observation["desired_goal"]), [observation["achieved_goal"]]
        )
        assert np.isfinite(steps).all(), world.name
    row = {
        "world": "ice", "method": "hierarchical", "seed": 0, "lucky": True, "env_steps": 8000,
        "success": 1.0, "ci95": [0.9, 1.0], "steps": 44.0, "reference_steps": 40.0, "ratio": 1.1,
        "ratio_ci95": [1.0, 1.2], "ratio_solved": 1.1,
    }  # fmt: skip
    _, text = tables.luck([row, {"world": "ice", "method": "reference"}])
    assert (
        "| ice | default | 8,000 | 1.00 | 0.90 to 1.00 | 44.0 | 40 | 1.10 | 1.00 to 1.20 |" in text
    )
