"""What plans are made of: one object, owned by the high level, read by planners and samplers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.edges import DistanceModel, EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.novelty_walk import NoveltyWalk
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray, ReachedFn


@dataclass
class PlanningContext:
    """What a planner may ask; the high level replaces the later fields as the agent learns."""

    config: Any
    """All settings of the agent."""
    goal_dim: int
    """Length of a point of goal space."""
    model: DistanceModel
    """The low level's distances."""
    reached: ReachedFn
    """Whether an achieved goal counts as a goal."""
    generator: torch.Generator
    """Source of initial parameters."""
    device: torch.device
    """Where networks live."""
    scales: InputScales | None = None
    """Scales of goals and the length of a step; None until there is enough experience."""
    pool: NodePool | None = None
    """Stored states that nodes are made of; None until there is enough experience."""
    transition_map: TransitionMap | None = None
    """Which landmarks trajectories joined; None where the settings do without."""
    novelty_walk: NoveltyWalk | None = None
    """Chooses actions from the frontier on; None where there is no transition map."""
    edge_cutoff: EdgeCutoff | None = None
    """Up to how many predicted steps subgoals are reached; None where that is not estimated."""

    effort: int = 1
    """Rounds of training that one round stands for: more where all experience is there at once."""
    action_repeat: int = 1
    """Environment steps in a step of the agent, the unit of distances."""

    @property
    def step_length(self) -> float:
        """How much of a step of the agent an environment step is."""
        return 1.0 / self.action_repeat

    @property
    def safe_edge(self) -> float:
        """Predicted steps up to which an edge is safe, as calibrated so far."""
        if self.edge_cutoff is None:
            return float(self.config.safe_edge)
        return self.edge_cutoff.safe_edge

    @property
    def edges(self) -> EdgeRules:
        """How nodes are joined, by what is known now.

        Raises:
            RuntimeError: before the scales are known.
        """
        c = self.config
        graph = GraphConfig(c.max_edge, self.safe_edge, c.unverified_cost)
        return EdgeRules(self.model, graph, self.step_scale, self.reached, self.transition_map)

    @property
    def step_scale(self) -> FloatArray:
        """(goal_dim,) how far one step at full speed goes. Raises RuntimeError if not known yet."""
        if self.scales is None:
            raise RuntimeError("the length of a step is not known yet; call learn() first")
        return self.scales.step

    @property
    def experienced(self) -> NodePool:
        """The pool. Raises RuntimeError if there is no experience to plan with yet."""
        if self.pool is None:
            raise RuntimeError("there is no experience to plan with yet; call learn() first")
        return self.pool
