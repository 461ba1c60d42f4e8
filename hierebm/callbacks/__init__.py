"""Callbacks of ``learn``, with Stable-Baselines3's hooks and names.

A callback subclasses :class:`BaseCallback` and defines ``_on_step`` (and whichever other hook it
needs); a plain function ``callback(locals, globals) -> bool`` does as well. False stops training.
"""

from hierebm.callbacks.base import (
    BaseCallback,
    CallbackList,
    ConvertCallback,
    EventCallback,
    EveryNTimesteps,
)
from hierebm.callbacks.checkpoint import CheckpointCallback
from hierebm.callbacks.evaluation import EvalCallback, StopTrainingOnSuccess
from hierebm.callbacks.make import MaybeCallback, make_callback
from hierebm.callbacks.plans import PlanFigureCallback
from hierebm.callbacks.progress import ProgressBarCallback
from hierebm.callbacks.record import RecordCallback

__all__ = [
    "BaseCallback",
    "CallbackList",
    "CheckpointCallback",
    "ConvertCallback",
    "EvalCallback",
    "EventCallback",
    "EveryNTimesteps",
    "MaybeCallback",
    "PlanFigureCallback",
    "ProgressBarCallback",
    "RecordCallback",
    "StopTrainingOnSuccess",
    "make_callback",
]
