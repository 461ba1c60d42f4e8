"""The state that learning goes back to when a network diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from hierebm.checkpoint.tensors import with_nan
from hierebm.errors import TrainingDiverged

# Updates between two copies: copying takes about as long as one update.
COPY_EVERY = 500


class Learner(Protocol):
    """What can be copied and put back."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""


class LastGood:
    """A copy of a learner's state, at most some hundred updates old, that holds no NaN."""

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None
        self._updates = 0

    def forget(self) -> None:
        """Copy again before the next update: what was learned is seen otherwise from now on."""
        self._state = None

    @contextmanager
    def kept(self, learner: Learner, updates: int = 1) -> Iterator[None]:
        """Around updates of the learner: if it diverges, it becomes what it was.

        Args:
            updates: that are made in the block.

        Raises:
            TrainingDiverged: it diverged.
        """
        try:
            if self._state is None or self._updates >= COPY_EVERY:
                # A learner on a GPU may say only now that it has diverged.
                self._state, self._updates = _good_copy(learner), 0
            yield
        except TrainingDiverged as error:
            if self._state is None:
                raise
            learner.load_state_dict(self._state)
            raise TrainingDiverged(
                f"{error}. The networks are again what they were {self._updates} update(s) before: "
                "agent.save(path) saves them, and learning can go on with other settings"
            ) from error
        self._updates += updates


def check_metrics(learner: Learner, metrics: Mapping[str, float]) -> None:
    """Raise TrainingDiverged where a metric of an update is not finite because a network is not.

    A metric may say NaN where there was nothing to measure.
    """
    for name, value in metrics.items():
        if not math.isfinite(value) and (bad := next(with_nan(learner.state_dict()), None)):
            raise TrainingDiverged(
                f"training diverged: {name} is {value:.3g}, and {bad} of {type(learner).__name__} "
                "holds NaN. Lower the learning rate, or look for outliers in what the environment "
                "observes"
            )


def _good_copy(learner: Learner) -> dict[str, Any]:
    state: dict[str, Any] = _copied(learner.state_dict())
    if bad := next(with_nan(state), None):
        raise TrainingDiverged(
            f"{bad} of {type(learner).__name__} holds NaN already: load an earlier file, or train "
            "again"
        )
    return state


def _copied(tree: Any) -> Any:
    """The same tree with tensors of its own."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {key: _copied(part) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(_copied, tree))
    return tree
