"""What an agent asks of its low level: a goal-conditioned policy that knows distances in steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from hierebm.replay.hindsight import TransitionBatch
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray


class LowLevel(ABC):
    """A policy for goals that are near, and how many steps each goal is away.

    All arrays are float32 rows: observation (n, obs_dim), achieved goal and goal (n, goal_dim),
    action (n, action_dim) in [-1, 1]; the agent scales actions to the environment's bounds.

    To bring your own, define :meth:`act` and :meth:`distance`, and :meth:`update` if it learns.
    Hand the agent the class (``low_level=MyLowLevel``; it is made by :meth:`build`) or an instance.
    """

    trainable: bool = True
    """False for a frozen policy: the agent then trains only its high level."""

    has_behavior_term: bool = True
    """False where :meth:`update` refuses every ``behavior_weight`` but 0."""

    @classmethod
    def build(
        cls,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        config: Any,
        generator: torch.Generator,
        device: torch.device,
    ) -> LowLevel:
        """Make one when the spaces are known; by default ``cls`` called with these arguments, or
        with none where it has no constructor.

        Args:
            config: all settings of the agent.
            generator: source of initial parameters.
            device: where networks live.
        """
        if cls.__init__ is object.__init__:
            return cls()
        return cls(obs_dim, goal_dim, action_dim, config, generator, device)  # type: ignore[call-arg]

    @abstractmethod
    def act(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(n, action_dim) actions in [-1, 1], without exploration noise."""

    def at_full(self, action: FloatArray) -> FloatArray:
        """(n, action_dim) what :meth:`act` gave -> the actions that ``predict`` takes.

        For a policy that training keeps away from the bounds of actions; by default the same.
        """
        return action

    @abstractmethod
    def distance(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """(n,) predicted steps to each goal under this policy, at least 1.

        Planning seeks out what is predicted too near: rather too far. Of an ensemble of critics,
        give the largest distance.
        """

    def update(self, batch: TransitionBatch, behavior_weight: float = 0.0) -> dict[str, float]:
        """One gradient step on relabelled transitions; returns ``train/*`` metrics.

        Learning online calls ``update(batch)``: a low level that takes no ``behavior_weight``
        learns there, but not from offline data.

        Args:
            batch: rows of experience, each with a goal.
            behavior_weight: at least 0, how much the policy is held to the actions of the batch
                (behaviour term). Data that others collected says nothing of other actions, and
                critics are wrong about them.

        Raises:
            TypeError: for a low level that does not learn.
            ValueError: for a weight, where there is no behaviour term (:attr:`has_behavior_term`).
        """
        raise TypeError(f"{type(self).__name__} does not learn: set trainable = False")

    def check_spaces(self, observation_space: spaces.Dict, action_space: spaces.Box) -> None:  # noqa: B027
        """Raise ValueError unless it can act in these spaces; called when they are known."""

    def fit_scale(self, scales: InputScales) -> None:  # noqa: B027
        """Take the scales of inputs; called once, before the first update."""

    def refit_scale(self, scales: InputScales) -> None:  # noqa: B027
        """Take scales that were measured again on more experience; by default nothing happens.

        Called after updates, when the number of stored transitions has doubled and a scale of an
        observation or a goal turned out wrong by more than a factor of two. The shift of goals and
        the length of a step are those of :meth:`fit_scale`. Keep what was learned: rescale the
        weights that read the inputs, or leave the inputs as they are.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update and query depend on, as nested dicts of tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore what :meth:`state_dict` gave, in place."""


def check_action(low_level: LowLevel, action: Any, shape: tuple[int, int]) -> None:
    """Raise ValueError where ``act`` gave something else than finite actions (n, action_dim)."""
    good = isinstance(action, np.ndarray) and action.shape == shape
    if not good or not np.isfinite(action).all():
        got = action.shape if isinstance(action, np.ndarray) else type(action).__name__
        raise ValueError(
            f"{type(low_level).__name__}.act must return a NumPy array of shape {shape}, finite "
            f"actions in [-1, 1], got {'NaN or infinity' if good else got}"
        )
