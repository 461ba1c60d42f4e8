"""The agent as callbacks look at it that were written for Stable-Baselines3."""

from __future__ import annotations

from typing import Any

from hierebm.goal_env.vec_env import TrainingEnv


class ModelView:
    """An agent whose environment has what callbacks ask of a ``VecEnv``.

    Everything else is the agent's own, for reading and for setting.

    Args:
        agent: which.
    """

    def __init__(self, agent: Any) -> None:
        object.__setattr__(self, "_agent", agent)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The agent's, for ``isinstance``."""
        return type(self._agent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._agent, name, value)

    def __repr__(self) -> str:
        return repr(self._agent)

    def get_env(self) -> Any:
        """The environment, with ``num_envs``, ``get_attr`` and ``env_method``."""
        return TrainingEnv.of(self._agent.get_env())
