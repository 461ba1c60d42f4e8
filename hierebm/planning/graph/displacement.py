"""Where actions lead: the step in goal space as a linear function of the action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.at_once import set_at_once
from hierebm.checkpoint.arrays import checked
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray, IntArray

# Moves of more than this many full-speed steps are jumps, which no action explains; they count as
# that long.
JUMP = 3.0
# Weight of the prior that actions move nothing, in transitions (ridge regression).
PRIOR = 10.0


class DisplacementModel:
    """Least squares, over all experience: from actions to the steps of the achieved goal.

    Args:
        action_dim: length of an action.
        step_scale: (goal_dim,) how far one step at full speed goes; the unit of predictions.
    """

    def __init__(self, action_dim: int, step_scale: FloatArray) -> None:
        self.action_dim, self.step_scale = action_dim, step_scale
        # Sums of products of (action, 1) with itself and with the steps.
        self._moments = PRIOR * np.eye(action_dim + 1)
        self._products = np.zeros((action_dim + 1, len(step_scale)))

    def add(self, replay: EpisodeReplay, rows: IntArray) -> None:
        """Learn from the transitions at these rows of the replay."""
        moved = replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows]
        steps = np.clip(moved / self.step_scale, -JUMP, JUMP).astype(np.float64)
        inputs = _with_one(replay.action[rows])
        set_at_once(
            self,
            _moments=self._moments + inputs.T @ inputs,
            _products=self._products + inputs.T @ steps,
        )

    def predict(self, action: NDArray[Any]) -> NDArray[np.float64]:
        """(n, action_dim) in [-1, 1] -> (n, goal_dim) full-speed steps that one step goes."""
        weights = np.linalg.solve(self._moments, self._products)
        result: NDArray[np.float64] = _with_one(action) @ weights
        return result

    def commanded(self, action: NDArray[Any]) -> NDArray[np.float64]:
        """(n, action_dim) in [-1, 1] -> (n, goal_dim) full-speed steps that the actions add to what
        happens without any."""
        action = np.asarray(action)
        result: NDArray[np.float64] = self.predict(action) - self.predict(np.zeros_like(action[:1]))
        return result

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores it from."""
        return {"moments": self._moments, "products": self._products}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is of other lengths."""
        n = self.action_dim + 1
        moments = checked(arrays, "moments", (n, n))
        products = checked(arrays, "products", (n, len(self.step_scale)))
        # Sums of squares and a prior; anything else may not be solved for.
        if not np.allclose(moments, moments.T) or np.linalg.eigvalsh(moments)[0] < PRIOR / 2.0:
            raise ValueError("the array 'moments' is none of actions")
        self._moments, self._products = moments.astype(np.float64), products.astype(np.float64)


def _with_one(action: NDArray[Any]) -> NDArray[np.float64]:
    return np.concatenate([action, np.ones((len(action), 1))], axis=1, dtype=np.float64)
