"""OGBench's offline point mazes: our agent learns from data alone and does OGBench's tasks.

The data are made again by OGBench's recipe, the same distribution and not the same file, where the
folder does not hold OGBench's own files. Tasks are OGBench's: five a maze, 50 episodes each, 1000
steps, success within 1.0.

Each run is a trial of a sweep, in a process of its own on one thread. ``cpu_s`` is the processor
time of learning with the loading of the data, ``plan_ms`` that of a plan: of one thread, what it
takes on a core of its own. What was interrupted goes on where it was.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.installed import installed
from benchmarks.ogbench import published
from benchmarks.ogbench.make_data import RECIPES, Recipe, data_file
from benchmarks.ogbench.measure import FULL, QUICK, TENTH, VARIANTS, Effort, measure
from benchmarks.ogbench.picture import draw
from benchmarks.trials import Job, folder_of, rows_of

SEEDS, QUICK_SEEDS = 3, 1
QUICK_MAZE = "medium"
"""The maze of the small version: agents that have learned little plan again and again."""


def run(
    quick: bool, seeds: int | None, out: Path, data: Path | None = None
) -> list[dict[str, Any]]:
    """Learn from every data set with every seed; one row a run and variant.

    Args:
        quick: a tenth of the data of one maze, few updates and episodes.
        seeds: of the agents; the data are the same for all.
        out: of picture and finished runs.
        data: folder of data sets; those that it lacks are made.
    """
    from tqdm import tqdm

    if not installed("ogbench"):
        print("OGBench's mazes are left out: pip install '.[bench]'")
        return []
    folder = out / "ogbench_data" if data is None else data
    effort, recipes = (QUICK if quick else FULL), list(RECIPES.values())
    if quick:
        recipes = [recipe for recipe in recipes if recipe.maze == QUICK_MAZE]
    tenths = [recipe.tenth() for recipe in recipes]
    for recipe in tqdm(tenths if quick else recipes + tenths, desc="data sets"):
        data_file(recipe, folder)
    all_seeds = range(seeds or (QUICK_SEEDS if quick else SEEDS))
    whole, tenth = tuple(VARIANTS), (TENTH,)
    jobs: dict[str, Job] = {}
    for seed in all_seeds:
        for recipe in tenths if quick else recipes:
            job = (learn_and_measure, recipe, seed, effort, whole, folder)
            jobs[f"{recipe.name}, seed {seed}"] = job
        for recipe in [] if quick else tenths:
            job = (learn_and_measure, recipe, seed, effort, tenth, folder)
            jobs[f"{recipe.name}, a tenth, seed {seed}"] = job
    done = rows_of(jobs, folder_of(out, "ogbench"))
    rows = [row for measured in done.values() for row in measured]
    data_sets, kinds = list(RECIPES), [*VARIANTS, TENTH]
    rows.sort(key=lambda r: (data_sets.index(r["data_set"]), kinds.index(r["kind"]), r["seed"]))
    tried = {row["data_set"] for row in rows}
    rows += [row for row in published.rows() if row["data_set"] in tried]
    draw(rows, out / "ogbench.png")
    return rows


def learn_and_measure(
    recipe: Recipe, seed: int, effort: Effort, variants: tuple[str, ...], folder: Path
) -> list[dict[str, Any]]:
    """:func:`measure` in a process of its own, whose memory is the run's alone."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as worker:
        return worker.submit(measure, recipe, seed, effort, variants, folder).result()
