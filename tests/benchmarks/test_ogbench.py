"""The benchmark of OGBench's offline point mazes: its data, variants, rows, tables and picture."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__, tables, trials
from benchmarks.ogbench import make_data, published
from benchmarks.ogbench import measure as measuring
from benchmarks.ogbench import run as benchmark
from benchmarks.ogbench.make_data import RECIPES, Recipe, data_file, make
from benchmarks.ogbench.maze import PointMaze
from benchmarks.ogbench.picture import draw
from hierebm.agents import offline
from hierebm.data import load_ogbench
from hierebm.evaluation import evaluate
from tests.benchmarks.test_tables import write

pytest.importorskip("ogbench")

SHORT = {kind: Recipe("giant", kind, 40, 150) for kind in ("navigate", "stitch")}


@pytest.fixture(scope="module")
def giant() -> PointMaze:
    return PointMaze("giant")


@pytest.fixture(scope="module", params=["navigate", "stitch"])
def episodes(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    """Kind, and observations and actions as (episodes, states, 2)."""
    arrays, recipe = make(SHORT[request.param]), SHORT[request.param]
    shape = (recipe.episodes, recipe.states, 2)
    return request.param, arrays["observations"].reshape(shape), arrays["actions"].reshape(shape)


class TestPointMaze:
    def test_a_step_is_that_of_ogbench_at_walls_and_away_from_them(self, giant: PointMaze) -> None:
        rng = np.random.default_rng(0)
        cells = rng.integers(len(giant), size=2000)
        xy = giant.centers[cells] + rng.uniform(-1.3, 1.3, (2000, 2))
        actions = rng.uniform(-1.0, 1.0, (2000, 2))
        after, env = giant.step(xy, actions), giant._env
        expected = np.empty_like(after)
        for i in range(2000):
            env.data.qpos[:] = xy[i]
            expected[i] = env.step(actions[i])[0]
        stopped = np.abs(expected - xy - 0.2 * actions).max(axis=1) > 1e-3
        assert 20 < stopped.sum() < 400, "some of the steps must lead into walls"
        free = giant.is_free(xy + 0.2 * actions)
        assert (after[free] == expected[free]).all() and not (free & stopped).any()
        # The simulation's solver begins where its last call ended.
        np.testing.assert_allclose(after, expected, atol=1e-4)

    def test_the_next_cell_is_ogbenchs_oracle(self, giant: PointMaze) -> None:
        table = giant.next_cells()
        rng = np.random.default_rng(1)
        for start, goal in rng.integers(len(giant), size=(200, 2)):
            expected, _ = giant._env.get_oracle_subgoal(giant.centers[start], giant.centers[goal])
            assert (giant.centers[table[start, goal]] == expected).all()
            ahead = giant.steps[table[start, goal], goal]
            assert ahead == max(0, giant.steps[start, goal] - 1)

    def test_corridors_are_no_junctions(self, giant: PointMaze) -> None:
        junctions = {tuple(giant._cells[cell]) for cell in giant.junctions}
        assert (1, 1) in junctions, "a dead end"
        assert (2, 1) not in junctions, "walls left and right"
        assert (1, 4) not in junctions, "walls above and below"
        assert (3, 1) in junctions and (1, 3) in junctions, "a branch and a corner"


class TestRecipe:
    def test_sizes_are_those_of_ogbench(self) -> None:
        assert list(RECIPES) == [
            f"pointmaze-{maze}-{kind}-v0"
            for kind in ("navigate", "stitch")
            for maze in ("medium", "large", "giant")
        ]
        assert all(r.episodes * (r.states - 1) == 1_000_000 for r in RECIPES.values())
        assert {r.states for r in RECIPES.values() if r.kind == "stitch"} == {201}
        assert RECIPES["pointmaze-giant-navigate-v0"].states == 2001
        assert RECIPES["pointmaze-large-navigate-v0"].states == 1001
        tenth = RECIPES["pointmaze-giant-navigate-v0"].tenth()
        assert (tenth.episodes, tenth.states) == (50, 2001)
        assert tenth.file == "pointmaze-giant-navigate-v0-50-episodes.npz"
        assert RECIPES[tenth.name].file == "pointmaze-giant-navigate-v0.npz"

    def test_a_seed_gives_the_same_data_again_and_another_one_others(self) -> None:
        recipe = replace(SHORT["navigate"], episodes=5, states=40)
        first, again, other = make(recipe, 0), make(recipe, 0), make(recipe, 1)
        assert all((first[key] == again[key]).all() for key in first)
        assert not np.isclose(first["observations"], other["observations"]).any()

    def test_bodies_keep_out_of_walls_and_steps_are_short(
        self, episodes: tuple[str, Any, Any], giant: PointMaze
    ) -> None:
        _, xy, actions = episodes
        flat = xy.reshape(-1, 2).astype(np.float64)
        assert (giant.cells_at(flat) >= 0).all()
        for side in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            # Contacts are soft: bodies may press into walls a little.
            edge = flat + (giant.radius - 0.1) * np.array(side)
            assert (giant.cells_at(edge) >= 0).all()
        assert np.abs(actions).max() == 1.0
        moved, asked = np.diff(xy, axis=1), 0.2 * actions[:, :-1]
        free = giant.is_free((xy[:, :-1] + asked).reshape(-1, 2)).reshape(asked.shape[:2])
        np.testing.assert_allclose(moved[free], asked[free], atol=1e-5)
        assert 0.9 < free.mean() < 1.0

    def test_actions_are_a_unit_vector_along_the_way_and_noise(self, giant: PointMaze) -> None:
        recipe = Recipe("giant", "stitch", 100, 201)
        arrays = make(recipe)
        xy, actions = (
            arrays[key].reshape(recipe.episodes, recipe.states, 2)
            for key in ("observations", "actions")
        )
        xy = xy.astype(np.float64)
        cells = giant.cells_at(xy.reshape(-1, 2)).reshape(xy.shape[:2])
        # Who has arrived stays in the goal's cell.
        arrived = (cells[:, -40:] == cells[:, -1:]).all(axis=1)
        assert arrived.mean() > 0.9
        xy, actions, cells = xy[arrived], actions[arrived], cells[arrived]
        target = giant.centers[giant.next_cells()[cells, cells[:, -1:]]]
        ahead = target - xy
        ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
        noise = np.random.default_rng(0).normal(0.0, 0.5, ahead.shape)
        expected = np.clip(ahead + noise, -1.0, 1.0)
        levels = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]
        for axis in (0, 1):
            np.testing.assert_allclose(
                np.quantile((actions - ahead)[..., axis], levels),
                np.quantile((expected - ahead)[..., axis], levels),
                atol=0.02,
            )

    def test_stitch_goes_four_cells_and_stays_and_navigate_goes_on(
        self, episodes: tuple[str, Any, Any], giant: PointMaze
    ) -> None:
        kind, xy, _ = episodes
        cells = giant.cells_at(xy.reshape(-1, 2).astype(np.float64)).reshape(xy.shape[:2])
        away = giant.steps[cells[:, :1], cells].max(axis=1)
        if kind == "stitch":
            assert (away == make_data.STITCH_CELLS).mean() > 0.9 and away.max() <= 5
            still = np.linalg.norm(xy[:, 120:] - giant.centers[cells[:, -1]][:, None], axis=-1)
            assert np.median(still) < 0.5
        else:
            assert np.median(away) > 5

    def test_a_file_is_made_once_and_read_by_the_loader(self, tmp_path: Path) -> None:
        recipe = replace(SHORT["stitch"], episodes=3, states=11)
        path = data_file(recipe, tmp_path / "data", seed=4)
        assert make_data.is_made_again(path)
        before = path.read_bytes()
        assert data_file(recipe, tmp_path / "data", seed=5).read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        data = load_ogbench(path)
        assert (data.n_episodes, data.n_transitions) == (3, 30)
        np.testing.assert_array_equal(data.observation, make(recipe, 4)["observations"])
        np.savez(tmp_path / "theirs.npz", **make(recipe))
        assert not make_data.is_made_again(tmp_path / "theirs.npz")


class TestMeasure:
    SMALL = Recipe("medium", "navigate", 6, 300)

    @pytest.fixture(autouse=True)
    def _short_episodes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        short = partial(measuring.make_lanes, max_episode_steps=12)
        monkeypatch.setattr(measuring, "make_lanes", short)
        monkeypatch.setattr(measuring, "LANES", 1)
        monkeypatch.setattr(offline, "EFFORT", 1)

    def test_every_variant_gives_a_row_of_the_same_agent(self, tmp_path: Path) -> None:
        effort, variants = measuring.Effort(20, 1), (*measuring.VARIANTS, measuring.TENTH)
        rows = measuring.measure(self.SMALL, 0, effort, variants, tmp_path)
        assert [row["kind"] for row in rows] == list(variants)
        for row in rows:
            assert (row["data_set"], row["source"]) == (self.SMALL.name, "made again")
            assert (row["transitions"], row["updates"], row["episodes"]) == (6 * 299, 20, 5)
            assert len(row["tasks"]) == 5 and row["success"] == np.mean(row["tasks"])
            assert row["plans"] >= 1.0 and 0.0 < row["plan_ms"] < 1000.0
            assert 0.0 <= row["load_s"] < row["cpu_s"] and row["memory_mb"] > 50
        default, few, replay, tenth = rows
        assert few["nodes"] <= 16 < default["nodes"] <= 64 and replay["nodes"] <= 64
        same = ("success", "tasks", "steps", "nodes", "plans")
        assert all(tenth[key] == default[key] for key in same), "the first, by another name"
        assert default["cpu_s"] == few["cpu_s"] == replay["cpu_s"]

    def test_the_same_tasks_for_everybody(self) -> None:
        lanes = measuring.make_lanes("medium")
        first, again = (
            evaluate(Still(), lanes, 4, seed=1000, options={"task_id": 1}) for _ in range(2)
        )
        assert [e.to_dict() for e in first.episodes] == [e.to_dict() for e in again.episodes]
        lanes.close()


class Still:
    """Does nothing."""

    def predict(self, observation: Any, state: Any = None, **_: Any) -> Any:
        return np.zeros((len(observation["observation"]), 2), np.float32), None


def _row(kind: str, seed: int, success: float, **entries: Any) -> dict[str, Any]:
    return {
        **{"kind": kind, "data_set": "pointmaze-giant-stitch-v0", "source": "made again"},
        **{
            "seed": seed,
            "transitions": 1_000_000,
            "updates": 3000,
            "cpu_s": 60.0 + seed,
        },
        **{"load_s": 0.2, "memory_mb": 700, "episodes": 250, "success": success},
        **{"ci95": [success - 0.02, success], "tasks": [1.0, 1.0, 1.0, 1.0, 5 * success - 4]},
        **{"steps": 420.0, "plans": 3.5, "nodes": 60.0, "verified": 0.97},
        **{"plan_ms": 6.04, "plan_ms_mean": 7.1, **entries},
    }


def test_the_page_shows_ours_beside_published_figures_and_what_the_data_are(
    tmp_path: Path,
) -> None:
    rows = [
        _row(measuring.DEFAULT, 0, 0.99),
        _row(measuring.DEFAULT, 1, 0.96),
        _row(measuring.TENTH, 0, 0.9, transitions=100_000),
        *published.rows(),
    ]
    write(tmp_path, "ogbench", rows)
    draw(rows, tmp_path / "ogbench.png")
    assert (tmp_path / "ogbench.png").read_bytes().startswith(b"\x89PNG")
    text = tables.page(tmp_path, tmp_path / "results.md")
    assert "the same distribution, not the same file" in text and "50 episodes each" in text
    assert "Ours has its default settings." in text
    assert "| data set | GCBC | GCIVL | GCIQL | QRL | CRL | HIQL | TTGS | ours |" in text
    giant = "| pointmaze-giant-stitch-v0 | 0.00 | 0.00 | 0.00 | 0.50 | 0.00 | 0.00 | 0.98 | 0.975 |"
    assert giant in text
    line = (
        "| pointmaze-giant-stitch-v0 | 64 subgoals | 1,000,000 | 3,000 | 0.990 / 0.960 "
        "| 0.94 to 0.99 | 0.80 | 420 | 60.5 s | 0.2 s | 6 ms | 7.1 ms | 60 | 3.5 | 0.97 | 700 MB |"
    )
    assert line in text
    own = [{**row, "source": "OGBench's file"} for row in rows if row["kind"] != "published"]
    write(tmp_path, "ogbench", own + published.rows())
    assert "made again" not in tables.page(tmp_path, tmp_path / "results.md")


def test_published_figures_are_those_of_every_data_set() -> None:
    rows = published.rows()
    assert {row["data_set"] for row in rows} == set(RECIPES) == set(published.TABLE)
    assert len(rows) == 6 * 6 + 7 and all(0.0 <= row["success"] <= 1.0 for row in rows)


def test_a_run_makes_its_data_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Recipe("medium", "stitch", 20, 11)
    monkeypatch.setattr(benchmark, "RECIPES", {small.name: small})
    monkeypatch.setattr(trials, "commit", lambda: "abc")
    monkeypatch.setattr(trials, "side_by_side", lambda: 1)
    asked = []

    def measured(recipe: Recipe, seed: int, effort: Any, variants: Any, folder: Path) -> Any:
        asked.append((recipe.episodes, seed, effort, variants))
        assert (folder / recipe.file).is_file()
        return [_row(kind, seed, 1.0, data_set=recipe.name) for kind in variants]

    monkeypatch.setattr(benchmark, "learn_and_measure", measured)
    rows = benchmark.run(quick=False, seeds=2, out=tmp_path)
    whole, tenth = tuple(measuring.VARIANTS), (measuring.TENTH,)
    assert sorted(asked, key=lambda job: (-job[0], job[1])) == [
        (20, 0, measuring.FULL, whole),
        (20, 1, measuring.FULL, whole),
        (2, 0, measuring.FULL, tenth),
        (2, 1, measuring.FULL, tenth),
    ]
    ours = [(row["kind"], row["seed"]) for row in rows if row["kind"] != "published"]
    assert ours == [(kind, seed) for kind in (*whole, measuring.TENTH) for seed in (0, 1)]
    assert benchmark.run(quick=False, seeds=2, out=tmp_path) == rows and len(asked) == 4
    assert "4 of 4 are in" in capsys.readouterr().out
    asked.clear()
    benchmark.run(quick=True, seeds=None, out=tmp_path, data=tmp_path / "elsewhere")
    assert asked == [(2, 0, measuring.QUICK, whole)]


def test_a_folder_of_data_is_for_this_benchmark_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["energy", "--data", "somewhere"])
    assert "--data is an option of ogbench only" in capsys.readouterr().err
