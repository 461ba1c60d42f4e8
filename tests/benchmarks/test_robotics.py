"""The benchmark of robotics worlds: held actions, tasks, rows, tables and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tables, trials
from benchmarks.robotics import run as benchmark
from benchmarks.robotics.picture import draw
from benchmarks.robotics.worlds import WORLDS, World
from tests.benchmarks.test_tables import write
from tests.toys import LineGoal

FOUR_ROOMS = next(world for world in WORLDS if world.name == "four_rooms")


class Still:
    """Does nothing, in planes and in space."""

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions

    def predict(self, observation: Any, state: Any = None, **_: Any) -> Any:
        return np.zeros((len(observation["observation"]), self.n_actions), np.float32), None


def test_every_world_is_made_with_its_limit_and_evaluated_on_its_tasks() -> None:
    for world in (world for world in WORLDS if world.is_there):
        env = world.make()
        limits = env.spec.max_episode_steps, getattr(env.unwrapped, "time_limit", None)
        assert world.limit in limits, world.name
        short, tasks = replace(world, limit=3), world.n_tasks or 3
        lanes, still = short.lanes(), Still(env.action_space.shape[0])
        result = short.evaluate(still, lanes, tasks, seed=0)
        assert result.n_episodes == tasks and result.mean_ep_length == 3, world.name
        again = short.evaluate(still, lanes, tasks, seed=0)
        assert result.to_dict() == again.to_dict(), "everybody is given the same tasks"
        lanes.close()


def test_numbered_tasks_share_the_episodes() -> None:
    world = next(world for world in WORLDS if world.name == "OGBench point medium")
    if not world.is_there:
        pytest.skip("ogbench is not installed")
    short = replace(world, limit=2)
    lanes = short.lanes()
    result = short.evaluate(Still(2), lanes, 20, seed=0)
    given = lanes.envs[0].unwrapped._maze.task_infos
    starts = np.array([episode.start for episode in result.episodes])
    for info in given:
        assert (np.abs(starts - info["init_xy"]).max(axis=1) <= 1.0).sum() == 4


class TestPeer:
    """Stable-Baselines3's agents with held actions."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("stable_baselines3")

    @pytest.mark.parametrize("pays_one", [False, True])
    def test_actions_are_held_until_the_episode_ends_and_goals_pay_nothing(
        self, pays_one: bool
    ) -> None:
        from benchmarks.robotics.peer import HeldActions

        env = HeldActions(LineGoal(pays_one=pays_one, limit=7), 3)
        observation, _ = env.reset(seed=0)
        action = np.array([0.01], np.float32)
        start, ends = observation["achieved_goal"], []
        for expected in (0.03, 0.06, 0.07):
            observation, reward, _, truncated, _ = env.step(action)
            np.testing.assert_allclose(observation["achieved_goal"], start + expected, atol=1e-6)
            near = np.abs(observation["achieved_goal"] - observation["desired_goal"]).max() <= 0.1
            assert reward == float(near) - 1.0
            ends.append(truncated)
        assert ends == [False, False, True] and env.env_steps == 7
        rewards = env.compute_reward(np.array([[0.0], [0.5]]), np.zeros((2, 1)), {})
        assert rewards.tolist() == [0.0, -1.0]

    @pytest.mark.parametrize("method", benchmark.PEERS)
    def test_a_model_learns_and_holds_its_actions(
        self, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from benchmarks.robotics import peer

        monkeypatch.setattr(peer, "clock_of", lambda world, seed: 4)
        monkeypatch.setattr(peer, "LEARNING_STARTS", 50)
        world = replace(FOUR_ROOMS, limit=30, steps=100)
        learner = peer.Peer(method, world, 0, (8, 8))
        learner.learn(80)
        assert 80 <= learner.num_timesteps < 84
        learner.learn(20)
        assert 100 <= learner.num_timesteps < 108 and learner.model._n_updates > 5
        observation = {
            "observation": np.random.default_rng(0).uniform(-1, 1, (2, 4)).astype(np.float32),
            "achieved_goal": np.zeros((2, 2), np.float32),
            "desired_goal": np.ones((2, 2), np.float32),
        }
        first = np.array([True, True])
        actions, state = learner.predict(observation, None, first)
        held = []
        for step in range(1, 9):
            observation = {key: value + 0.1 for key, value in observation.items()}
            # The second environment begins an episode in the middle of a block.
            starts = np.array([False, step == 2])
            before, (actions, state) = actions, learner.predict(observation, state, starts)
            held.append((actions == before).all(axis=1).tolist())
        assert [step for step, row in enumerate(held, 1) if not row[0]] == [4, 8]
        assert [step for step, row in enumerate(held, 1) if not row[1]] == [2, 6]
        learner.close()


@pytest.mark.parametrize("method", [*benchmark.OURS, *benchmark.PEERS])
def test_every_method_gives_its_row(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method in benchmark.PEERS:
        pytest.importorskip("stable_baselines3")
        from benchmarks.robotics import peer

        monkeypatch.setattr(peer, "LEARNING_STARTS", 50)
    world = replace(FOUR_ROOMS, limit=20, steps=120)
    (row,) = benchmark.train(world, method, 0, benchmark.Effort(2, 2, 3))
    assert [point[0] for point in row["curve"]] == [0, 60, 120]
    assert row["env_steps"] == 120 and row["steps"] <= 20 and row["action_repeat"] >= 1
    assert row["success"] == row["reached"] and len(row["ci95"]) == 2


def test_the_time_of_plans_is_that_of_the_last_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    real = World.evaluate

    def timed(self: World, policy: Any, lanes: Any, tasks: int, seed: int) -> Any:
        result = real(self, policy, lanes, tasks, seed)
        # Of the curve, with seed 1, 100 ms.
        ms = 100.0 if seed == 1 else 4.0 if policy.config.n_subgoals > 16 else 2.0
        policy.high_level.planner.stats_of_predict.add({"graph/plan_ms": ms})
        return result

    monkeypatch.setattr(World, "evaluate", timed)
    world = replace(FOUR_ROOMS, limit=20, steps=120)
    (row,) = benchmark.train(world, "hierarchical", 0, benchmark.Effort(2, 2, 3))
    assert (row["plan_ms"], row["few_plan_ms"]) == (4.0, 2.0)
    assert 0.0 <= row["few_nodes"] <= 1.0


def _row(world: str, method: str, seed: int, curve: list[Any], reached: float = 0.5) -> Any:
    return {
        **{"world": world, "env": "Some-v0", "episodes": "go on", "limit": 50, "method": method},
        **{"seed": seed, "action_repeat": 3 + seed, "env_steps": 2000, "cpu_s": 9.0},
        **{"success": 0.5, "ci95": [0.4, 0.6], "reached": reached, "reached_ci95": [0.4, 1.0]},
        **{"steps": 40.0, "curve": curve},
    }


def test_the_page_tells_both_rates_and_when_success_came_to_both_levels(tmp_path: Path) -> None:
    fast = [[0, 0.0, 0.0, 0.0], [1000, 2.5, 0.95, 0.95], [2000, 5.0, 1.0, 1.0]]
    never = [[0, 0.0, 0.0, 0.0], [1000, 2.5, 0.4, 1.0], [2000, 5.0, 0.5, 1.0]]
    rows = [
        _row("B", "sorb", 0, fast),
        _row("B", "sorb", 1, never, 1.0),
        _row("A", "flat", 0, fast),
    ]
    write(tmp_path, "robotics", rows)
    draw(rows, tmp_path / "robotics.png")
    assert (tmp_path / "robotics.png").read_bytes().startswith(b"\x89PNG")
    text = tables.page(tmp_path, tmp_path / "results.md")
    assert "| B | Some-v0 | go on | 50 | 2,000 | 3 to 4 |" in text
    line = (
        "| B | sorb | 0.50 / 0.50 | 0.40 to 0.60 | 0.50 / 1.00 | 1,000 / - | 2.5 / - | 2,000 / - "
        "| 5 / - | 9 s | 40 |"
    )
    assert line in text
    assert "| A | flat | 0.50 | 0.40 to 0.60 |  | 1,000 |" in text, "where they differ only"
    assert text.index("| B | sorb") < text.index("| A | flat"), "worlds keep their order"
    assert "16 nodes" not in text, "no run measured plans"
    plans = {"plan_ms": 6.04, "few_nodes": 0.75, "few_plan_ms": 3.0}
    write(tmp_path, "robotics", [*rows, _row("A", "hierarchical", 0, fast) | plans])
    assert "| A | 6 ms | 0.75 | 3 ms |" in tables.page(tmp_path, tmp_path / "results.md")


@pytest.mark.slow
def test_a_run_takes_the_worlds_that_are_there_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = replace(FOUR_ROOMS, limit=20, steps=40)
    missing = World("nowhere", "Nowhere-v0", 10, 10, 0.9, "a_library_that_is_not_there")
    monkeypatch.setattr(benchmark, "WORLDS", (missing, known))
    monkeypatch.setattr(benchmark, "PEERS", ())
    monkeypatch.setattr(benchmark, "OURS", {"flat": benchmark.OURS["flat"]})
    monkeypatch.setattr(benchmark, "FULL", benchmark.Effort(2, 1, 2))
    monkeypatch.setattr(trials, "commit", lambda: "abc")
    monkeypatch.setattr(trials, "side_by_side", lambda: 1)
    rows = benchmark.run(quick=False, seeds=2, out=tmp_path)
    assert [(row["world"], row["seed"]) for row in rows] == [("four_rooms", 0), ("four_rooms", 1)]
    assert "nowhere are left out" in capsys.readouterr().out
    (tmp_path / "robotics.png").unlink()
    assert benchmark.run(quick=False, seeds=2, out=tmp_path) == rows
    assert "2 of 2 are in" in capsys.readouterr().out
    assert (tmp_path / "robotics.png").is_file()
