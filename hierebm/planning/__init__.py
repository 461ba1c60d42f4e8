"""The high level: subgoal samplers, the graph over subgoals, planners that follow it.

In the order of reading:

- ``planner``: the closed loop; ``graph`` and ``straightening``: its shortest paths, pulled taut;
  ``plan``: one of them as a person wants to see it;
- ``places``, ``edges``, ``experience``: what nodes are, which of them are joined, and what
  trajectories say to that;
- ``samplers``: where nodes come from; ``stitching``: what those that learn are taught with;
- ``calibration``, ``reliability``: how good distances are, up to where subgoals are reached;
- ``sequence``, ``sequence_planner``: the sequence optimiser, and the closed loop around it.
"""

from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph.stitching import stitched_between
from hierebm.planning.graph.subgoal_graph import SubgoalGraph
from hierebm.planning.graph_planner import PlannerConfig, PlanState, SubgoalPlanner
from hierebm.planning.samplers import (
    SAMPLERS,
    BetweenData,
    BetweenEnergy,
    ContrastiveSampler,
    CVAESampler,
    EBMSampler,
    EnergyConfig,
    FarthestPointSampler,
    KMeansSampler,
    LearntSampler,
    PairScore,
    ReplaySampler,
    SubgoalSampler,
    UniformSampler,
    make_sampler,
)
from hierebm.planning.sequence import SequenceConfig, SequencePlan, SequencePlanner
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner

__all__ = [
    "SAMPLERS",
    "BetweenData",
    "BetweenEnergy",
    "CVAESampler",
    "ContrastiveSampler",
    "EBMSampler",
    "EdgeRules",
    "EnergyConfig",
    "FarthestPointSampler",
    "GraphConfig",
    "KMeansSampler",
    "LearntSampler",
    "NodePool",
    "Nodes",
    "PairScore",
    "Plan",
    "PlanState",
    "PlannerConfig",
    "ReplaySampler",
    "SequenceConfig",
    "SequencePlan",
    "SequencePlanner",
    "SequenceSubgoalPlanner",
    "SubgoalGraph",
    "SubgoalPlanner",
    "SubgoalSampler",
    "UniformSampler",
    "make_sampler",
    "stitched_between",
]
