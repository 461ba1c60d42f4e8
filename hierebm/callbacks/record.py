"""A callback that writes what the agent does while it learns."""

from __future__ import annotations

import warnings
from typing import Any

from hierebm.callbacks.base import BaseCallback
from hierebm.goal_env.adapter import StepResult
from hierebm.goal_env.reward import conversion
from hierebm.goal_env.spaces import KEYS
from hierebm.recording import DatasetWriter, EpisodeRecorder, RecordedEpisode, Rows, Transitions
from hierebm.types import GoalObservation

# Steps that are kept in memory until they are written together: opening a file takes its time.
WRITE_FREQ = 10_000


class RecordCallback(BaseCallback):
    """Write every step of ``learn`` into a Minari data set, as ``hierebm.recording`` describes it.

    Observations are those that the agent learns from, as precise as float32 is. An episode that
    still runs when ``learn`` ends is cut off there and counts as truncated. Several calls of
    ``learn`` with one callback write into one data set. Where nothing can be written (a full disk),
    a warning says so once, recording ends and training goes on.

    Args:
        dataset_id: of the data set, ``NAMESPACE/NAME-v0``.
        overwrite: replace a data set of this id, at the first episodes that are written.
        verbose: 1 prints what was written.

    Raises:
        ImportError: when training starts, if Minari is not installed.
        ValueError: when training starts, if the id is malformed or is taken, where another
            callback would call it now and then only, or in ``learn_offline``.
    """

    def __init__(self, dataset_id: str, overwrite: bool = False, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.dataset_id, self.overwrite = dataset_id, overwrite
        self._writer: DatasetWriter | None = None
        self._recorder = EpisodeRecorder()
        self._waiting: list[RecordedEpisode] = []
        self._n_written = 0
        self._has_failed = False

    def _init_callback(self) -> None:
        if self.parent is not None:
            raise ValueError(
                f"RecordCallback has to see every step, but {type(self.parent).__name__} calls it "
                "now and then: give it to learn itself, in a list with the others"
            )

    def _on_training_start(self) -> None:
        if "gradient_step" in self.locals:
            raise ValueError(
                "RecordCallback records environment steps, and learn_offline takes none: give it "
                "to learn"
            )
        if self._writer is not None or self._has_failed:
            return
        agent = self.model
        self._to_env = {key: conversion(agent.observation_space[key]) for key in KEYS}
        try:
            self._writer = DatasetWriter(
                self.dataset_id, agent.observation_space, agent.action_space, agent.get_env(),
                type(agent).__name__, self.overwrite,
            )  # fmt: skip
        except OSError as error:
            self._fail(error)

    def _on_step(self) -> bool:
        if self._has_failed:
            return True
        step: StepResult = self.locals["step"]
        ended = self._recorder.add(
            Transitions(
                self._rows(self.locals["observation"]),
                self.model.spaces.to_env_action(self.locals["actions"]),
                self._rows(step.next_state),
                step.reward, step.terminated, step.truncated, step.reached, step.valid, step.valid,
            )
        )  # fmt: skip
        self._waiting += ended
        if ended and sum(map(len, self._waiting)) >= WRITE_FREQ:
            self._write()
        return True

    def _on_training_end(self) -> None:
        if self._has_failed:
            return
        self._waiting += self._recorder.cut()
        self._write()
        if self.verbose and not self._has_failed:
            self.say(f"Recorded {self._n_written} episodes in the data set {self.dataset_id}")

    def _rows(self, states: GoalObservation) -> Rows:
        """Flat rows as the environment's own observations."""
        return {key: self._to_env[key](getattr(states, key)) for key in KEYS}

    def _write(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(self._waiting)
        # h5py raises what it likes where a disk is full, and data is not worth a training run.
        except Exception as error:
            self._fail(error)
        else:
            self._n_written += len(self._waiting)
        self._waiting = []

    def _fail(self, error: Any) -> None:
        self._has_failed = True
        warnings.warn(
            f"the data set {self.dataset_id} was not written ({error}): training goes on, no more "
            "is recorded",
            RuntimeWarning,
            stacklevel=2,
        )
