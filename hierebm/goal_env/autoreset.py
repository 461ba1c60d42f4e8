"""How Gymnasium's environments tell that an episode was a success and how the next one begins."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

SUCCESS_KEYS = ("is_success", "success")
"""Keys of an info that say whether the episode was a success, the usual one first."""


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """When a vector environment resets what has ended; ``NEXT_STEP`` where it does not say."""
    return AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
