"""Imports run one way: no module needs, even late or for types, what stands above it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"hierebm": "hierebm", "envs": "hierebm.envs", "agents": "hierebm.agents"}
# From the ground up: a room is a package or a module of hierebm itself, and may use those of the
# floors below, none of its own floor.
FLOORS = (
    ("types", "errors", "files", "settings", "parts", "at_once"),
    ("envs", "nn"),
    ("checkpoint", "replay", "goal_env"),
    ("control", "energy", "data"),
    ("planning.graph", "energy.toys"),
    ("planning.samplers", "planning.sequence"),
    ("planning", "episode_loop"),
    ("evaluation", "diagnosis", "recording"),
    ("plotting",),
    ("logging",),
    ("callbacks",),
    ("agents",),
    ("cli",),
    ("sweeps",),
    ("__main__",),
)
HEIGHT = {f"hierebm.{room}": i for i, floor in enumerate(FLOORS) for room in floor}


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
    """Module -> the modules it imports; a package stands for its ``__init__``.

    The face of the whole package loads what it hands out when it is asked for, and is left out.
    """
    sources = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            sources[".".join([package, *(p for p in parts if p != "__init__")])] = path.read_text(
                encoding="utf-8"
            )
    del sources["hierebm"]
    return {name: imported(source, set(sources)) for name, source in sources.items()}


def room(module: str) -> str:
    """The innermost room that a module is in."""
    return max((name for name in HEIGHT if f"{module}.".startswith(f"{name}.")), key=len)


def test_late_and_type_checking_imports_are_seen() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from a.b import C\n"
        "def f():\n    from a import d\n    import a.e\n"
    )
    assert imported(source, {"a.b", "a.d", "a.e", "a.f"}) == {"a.b", "a.d", "a.e"}


def test_rooms_are_found() -> None:
    assert room("hierebm.planning.graph.edges") == "hierebm.planning.graph"
    assert room("hierebm.planning.planner") == "hierebm.planning"
    assert room("hierebm.energy") == "hierebm.energy"


def test_there_are_no_circles_of_modules(arrows: dict[str, set[str]]) -> None:
    assert len(arrows) > 80
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_room_uses_only_those_of_the_floors_below(arrows: dict[str, set[str]]) -> None:
    """So that there is no circle of folders either."""
    assert {room(name) for name in arrows} == set(HEIGHT)
    upward = [
        f"{name} -> {target}"
        for name, targets in sorted(arrows.items())
        for target in sorted(targets)
        if room(target) != room(name) and HEIGHT[room(target)] >= HEIGHT[room(name)]
    ]
    assert not upward, upward
