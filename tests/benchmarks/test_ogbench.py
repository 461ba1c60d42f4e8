"""The benchmark of OGBench's offline point mazes: its data, variants, rows, tables and picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.ogbench import make_data
from benchmarks.ogbench.make_data import RECIPES, Recipe, data_file, make
from benchmarks.ogbench.maze import PointMaze
from hierebm.data import load_ogbench

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
