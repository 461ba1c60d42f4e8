"""Subgoal samplers: queries (state, goal) in, places that may serve as subgoals out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.training_data import BetweenData
from hierebm.types import FloatArray


class SubgoalSampler(ABC):
    """Draws n places that may serve as subgoals on the way from a state to a goal."""

    @abstractmethod
    def sample_batch(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rngs: Sequence[np.random.Generator],
        edges: EdgeRules | None = None,
    ) -> list[Nodes]:
        """(q, goal_dim), (q, goal_dim) -> q times n places (fewer only if the pool holds fewer).

        Args:
            rngs: one source of draws for each query, so that an answer does not depend on what
                else is asked.
            edges: tells how far apart places are, and whether experience bears it out; samplers
                that ask for no distances ignore it.

        Raises:
            ValueError: settings that need distances, without ``edges``.
        """

    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """One query: (goal_dim,), (goal_dim,) -> n places; else as :meth:`sample_batch`."""
        return self.sample_batch(start[None], goal[None], n, pool, [rng], edges)[0]


class LearntSampler(SubgoalSampler):
    """A sampler with a model that is trained while the agent explores."""

    learns_from_triplets: ClassVar[bool] = True
    """Whether ``train`` asks for triplets, so that paths have to be stitched for it."""

    @abstractmethod
    def fit_scale(self, shift: Tensor, scale: Tensor, step_scale: Tensor) -> None:
        """Fit the inputs' scaling. Call it once, before training.

        Args:
            shift, scale: (goal_dim,) middle and half range of the goal space.
            step_scale: (goal_dim,) how far one step at full speed goes.
        """

    @abstractmethod
    def train(self, data: BetweenData) -> dict[str, float]:
        """One gradient step on what it draws from ``data``; returns ``energy/*`` metrics."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next gradient step and the next query depend on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
