"""Imports run one way: no module needs, even late or for types, what stands above it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"hierebm": "hierebm", "envs": "hierebm.envs", "agents": "hierebm.agents"}


def imported(source: str, modules: set[str]) -> set[str]:
    """Which of the modules a source imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from package import name` may mean a module or something in the package.
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= below & modules or {str(node.module)}
    return names & modules


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """Module -> the modules it imports. Packages' faces only hand names on and are left out."""
    sources = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "__init__.py":
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                sources[".".join([package, *parts])] = path.read_text(encoding="utf-8")
    return {name: imported(source, set(sources)) for name, source in sources.items()}


def test_late_and_type_checking_imports_are_seen() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from a.b import C\n"
        "def f():\n    from a import d\n    import a.e\n"
    )
    assert imported(source, {"a.b", "a.d", "a.e", "a.f"}) == {"a.b", "a.d", "a.e"}


def test_there_are_no_circles(arrows: dict[str, set[str]]) -> None:
    assert len(arrows) > 60
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def layer(module: str) -> str:
    """The package that a module is in; the modules of hierebm itself are a layer as well."""
    return module.rpartition(".")[0]


def test_every_layer_imports_only_those_below(arrows: dict[str, set[str]]) -> None:
    models = {"hierebm.nn", "hierebm.replay", "hierebm.energy", "hierebm.control"}
    planning = {"hierebm.planning", "hierebm.planning.samplers", "hierebm.planning.sequence"}
    planning |= models
    below = {
        "hierebm.envs": set(),
        "hierebm.nn": set(),
        "hierebm.replay": {"hierebm.nn"},
        "hierebm.energy": {"hierebm.nn", "hierebm.replay"},
        "hierebm.control": {"hierebm.nn", "hierebm.replay"},
        "hierebm.planning.sequence": models,
        # Samplers draw places and ask for edges; planners draw from samplers.
        "hierebm.planning.samplers": {*models, "hierebm.planning"},
        "hierebm.planning": {*models, "hierebm.planning.samplers", "hierebm.planning.sequence"},
        "hierebm": planning,
        "hierebm.agents": {*planning, "hierebm"},
    }
    assert {layer(name) for name in arrows} == set(below)
    for name, targets in arrows.items():
        upward = {t for t in targets if layer(t) not in {layer(name), *below[layer(name)]}}
        assert not upward, name
