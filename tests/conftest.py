"""What the tests have in common: what coverage is traced of, and how large pictures are drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

# Folders of tests whose packages setup.cfg names under coverage. It is what a folder's own tests
# reach: tracing would slow all others down by half.
COVERED = {"planning", "control", "replay"}
# Where the pixels of a picture matter.
PICTURED = ("tests/plotting/", "tests/callbacks/test_plans.py", "tests/cli/test_watch.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trace no test of another folder."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] not in COVERED:
            item.add_marker("no_cover")


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
