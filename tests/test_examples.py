"""Every example runs, with few steps."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hierebm
from hierebm import evaluation
from tests.toys import LIGHT

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
# What some of them need besides.
NEEDS = {
    "sb3_low_level": "stable_baselines3",
    "frozen_policy": "stable_baselines3",
    "robotics": "gymnasium_robotics",
    "sweep": "optuna",
}


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= NEEDS.keys()


@pytest.fixture(autouse=True)
def two_tasks_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that have learned next to nothing take long over every task."""
    evaluate = evaluation.evaluate

    def fewer(agent: Any, env: Any, n_eval_episodes: int, **kwargs: Any) -> Any:
        return evaluate(agent, env, min(n_eval_episodes, 2), **kwargs)

    monkeypatch.setattr(evaluation, "evaluate", fewer)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    if path.stem == "sweep":
        # With one core, it needs no Ray.
        monkeypatch.setattr("hierebm.sweeps.run.available_cores", lambda: 1)
    light = partial(hierebm.HierarchicalEBMAgent, **LIGHT)
    monkeypatch.setattr(hierebm, "HierarchicalEBMAgent", light)
    # What an example writes is left here.
    monkeypatch.chdir(tmp_path)
    example = loaded(path)
    if path.stem == "offline":
        # The energy trains in proportion to the data.
        record = example.random_episodes
        monkeypatch.setattr(example, "random_episodes", lambda n: record(n // 40))
    # A plan can be shown only after some experience, and SAC trains after whole episodes.
    example.main(steps={"minimal": 1010, "frozen_policy": 330}.get(path.stem, 40))
