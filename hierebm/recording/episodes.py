"""Steps of environments that run side by side, as episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.goal_env.spaces import KEYS
from hierebm.types import BoolArray, Float64Array

Rows = Mapping[str, NDArray[Any]]
"""A batched Dict observation, (n, ...) under each key."""


@dataclass
class RecordedEpisode:
    """T steps of one environment."""

    observations: dict[str, NDArray[Any]]
    """(T + 1, ...) under each key; the last one is the true last one, not that of a reset."""
    actions: NDArray[Any]
    """(T, ...) in the environment's units."""
    rewards: Float64Array
    terminations: BoolArray
    truncations: BoolArray
    success: BoolArray | None
    """(T + 1,) whether the goal was reached, False at the start; None where that is not known."""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def n_bytes(self) -> int:
        """Size of all values; whether an episode ended, and in success, takes a byte each."""
        observed = sum(values.nbytes for values in self.observations.values())
        return observed + self.actions.nbytes + self.rewards.nbytes + 3 * (len(self) + 1)


@dataclass
class Transitions:
    """One step of n environments side by side."""

    observation: Rows
    action: NDArray[Any]
    next_observation: Rows
    """The true next observation, also where the episode ended."""
    reward: NDArray[Any]
    terminated: BoolArray
    truncated: BoolArray
    success: BoolArray
    known: BoolArray
    """Where ``success`` is known."""
    valid: BoolArray
    """What is to be recorded: where a transition happened, and counts."""


class EpisodeRecorder:
    """Makes episodes of the transitions of environments that run side by side."""

    def __init__(self) -> None:
        # Environment -> what was observed, and each step of the episode that runs there.
        self._observed: dict[int, list[dict[str, Any]]] = {}
        self._steps: dict[int, list[tuple[Any, ...]]] = {}

    def add(self, step: Transitions) -> list[RecordedEpisode]:
        """Take a step of all environments; returns the episodes that ended with it."""
        # Copies: environments may write their next step into the same memory.
        before, after = ({key: np.array(rows[key]) for key in KEYS}
                         for rows in (step.observation, step.next_observation))  # fmt: skip
        action = np.array(step.action)
        ended = []
        for i in np.flatnonzero(step.valid).tolist():
            if i not in self._steps:
                self._steps[i], self._observed[i] = [], [_row(before, i)]
            self._observed[i].append(_row(after, i))
            # In the order of the fields of RecordedEpisode.
            values = step.reward, step.terminated, step.truncated, step.success, step.known
            self._steps[i].append((action[i], *(value[i] for value in values)))
            if step.terminated[i] or step.truncated[i]:
                ended.append(self._take(i))
        return ended

    def cut(self) -> list[RecordedEpisode]:
        """End all episodes where they are: as far as the data goes, they are truncated."""
        cut = [self._take(i) for i in sorted(self._steps)]
        for episode in cut:
            episode.truncations[-1] = True
        return cut

    def _take(self, i: int) -> RecordedEpisode:
        observed = self._observed.pop(i)
        actions, rewards, terminations, truncations, success, known = zip(
            *self._steps.pop(i), strict=True
        )
        return RecordedEpisode(
            {key: np.stack([row[key] for row in observed]) for key in KEYS},
            np.stack(actions),
            np.array(rewards, np.float64),
            np.array(terminations, np.bool_),
            np.array(truncations, np.bool_),
            np.array([False, *success], np.bool_) if any(known) else None,
        )


def _row(rows: Rows, i: int) -> dict[str, Any]:
    return {key: rows[key][i] for key in KEYS}
