"""What a study says, and what is said of one that is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hierebm.sweeps.study import Study, World
from tests.sweeps.small import TINY

ROOT = Path(__file__).parents[2]


def test_a_file_and_python_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "envs:\n- PointMassGoal-v0\n"
        "- {id: PointMassGoal-v0, args: {layout: u}, total_timesteps: 2e3}\n"
        "seeds: 0-2,5\ntotal_timesteps: 1e3\nevaluations: 5\n"
        "search:\n  actor_lr: {low: 1e-4, high: 1e-2, log: true}\n"
    )
    study = Study.of(path)
    assert study == Study(
        envs=["PointMassGoal-v0", World("PointMassGoal-v0", {"layout": "u"}, total_timesteps=2000)],
        seeds=[0, 1, 2, 5],
        total_timesteps=1000,
        evaluations=5,
        search={"actor_lr": {"low": 0.0001, "high": 0.01, "log": True}},
    )
    assert [world.name for world in study.envs] == ["PointMassGoal-v0", "PointMassGoal-v0 layout=u"]
    assert [world.total_timesteps for world in study.envs] == [1000, 2000]
    assert Study.of(json.loads(json.dumps(study.to_dict()))) == study
    study.check()


def test_variants_are_those_that_are_named_or_one() -> None:
    assert [variant.name for variant in Study.of(TINY).variants] == ["default"]
    search = {"n_critics": {"low": 1, "high": 3}}
    assert Study.of({**TINY, "search": search}).variants == []
    compare = {"wide": {"hidden_sizes": [16]}, "graph": {"agent": "hierarchical"}}
    wide, graph = Study.of({**TINY, "search": search, "compare": compare}).variants
    assert (wide.agent, graph.agent) == ("ddpg-her", "hierarchical")
    assert wide.settings == {**TINY["settings"], "hidden_sizes": [16]}
    assert graph.settings == TINY["settings"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seedz": 1}, "'seedz' is no field of a study; did you mean seeds"),
        ({"envs": []}, "envs must name one environment or more"),
        ({"envs": [{"args": {}}]}, "each is an id, or a mapping of id, args"),
        ({"envs": ["A-v0", "A-v0"]}, "envs: 'A-v0' and 'A-v0' need names that differ"),
        ({"envs": [{"id": "A-v0", "total_timesteps": 1.5}]}, "total_timesteps of A-v0 must be a"),
        ({"seeds": "4-0"}, "'4-0' is no range"),
        ({"seeds": [0, -1]}, "seeds must be whole numbers"),
        ({"agent": "sac"}, "agent must be one of hierarchical, ddpg-her"),
        ({"total_timesteps": 201}, "201, must be a multiple of evaluations x n_envs = 4"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"threshold": 90}, "threshold must be between 0 and 1"),
        ({"settings": [1]}, "settings must be a mapping"),
        ({"compare": {"a": 1}}, "compare: a must be a mapping of settings"),
        ({"compare": {"a b": {}, "a_b": {}}}, "'a b' and 'a_b' need names that differ"),
        ({"compare": {"search-0": {}}}, "search-0 is called as what Optuna draws"),
        ({"search": {"tau": 3}}, "search: tau takes {low: .., high: ..}"),
        ({"search": {"tau": {"low": 1, "high": 1}}}, "tau needs low < high"),
        ({"search": {"tau": {"low": 0, "high": 1, "log": True}}}, "log scale needs low > 0"),
        ({"search": {"tau": {"choices": []}}}, "choices of tau must be a list of one or more"),
    ],
)
def test_one_sentence_for_each_mistake(change: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError)) as told:
        Study.of({**TINY, **change})
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"envs": ["Nowhere-v0"]}, "Nowhere"),
        ({"envs": [{"id": "PointMassGoal-v0", "eval_args": {"layot": 1}}]}, "layot"),
        ({"settings": {"hidden_size": [8]}}, "default: 'hidden_size' is no setting"),
        ({"compare": {"a": {"agent": "sac"}}}, "a: agent must be one of"),
        ({"search": {"n_critics": {"low": 0, "high": 3}}}, "search: n_critics: n_critics must be"),
        ({"search": {"batch": {"choices": [1]}}}, "search: batch: 'batch' is no setting"),
    ],
)
def test_everything_is_tried_before_hours_of_work(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says):
        Study.of({**TINY, **change}).check()


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("seeds: 3\n")
    with pytest.raises(ValueError, match=r"study\.yaml: envs is missing"):
        Study.of(path)
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match=r"study\.yaml: is no study"):
        Study.of(path)
    path.write_text("envs: [A-v0]\nthreshold: high\n")
    with pytest.raises(TypeError, match=r"study\.yaml: threshold must be a number"):
        Study.of(path)


def test_the_page_names_every_field() -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text()
    for f in [*fields(Study), *fields(World)]:
        assert f"`{f.name}`" in page, f.name


def test_a_file_names_no_module_that_the_user_did_not(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for world in ("this:PointMassGoal-v0", "{id: 'this:PointMassGoal-v0'}"):
        path.write_text(f"envs: [{world!s}]\n")
        with pytest.raises(ValueError, match="allow it with --import this"):
            Study.of(path)
        assert Study.of(path, ["this"]).envs[0].id == "this:PointMassGoal-v0"
    assert "this" not in sys.modules
