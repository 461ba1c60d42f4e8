"""Coverage is what a folder's own tests reach. Tracing would slow all others down by half."""

from __future__ import annotations

from pathlib import Path

import pytest

COVERED = {"planning", "control", "replay"}
"""Folders of tests whose packages ``setup.cfg`` names under coverage."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trace no test of another folder."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] not in COVERED:
            item.add_marker("no_cover")
