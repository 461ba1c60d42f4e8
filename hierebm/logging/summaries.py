"""Values of the log as TensorBoard's protocol buffers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hierebm.logging.values import HParam, Image, Video

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def summary_values(key: str, value: Any) -> Iterator[Any]:
    """The entries of a summary that stand for one value of the log."""
    from tensorboard.compat.proto import summary_pb2

    if isinstance(value, HParam):
        yield from _hparams(value)
    elif isinstance(value, str):
        yield _text(key, value)
    elif isinstance(value, float):
        yield summary_pb2.Summary.Value(tag=key, simple_value=value)
    elif isinstance(value, np.ndarray):
        yield summary_pb2.Summary.Value(tag=key, histo=_histogram(value))
    else:
        yield summary_pb2.Summary.Value(tag=key, image=_image(value))


def _text(key: str, text: str) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2

    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    return summary_pb2.Summary.Value(
        tag=f"{key}/text_summary",
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=tensor_pb2.TensorProto(
            dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape
        ),
    )


def _hparams(value: HParam) -> Iterator[Any]:
    from tensorboard.plugins.hparams import summary_v2 as hparams

    names = [hparams.HParam(name) for name in value.hparam_dict]
    metrics = [hparams.Metric(tag) for tag in value.metric_dict]
    yield from hparams.hparams_config_pb(names, metrics).value
    yield from hparams.hparams_pb(dict(value.hparam_dict)).value


def _image(value: Figure | Image | Video) -> Any:
    from tensorboard.compat.proto import summary_pb2

    if isinstance(value, (Image, Video)):
        pixels = value.pixels()
        height, width, channels = pixels.shape[-3:]
        encoded = _encoded(pixels, value)
    else:
        from hierebm.plotting.drawing import figure_to_png

        width, height = (int(side) for side in value.canvas.get_width_height())
        channels, encoded = 4, figure_to_png(value)
    return summary_pb2.Summary.Image(
        width=width, height=height, colorspace=channels, encoded_image_string=encoded
    )


def _encoded(pixels: np.ndarray, value: Image | Video) -> bytes:
    """A PNG, or of a video a GIF, which TensorBoard plays."""
    if isinstance(value, Video):
        from hierebm.plotting.drawing import frames_to_gif

        return frames_to_gif(pixels, value.fps)
    from PIL import Image as Picture

    buffer = io.BytesIO()
    Picture.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _histogram(values: np.ndarray) -> Any:
    from tensorboard.compat.proto import summary_pb2

    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        finite = np.zeros(1)
    counts, edges = np.histogram(finite, bins=30)
    return summary_pb2.HistogramProto(
        min=finite.min(),
        max=finite.max(),
        num=finite.size,
        sum=finite.sum(),
        sum_squares=float(finite @ finite),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.astype(np.float64).tolist(),
    )
