"""What the graph asks of a subgoal sampler: a query (state, goal) in, nodes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from hierebm.planning.graph.edges import EdgeRules
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.training_data import TrainingData
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

Self = TypeVar("Self", bound="SubgoalSampler")

# Stored states that compete to be subgoals in a query.
CANDIDATES = 1000
# How many are drawn for each one that is kept when draws are spread out.
OVERSAMPLING = 4


class SubgoalSampler(ABC):
    """Draws n nodes that may serve as subgoals on the way from a state to a goal.

    To bring your own, define :meth:`sample` and hand the agent the class (it is made by
    :meth:`build`) or an instance: ``subgoal_sampler=MySampler``.
    """

    @classmethod
    def build(
        cls: type[Self],
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Make one when the spaces are known; by default without any argument.

        Args:
            goal_dim: length of a point of goal space.
            config: all settings of the agent.
            generator: source of initial parameters.
            device: where networks live.
        """
        return cls()

    @abstractmethod
    def sample(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """(goal_dim,) start, (goal_dim,) goal -> n nodes (fewer only if the pool holds fewer).

        Args:
            pool: stored states; ``pool.nodes_at(points)`` makes nodes of points (n, goal_dim).
            rng: source of all draws.
            edges: tells how far apart nodes are, and whether experience verifies it; samplers that
                ask for no distances ignore it.
        """

    def lay_out(
        self,
        start: FloatArray,
        goal: FloatArray,
        n: int,
        pool: NodePool,
        rng: np.random.Generator,
        edges: EdgeRules | None = None,
    ) -> Nodes:
        """Other nodes where those of :meth:`sample` join nothing, in order if that can be."""
        return self.sample(start, goal, n, pool, rng, edges)


class LearnedSampler(SubgoalSampler):
    """A sampler with a model that is trained while the agent explores."""

    learns_from_triplets: ClassVar[bool] = True
    """Whether ``train`` asks for triplets, so that paths have to be stitched for it."""

    @classmethod
    def build(
        cls: type[Self],
        goal_dim: int,
        config: EnergyConfig,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> Self:
        """By default ``cls`` called with these arguments."""
        return cls(goal_dim, config, generator, device)  # type: ignore[call-arg]

    @abstractmethod
    def fit_scale(self, scales: InputScales) -> None:
        """Take the scales of the goal space; called once, before training."""

    @abstractmethod
    def train(self, data: TrainingData) -> dict[str, float]:
        """One gradient step on what it draws from ``data``; returns ``energy/*`` metrics, or
        nothing where a device is to be asked less often."""

    def look(self) -> dict[str, float]:
        """``energy/*`` metrics of gradient steps that :meth:`train` did not tell of; by default
        there are none.

        Raises:
            TrainingDiverged: the model was lost in one of them.
        """
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next gradient step and the next query depend on."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
