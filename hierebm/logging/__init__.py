"""Outputs of metrics: TensorBoard, JSON lines, a table on the terminal."""

from hierebm.logging.logger import Logger, configure
from hierebm.logging.values import HParam, Image, Video

__all__ = ["HParam", "Image", "Logger", "Video", "configure"]
