"""What an agent keeps of where a low level on a GPU gets its batches from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hierebm.replay.device_batches import HindsightBatches, HostBatches
from hierebm.types import FloatArray


@dataclass
class KeptBatches:
    """Made and used by :mod:`~hierebm.agents.batches`."""

    source: HindsightBatches | HostBatches | None = None
    made_for: tuple[Any, ...] = ()
    """What the source is of: another one is made where something of it is another."""
    axes: FloatArray | None = None
    """(goal_dim,) see :func:`~hierebm.replay.ellipsoid.ellipsoid_of`."""
    asked_at: int = 0
    """Stored steps when that was asked last."""
