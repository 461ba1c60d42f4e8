"""Stored rows from which the achieved goal still goes somewhere before its episode ends.

Where an agent pushes a block, the achieved goal is the block's position, and it stands still until
the block is touched. Nearly every state of early experience is followed by none but goals that are
already reached there; these rows are the others.
"""

from __future__ import annotations

import numpy as np

from hierebm.at_once import set_at_once
from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import IntArray

# Of a full buffer, the share of the oldest rows that is left out: the running episodes may have
# overwritten them.
OLDEST = 1 / 16


class MovingRows:
    """Rows of ended episodes after which the achieved goal travels farther than a tolerance.

    They are looked for again when an episode has ended: at any moment they depend on nothing but
    what is stored.

    Args:
        replay: where the rows are.
        tolerance: length in goal space, not negative: whoever travels less reaches no other goal.
    """

    def __init__(self, replay: EpisodeReplay, tolerance: float) -> None:
        self.replay, self.tolerance = replay, tolerance
        self._found: tuple[int, IntArray] = (-1, np.zeros(0, np.int64))

    def rows(self) -> IntArray:
        """(n,) flat indices; a few of a full buffer may be of the running episode by now."""
        # Episodes begin later and later: their sum says whether one has ended.
        begun = int(self.replay.episode_start.sum())
        seen, rows = self._found
        if seen != begun:
            rows = self._find()
            set_at_once(self, _found=(begun, rows))
        return rows

    def _find(self) -> IntArray:
        replay = self.replay
        ended = np.flatnonzero(replay.has_action & (replay.episode_end >= 0))
        env, end = ended % replay.n_envs, replay.episode_end[ended]
        last = (end % replay.n_slots) * replay.n_envs + env
        left = replay.arc_length[last] - replay.arc_length[ended]
        time = end - replay.steps_left(ended)
        oldest = replay.episode_start - int(replay.n_slots * (1.0 - OLDEST))
        moving: IntArray = ended[(left > self.tolerance) & (time >= oldest[env])]
        return moving
