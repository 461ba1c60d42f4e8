"""Every low level by its name."""

from __future__ import annotations

from typing import Any

from hierebm.control.base import LowLevel
from hierebm.control.ddpg_kernels import FastDistanceDDPG
from hierebm.control.inverse import InverseModel
from hierebm.parts import find_part

LOW_LEVELS: dict[str, type[LowLevel]] = {"ddpg": FastDistanceDDPG, "inverse": InverseModel}


def find_low_level(given: Any) -> LowLevel | type[LowLevel]:
    """The class or instance of a low level by name, class or instance.

    Raises:
        ValueError, TypeError: anything else.
    """
    return find_part("low_level", given, LowLevel, LOW_LEVELS)
