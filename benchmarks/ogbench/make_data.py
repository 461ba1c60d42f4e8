"""OGBench's data sets of point mazes, made again by its public recipe.

The same distribution, not the same file: the recipe is that of ``generate_locomaze.py`` and
``commands.sh`` in OGBench's repository (Park et al. 2025, arXiv 2410.20092), random numbers are our
own. An episode begins near the center of any free cell. Each action is the unit vector to the
center of the next cell on a shortest way to the goal's cell (in it: to its center) plus Gaussian
noise of deviation .5, clipped to [-1, 1].

* ``navigate``: goals lie near cells that are no straight corridor; one that is reached is followed
  by the next.
* ``stitch``: one goal near a cell that is four cells away, and the agent stays there.

A goal near the edge of OGBench's noise is not always reached, as in OGBench: the agent circles the
center of its cell.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ogbench.maze import PointMaze
from hierebm.files import atomic_write
from hierebm.types import IntArray

ACTION_NOISE = 0.5
STITCH_CELLS = 4
"""Goals of ``stitch`` are as many cells away."""
MADE_AGAIN = "made_again"
"""An array of the files that are made here, and not of OGBench's: the seed."""


@dataclass(frozen=True)
class Recipe:
    """What a data set is made of.

    Attributes:
        maze: "medium", "large" or "giant".
        kind: "navigate" or "stitch".
        episodes: how many.
        states: of an episode; the action of the last one leads nowhere.
    """

    maze: str
    kind: str
    episodes: int
    states: int

    @property
    def name(self) -> str:
        """OGBench's name."""
        return f"pointmaze-{self.maze}-{self.kind}-v0"

    @property
    def file(self) -> str:
        """Name of the file: OGBench's for all of its episodes."""
        whole = self == RECIPES[self.name]
        return f"{self.name}.npz" if whole else f"{self.name}-{self.episodes}-episodes.npz"

    def tenth(self) -> Recipe:
        """The same with a tenth of the episodes."""
        return Recipe(self.maze, self.kind, self.episodes // 10, self.states)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("medium", "navigate", 1000, 1001),
        Recipe("large", "navigate", 1000, 1001),
        Recipe("giant", "navigate", 500, 2001),
        Recipe("medium", "stitch", 5000, 201),
        Recipe("large", "stitch", 5000, 201),
        Recipe("giant", "stitch", 5000, 201),
    )
}
"""OGBench's name -> its training set."""


def data_file(recipe: Recipe, folder: Path, seed: int = 0) -> Path:
    """The data set's file in the folder, made if it is not there; one that is there is not changed.

    Files of OGBench itself may lie there, too.
    """
    path = folder / recipe.file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {**make(recipe, seed), MADE_AGAIN: np.array(seed)}
        with atomic_write(path) as stream:
            np.savez_compressed(stream, **arrays)
    return path


def is_made_again(path: str | os.PathLike[str]) -> bool:
    """Whether a file was made here, and is not OGBench's own."""
    with np.load(path, allow_pickle=False) as file:
        return MADE_AGAIN in file.files


def make(recipe: Recipe, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of a data set, as OGBench's files have them.

    ``qpos`` and ``qvel`` are left out: the point's ``qpos`` is its observation, and its velocity is
    set to 0 before each step.

    Returns:
        ``observations`` and ``actions`` (episodes * states, 2) float32, ``terminals`` (episodes *
        states,) bool.
    """
    maze, rng = PointMaze(recipe.maze), np.random.default_rng(seed)
    next_cell, junctions = maze.next_cells(), maze.junctions
    shape = (recipe.episodes, recipe.states, 2)
    observations, actions = np.empty(shape, np.float32), np.empty(shape, np.float32)
    terminals = np.zeros(shape[:2], np.bool_)
    terminals[:, -1] = True

    cells = rng.integers(len(maze), size=recipe.episodes)
    if recipe.kind == "stitch":
        goal_cells = _cells_away(maze, cells, STITCH_CELLS, rng)
    else:
        goal_cells = rng.choice(junctions, recipe.episodes)
    xy, goals = maze.near(cells, rng), maze.near(goal_cells, rng)
    for t in range(recipe.states):
        ahead = maze.centers[next_cell[maze.cells_at(xy), goal_cells]] - xy
        # OGBench's guard against a division by zero.
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-6
        action = np.clip(ahead + rng.normal(0.0, ACTION_NOISE, ahead.shape), -1.0, 1.0)
        observations[:, t], actions[:, t] = xy, action
        xy = maze.step(xy, action)
        if recipe.kind == "navigate":
            reached = np.flatnonzero(np.linalg.norm(xy - goals, axis=1) <= maze.tolerance)
            goal_cells[reached] = rng.choice(junctions, len(reached))
            goals[reached] = maze.near(goal_cells[reached], rng)
    return {
        "observations": observations.reshape(-1, 2),
        "actions": actions.reshape(-1, 2),
        "terminals": terminals.reshape(-1),
    }


def _cells_away(maze: PointMaze, cells: IntArray, steps: int, rng: np.random.Generator) -> IntArray:
    """For each cell one that is so many cells away; itself where there is none."""
    options = [np.flatnonzero(maze.steps[cell] == steps) for cell in range(len(maze))]
    return np.array([rng.choice(options[c]) if len(options[c]) else c for c in cells])
