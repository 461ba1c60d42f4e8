"""What can be logged besides numbers, strings and arrays; named as in Stable-Baselines3.

Stable-Baselines3's own classes of these names are taken as well: attributes tell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class HParam:
    """Hyperparameters of a run, and the metrics that runs are compared by (TensorBoard's HPARAMS).

    Attributes:
        hparam_dict: name -> value.
        metric_dict: keys of logged numbers; their values are not used.
    """

    hparam_dict: Mapping[str, Any]
    metric_dict: Mapping[str, float]


@dataclass(frozen=True)
class Image:
    """A picture.

    Attributes:
        image: pixels, uint8 or floats in [0, 1].
        dataformats: what the axes of ``image`` are: ``"HWC"`` (Gymnasium's), ``"CHW"``, ``"HW"``.
    """

    image: Any
    dataformats: str = "HWC"

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, channels) uint8.

        Raises:
            ValueError: axes that are those of no picture.
        """
        pixels, axes = to_uint8(self.image), self.dataformats.upper()
        if pixels.ndim != len(axes) or not {"H", "W"} <= set(axes) <= {*"HWC"}:
            raise ValueError(
                f"an image of the shape {pixels.shape} has no axes {self.dataformats!r}: give "
                '"HWC", "CHW" or "HW"'
            )
        if "C" not in axes:
            pixels, axes = pixels[..., None], axes + "C"
        return pixels.transpose([axes.index(axis) for axis in "HWC"])


@dataclass(frozen=True)
class Video:
    """A video.

    Attributes:
        frames: (1, time, channels, height, width), as Stable-Baselines3 has it, uint8 or floats in
            [0, 1].
        fps: frames per second.
    """

    frames: Any
    fps: float = 30.0

    def pixels(self) -> NDArray[np.uint8]:
        """(time, height, width, channels) uint8."""
        frames = to_uint8(self.frames)
        if frames.ndim != 5 or len(frames) != 1:
            raise ValueError(
                f"a video has frames (1, time, channels, height, width), not {frames.shape}"
            )
        return frames[0].transpose(0, 2, 3, 1)


def to_uint8(pixels: Any) -> NDArray[np.uint8]:
    """Pixels as uint8: floats are in [0, 1]."""
    array = np.asarray(pixels.detach().cpu() if hasattr(pixels, "detach") else pixels)
    if array.dtype.kind == "f":
        array = np.rint(np.clip(array, 0.0, 1.0) * 255.0)
    return array.astype(np.uint8)


def _plain(value: Any) -> bool | float | str:
    """A value that TensorBoard can compare; numbers are doubles there."""
    value = value.item() if isinstance(value, np.generic) else value
    fits = isinstance(value, (float, str)) or (isinstance(value, int) and abs(value) < 1 << 53)
    return value if fits else str(value)


def own_value(value: Any) -> Any:
    """Figures, images, videos and hyperparameters of any library as those of this module.

    Matplotlib figures stay as they are; None for everything else. They are known by their
    attributes, so that nothing is imported to ask.
    """
    if hasattr(value, "savefig"):
        return value
    if hasattr(value, "hparam_dict"):
        plain = {name: _plain(entry) for name, entry in value.hparam_dict.items()}
        return HParam(plain, dict(value.metric_dict))
    if hasattr(value, "dataformats"):
        return Image(value.image, value.dataformats)
    if hasattr(value, "fps") and hasattr(value, "frames"):
        return Video(value.frames, value.fps)
    figure = getattr(value, "figure", None)
    return figure if hasattr(figure, "savefig") else None
