"""Outputs of metrics: TensorBoard, JSON lines, a table on the terminal."""

from hierebm.logging.logger import Logger, configure

__all__ = ["Logger", "configure"]
