"""What the tests have in common: what coverage is traced of, and how large pictures are drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
import torch  # noqa: F401  (not to be traced while the packages below are imported)
from matplotlib.figure import Figure

# Folders of tests whose packages setup.cfg names under coverage. It is what a folder's own tests
# reach: tracing would slow all others down by half.
COVERED = ("planning", "control", "replay")
TRACER = pytest.StashKey[Any]()
# Where the pixels of a picture matter.
PICTURED = ("tests/plotting/", "tests/callbacks/test_plans.py", "tests/cli/test_watch.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Trace the imports of what is covered, and nothing else before the tests."""
    module = sys.modules.get("coverage")
    coverage = module and module.Coverage.current()
    # The process that hands out the tests to others runs none.
    if coverage is None or session.config.pluginmanager.hasplugin("dsession"):
        return
    for folder in COVERED:
        package = import_module(f"hierebm.{folder}")
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    coverage.stop()
    session.config.stash[TRACER] = coverage


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Trace the tests of these folders with their fixtures, and no others."""
    coverage = item.config.stash.get(TRACER, None)
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    traced = coverage is not None and folder in COVERED
    if traced:
        coverage.start()
    yield
    if traced:
        coverage.stop()


@pytest.fixture(scope="session", autouse=True)
def coarse_pictures() -> Iterator[None]:
    """Draw pictures with few pixels and without fitting them, but for the tests of pictures."""
    savefig = Figure.savefig

    def coarse(figure: Figure, *args: Any, **kwargs: Any) -> None:
        if not os.environ["PYTEST_CURRENT_TEST"].startswith(PICTURED):
            figure.set_layout_engine("none")
            kwargs["dpi"] = 25
        savefig(figure, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", coarse)
        yield
