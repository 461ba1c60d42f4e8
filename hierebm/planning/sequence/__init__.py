"""The sequence optimiser of Du, Lin & Mordatch 2019, arXiv 1909.06878.

Read ``optimizer`` first: it plans with the energy that ``transition_model`` trains and
``transition_energy`` defines; ``chains`` has the operations on batches of sequences.
"""

from hierebm.planning.sequence.chains import SequencePlan
from hierebm.planning.sequence.config import SequenceConfig
from hierebm.planning.sequence.optimizer import SequenceOptimizer
from hierebm.planning.sequence.transition_energy import TransitionEnergy
from hierebm.planning.sequence.transition_model import TransitionModel

__all__ = [
    "SequenceConfig",
    "SequenceOptimizer",
    "SequencePlan",
    "TransitionEnergy",
    "TransitionModel",
]
