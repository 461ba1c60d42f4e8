"""The errors that callers may want to catch by name."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file that cannot be loaded as a checkpoint; the message says why and what to do."""


class DatasetError(ValueError):
    """A file that cannot be read as a data set; the message says why and what to do."""


class TrainingDiverged(FloatingPointError):
    """A network became NaN, infinite or absurdly large; the message says which, and what to do."""
