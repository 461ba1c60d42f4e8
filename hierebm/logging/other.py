"""Loggers of other libraries as outputs of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hierebm.logging.logger import Logger


def as_logger(logger: Any) -> Logger:
    """A logger of ours as it is; one of Stable-Baselines3 behind ours.

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(logger, Logger):
        return logger
    if not all(hasattr(logger, method) for method in ("record", "dump", "close")):
        raise TypeError(
            "a logger comes from hierebm.logging.configure or from "
            f"stable_baselines3.common.logger.configure, got {type(logger).__name__}"
        )
    return Logger(getattr(logger, "dir", None), [OtherLogger(logger)])


class OtherLogger:
    """An output that hands everything on to a logger with Stable-Baselines3's interface.

    Args:
        logger: where it goes.
    """

    name = "logger"
    # What only TensorBoard can show.
    _not_text = ("stdout", "log", "json", "csv")

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Record and dump."""
        for key, value in values.items():
            if isinstance(value, str):
                # Whole pages of text tear tables.
                exclude = self._not_text if "\n" in value else None
                self.logger.record(key, value, exclude=exclude)
            elif isinstance(value, float):
                self.logger.record(key, value)
            else:
                shown = _tensor(value) if isinstance(value, np.ndarray) else _of_sb3(value)
                self.logger.record(key, shown, exclude=self._not_text)
        self.logger.dump(step)

    def close(self) -> None:
        """The logger belongs to the caller, and may be gone on with."""


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.as_tensor(values)


def _of_sb3(value: Any) -> Any:
    from stable_baselines3.common import logger

    from hierebm.logging.values import HParam, Image, Video

    if isinstance(value, HParam):
        return logger.HParam(value.hparam_dict, value.metric_dict)
    if isinstance(value, Image):
        return logger.Image(value.pixels(), "HWC")
    if isinstance(value, Video):
        frames = np.ascontiguousarray(value.pixels().transpose(0, 3, 1, 2))[None]
        return logger.Video(_tensor(frames), value.fps)
    return logger.Figure(value, close=False)
