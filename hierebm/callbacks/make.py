"""Whatever a user may pass as ``callback``, as one callback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hierebm.callbacks.base import BaseCallback, CallbackList, Hook, as_callback
from hierebm.callbacks.progress import ProgressBarCallback

MaybeCallback = Hook | BaseCallback | Sequence[Hook | BaseCallback] | None


def make_callback(callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
    """Whatever a user may pass as ``callback``, as one callback.

    Args:
        callback: None, a callback, a plain function, or a list of those. Callbacks that were
            written for Stable-Baselines3 are taken as they are.
        progress_bar: add a :class:`ProgressBarCallback`.

    Raises:
        TypeError: something else.
    """
    callbacks = [as_callback(entry) for entry in _entries(callback)]
    if progress_bar:
        callbacks.append(ProgressBarCallback())
    return callbacks[0] if len(callbacks) == 1 else CallbackList(callbacks)


def _entries(callback: MaybeCallback) -> list[Any]:
    if callback is None:
        return []
    if isinstance(callback, Iterable):
        return list(callback)
    return [callback]
