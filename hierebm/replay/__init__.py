"""Experience: the episode ring, hindsight relabelling, between-triplets."""

from hierebm.replay.episodes import EpisodeReplay
from hierebm.replay.hindsight import ReachedFn, TransitionBatch, sample_transitions
from hierebm.replay.triplets import BetweenTriplets, sample_between, sample_pairs

__all__ = [
    "BetweenTriplets",
    "EpisodeReplay",
    "ReachedFn",
    "TransitionBatch",
    "sample_between",
    "sample_pairs",
    "sample_transitions",
]
