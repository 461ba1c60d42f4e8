"""The pieces behind the sequence benchmark's figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import sequence, sequence_agents, sequence_mazes, sequence_random, trials
from benchmarks.sequence import Case, draw_pairs, explore, far_queries, fit, measure, plan_quality
from hierebm.envs.layouts import get_layout
from hierebm.planning.sequence import SequenceConfig

# Four by four cells; the wall stands on the lower edge.
U = get_layout(["....", ".##.", ".##.", ".##."])


def path(*cells: tuple[float, float]) -> np.ndarray:
    """Positions in U, given in cells from its lower left corner."""
    return (U.low + U.cell_size * np.array(cells)).astype(np.float32)


def test_the_explorer_stays_out_of_walls_and_is_repeatable() -> None:
    paths = explore("u", 8000, np.random.default_rng(3))
    assert paths.shape == (80, sequence.EPISODE + 1, 2) and paths.dtype == np.float32
    layout = get_layout("u")
    assert layout.segment_is_free(paths[:, :-1], paths[:, 1:]).all()
    moves = np.abs(np.diff(paths, axis=1))
    assert moves.max() <= 0.2 + 1e-6
    # Both halves get about: none stays where it began, and together they see most of the world.
    assert (np.ptp(paths, axis=1).max(axis=1) > 0.5).all()
    cells = np.floor((paths.reshape(-1, 2) - layout.low) / layout.cell_size).astype(int)
    assert len(np.unique(cells, axis=0)) > 0.8 * len(layout.free_cells)
    np.testing.assert_array_equal(paths, explore("u", 8000, np.random.default_rng(3)))
    assert not np.array_equal(paths, explore("u", 8000, np.random.default_rng(4)))


@settings(deadline=None)
@given(k=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_pairs_are_at_most_k_apart_in_one_path(k: int, seed: int) -> None:
    paths = np.stack(np.meshgrid(np.arange(5.0), np.arange(12.0), indexing="ij"), axis=-1)
    pairs = draw_pairs(paths, 200, k, np.random.default_rng(seed)).numpy()
    (episode, t), (same, later) = pairs[:, 0].T, pairs[:, 1].T
    np.testing.assert_array_equal(episode, same)
    assert set(later - t) == set(range(1, k + 1))
    assert set(episode) == set(range(5)) and t.min() == 0 and later.max() == 11


def test_queries_are_far_free_and_always_the_same() -> None:
    layout = get_layout("serpentine")
    a, b = far_queries(layout, 60, 2.0)
    assert a.shape == b.shape == (60, 2)
    assert not layout.in_wall(np.concatenate([a, b])).any()
    assert layout.shortest_path_distance(a, b).min() > 2.0
    np.testing.assert_array_equal(far_queries(layout, 60, 2.0), (a, b))


def test_a_straight_and_even_plan_is_perfect() -> None:
    quality = plan_quality(path((0.5, 0.5), (0.5, 1.5), (0.5, 2.5)), U)
    assert quality.ratio == pytest.approx(1.0) and quality.variation == pytest.approx(0.0, abs=1e-5)
    assert quality.free.all() and not quality.blocked.any()
    uneven = plan_quality(path((0.1, 0.0), (0.1, 3.0), (0.9, 3.0)), U)
    assert uneven.ratio == pytest.approx(3.8 / np.hypot(3.0, 0.8), rel=1e-5)
    assert uneven.variation == pytest.approx(1.1 / 1.9, rel=1e-5)


def test_a_plan_through_a_wall_is_blocked_and_one_around_is_not() -> None:
    through = plan_quality(path((0.5, 0.5), (3.5, 0.5)), U)
    assert through.blocked.tolist() == [True] and through.free.tolist() == [False]
    assert through.ratio < 0.8
    around = plan_quality(path((0.5, 0.5), (0.5, 3.5), (3.5, 3.5), (3.5, 0.5)), U)
    assert not around.blocked.any() and around.free.all() and around.ratio > 1.0


def test_a_clipped_corner_is_not_free_but_not_blocked() -> None:
    cut = plan_quality(path((0.75, 2.5), (1.5, 3.25)), U)
    assert cut.free.tolist() == [False] and cut.blocked.tolist() == [False]


def test_the_small_version_measures_plans_and_agents_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sequence, "CASES", (Case("open", 4000, 100), Case("u", 4000, 1)))
    monkeypatch.setattr(sequence, "QUERIES", 15)
    monkeypatch.setattr(sequence, "TOGETHER", 15)
    monkeypatch.setattr(sequence, "GIVEN", (20,))
    monkeypatch.setattr(sequence, "AGENTS", (("open", 1_100, True, False),))
    monkeypatch.setattr(trials, "commit", lambda: "abc")
    monkeypatch.setattr(sequence_agents, "HORIZONS", (4,))
    monkeypatch.setattr(sequence_agents, "TASKS", 2)
    monkeypatch.setattr(sequence_agents, "HORIZON_TASKS", 1)
    monkeypatch.setattr(sequence_agents, "WAYS", 2)
    small = {
        "hidden_sizes": (32, 32),
        "batch_size": 16,
        "energy_gradient_steps": 2,
        "energy_batch_size": 16,
    }
    monkeypatch.setattr(sequence_agents, "SETTINGS", small)
    threads = torch.get_num_threads()
    try:
        rows = sequence.run(True, None, tmp_path)
        monkeypatch.setattr(sequence, "measure", lambda *_: pytest.fail("it was measured before"))
        monkeypatch.setattr(sequence, "relax", lambda *_: None)
        assert sequence.run(True, None, tmp_path) == rows
        assert sequence.run(True, None, tmp_path, only=["plans, u, 0"]) == rows[2:4]
        with pytest.raises(SystemExit, match="plans, open, 0"):
            sequence.run(True, None, tmp_path, only=["plans, v, 0"])
    finally:
        torch.set_num_threads(threads)
    good, without, poor, _, *agents = rows
    assert [(row["layout"], row["changed"]) for row in rows[:3]] == [
        ("open", "nothing"),
        ("open", "no Langevin steps"),
        ("u", "nothing"),
    ]
    assert without["plan_ms"] > 0 and "shown" not in good
    assert [(row["planner"], row["horizon"]) for row in agents] == [
        ("graph", None),
        ("sequence", None),
        ("sequence", 4),
    ]
    for row in agents:
        assert row["env_steps"] == 1_100 and 0.0 <= row["success"] <= 1.0
    for row in agents[:2]:
        assert row["plans_free"] == 1.0 and row["plan_ms"] > 0
        assert row["path_ratio"] is None or row["path_ratio"] >= 0.8
    assert 1.0 <= good["ratio"] <= good["ratio_90"] < 1.5
    assert good["segments_free"] == good["plans_free"] == good["not_blocked"] == 1.0
    assert good["states"] > 2 and good["plan_ms"] > 0 and good["train_s"] > poor["train_s"]
    # One update teaches nothing about walls, and the figures say so.
    assert poor["plans_free"] < 1.0 and poor["segments_free"] > poor["plans_free"]
    assert (tmp_path / "sequence.png").read_bytes().startswith(b"\x89PNG")


def test_the_walls_of_a_maze_are_where_its_map_has_them() -> None:
    maze: Any = SimpleNamespace(maze_map=[[1, 1, 1, 1], [1, "r", 0, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    walls = sequence_mazes.walls_of(SimpleNamespace(unwrapped=SimpleNamespace(maze=maze)))
    # Cells of side 1, centred on the origin, the first row at the top.
    points = np.array([[-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]])
    assert walls is not None and walls.in_wall(points).tolist() == [False, False, False, True]
    assert sequence_mazes.walls_of(SimpleNamespace(unwrapped=None)) is None


def test_random_transitions_are_episodes_of_their_own() -> None:
    data = sequence_random.random_transitions("u", 2_000, seed=3)
    assert data.n_episodes == sequence_random.LANES and data.n_transitions == 2_000
    moved = np.abs(np.diff(data.achieved_goal, axis=0))[~data.episode_end[:-1]]
    assert 0 < moved.max() <= 0.2 + 1e-6
    again = sequence_random.random_transitions("u", 2_000, seed=3)
    np.testing.assert_array_equal(data.observation, again.observation)


def test_the_maze_of_the_paper_has_its_way() -> None:
    maze = get_layout(sequence_random.WORLDS["Maze"][0])
    start, goal = (
        np.array(point) * sequence_random.HALF
        for point in (sequence_random.START, sequence_random.GOAL)
    )
    shortest = maze.shortest_path_distance(start, goal) / sequence_random.HALF
    # Up, down and up again between the walls, and down to the goal.
    assert 6.0 < shortest < 7.0
    assert maze.walls.mean() == pytest.approx(4 / 8 * (1 - 2 / 16))


def test_a_part_that_is_changed_is_measured_with_and_without_the_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("no Langevin steps", "squared loss, imagined negatives")
    monkeypatch.setattr(sequence_random, "PARTS", {n: sequence_random.PARTS[n] for n in names})
    monkeypatch.setattr(sequence_random, "UPDATES", 5)
    monkeypatch.setattr(sequence_random, "ENERGY_UPDATES", 20)
    settings = {"energy_gradient_steps": 1, "energy_batch_size": 16, "pool_size": 100}
    monkeypatch.setattr(sequence_random, "SETTINGS", settings)
    monkeypatch.setattr(sequence_random, "TASKS", 4)
    seen: list[tuple[Any, ...]] = []

    def measured(agent: Any, layout: str, tasks: int) -> dict[str, Any]:
        planner = agent.high_level.planner
        config, missed = planner.sequences.config, planner.sequences.model.missed.size
        known = agent.high_level.context.transition_map
        seen.append((config.langevin_steps, config.objective, known is not None, missed > 0))
        return {}

    monkeypatch.setattr(sequence_random, "measure_success", measured)
    rows = sequence_random.parts("open", 2_000, 0, 2)
    assert [(row["changed"], row["map"]) for row in rows] == [
        (name, with_map) for name in names for with_map in (True, False)
    ]
    steps = SequenceConfig().langevin_steps
    assert seen == [
        (0, "infonce", True, False),
        (0, "infonce", False, False),
        (steps, "squared", True, True),
        (steps, "squared", False, True),
    ]


def test_a_closed_door_leaves_a_longer_way() -> None:
    before = get_layout("four_rooms")
    start, goal = (before.low + before.cell_size * np.array(p) for p in sequence_agents.BESIDE)
    closed = sequence_agents.closed_layout("four_rooms")
    assert before.walls.sum() + 1 == closed.walls.sum()
    longer = closed.shortest_path_distance(start, goal)
    assert before.shortest_path_distance(start, goal) + 5 < longer < np.inf


def test_the_same_seed_measures_the_same() -> None:
    case, layout = Case("open", 4000, 20), get_layout("open")
    queries = far_queries(layout, 10, case.min_path)
    first, again, other = (measure(fit(case, seed)[0], layout, *queries) for seed in (0, 0, 1))
    for one, two in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert first[0]["ratio"] == again[0]["ratio"]
    # On the open plane all are straight, but not alike.
    assert any(not np.array_equal(one, two) for one, two in zip(first[1], other[1], strict=True))


def test_coverage_is_drawn_of_planned_and_of_random_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = {
        "hidden_sizes": (32, 32),
        "batch_size": 16,
        "energy_gradient_steps": 2,
        "energy_batch_size": 16,
    }
    monkeypatch.setattr(sequence_random, "SETTINGS", small)
    shares = sequence_random.draw_coverage("u", 400, tmp_path / "coverage.png")
    assert shares.keys() == {"planned", "random"}
    assert all(0.0 < share < 1.0 for share in shares.values())
    assert (tmp_path / "coverage.png").read_bytes().startswith(b"\x89PNG")
