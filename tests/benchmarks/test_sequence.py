"""The pieces behind the sequence benchmark's figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import sequence, sequence_agents
from benchmarks.sequence import Case, draw_pairs, explore, far_queries, fit, measure, plan_quality
from hierebm.envs.layouts import get_layout

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


def test_every_case_is_trained_and_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sequence, "QUICK", (Case("open", 4000, 120), Case("u", 4000, 1)))
    monkeypatch.setattr(sequence, "QUERIES", 30)
    monkeypatch.setattr(sequence_agents, "QUICK", (("open", 1_100),))
    monkeypatch.setattr(sequence_agents, "HORIZONS", (4,))
    monkeypatch.setattr(sequence_agents, "TASKS", 25)
    monkeypatch.setattr(sequence_agents, "WAYS", 2)
    threads = torch.get_num_threads()
    try:
        rows = sequence.run(True, None, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert [(row["layout"], row["seed"]) for row in rows[:2]] == [("open", 0), ("u", 0)]
    good, poor, *agents = rows
    assert [(row["planner"], row["horizon"]) for row in agents] == [
        ("graph", None),
        ("sequence", None),
        ("sequence", 4),
    ]
    for row in agents:
        assert row["env_steps"] == 1_100 and row["plans_free"] == 1.0
        assert 0.0 <= row["success"] <= 1.0 and row["plan_ms"] > 0
        assert row["path_ratio"] is None or row["path_ratio"] >= 0.8
    assert 1.0 <= good["ratio"] <= good["ratio_90"] < 1.5
    assert good["segments_free"] == good["plans_free"] == good["not_blocked"] == 1.0
    assert good["states"] > 2 and good["plan_ms"] > 0 and good["train_s"] > poor["train_s"]
    # One update teaches nothing about walls, and the figures say so.
    assert poor["plans_free"] < 1.0 and poor["segments_free"] > poor["plans_free"]
    assert (tmp_path / "sequence.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_measures_the_same() -> None:
    case, layout = Case("open", 4000, 20), get_layout("open")
    queries = far_queries(layout, 10, case.min_path)
    first, again, other = (measure(fit(case, seed)[0], layout, *queries) for seed in (0, 0, 1))
    for one, two in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert first[0]["ratio"] == again[0]["ratio"] != other[0]["ratio"]


def test_every_part_of_the_optimiser_can_be_changed() -> None:
    for name, chosen in sequence.PARTS.items():
        case = Case("open", 4_000, 21, name, tuple(chosen.items()))
        optimizer, _ = fit(case, seed=0)
        assert all(getattr(optimizer.config, key) == value for key, value in chosen.items())
