"""Trained optimisers that several modules ask; none of the tests trains them further."""

from __future__ import annotations

import pytest

from hierebm.planning.sequence import SequenceOptimizer
from tests.planning.sequence.random_walk import trained


@pytest.fixture(scope="session")
def open_optimizer() -> SequenceOptimizer:
    return trained(False, 150)


@pytest.fixture(scope="session")
def wall_optimizer() -> SequenceOptimizer:
    return trained(True, 500)
