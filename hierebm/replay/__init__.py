"""Experience: the episode ring, hindsight relabelling, between-triplets."""

from hierebm.replay.between import BetweenTriplets, sample_between, sample_pairs
from hierebm.replay.covered import CoveredGround
from hierebm.replay.episodes import EpisodeReplay
from hierebm.replay.hindsight import TransitionBatch, sample_transitions
from hierebm.types import ReachedFn

__all__ = [
    "BetweenTriplets",
    "CoveredGround",
    "EpisodeReplay",
    "ReachedFn",
    "TransitionBatch",
    "sample_between",
    "sample_pairs",
    "sample_transitions",
]
