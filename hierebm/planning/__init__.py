"""The high level: subgoal samplers, the graph over subgoals, planners that follow it."""

from hierebm.planning.between_energy import BetweenEnergy, EnergyConfig
from hierebm.planning.graph import GraphConfig, SubgoalGraph
from hierebm.planning.places import PlacePool, Places
from hierebm.planning.plan import Plan
from hierebm.planning.planner import PlannerConfig, PlanState, SubgoalPlanner
from hierebm.planning.samplers import (
    EBMSampler,
    FarthestPointSampler,
    ReplaySampler,
    SubgoalSampler,
)
from hierebm.planning.sequence import SequenceConfig, SequencePlan, SequencePlanner
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.planning.stitching import stitched_between

__all__ = [
    "BetweenEnergy",
    "EBMSampler",
    "EnergyConfig",
    "FarthestPointSampler",
    "GraphConfig",
    "PlacePool",
    "Places",
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
    "stitched_between",
]
