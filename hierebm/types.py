"""Types that every part of the package speaks in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LARGEST = 1e18
"""No number of an environment, a data set or a file is larger: squares of differences, and sums of
them, have to be float32 numbers, too."""

ReachedFn = Callable[[FloatArray, FloatArray], BoolArray]
"""(achieved (n, goal_dim), goal (n, goal_dim)) -> (n,) whether the goal counts as reached."""

StepsFn = Callable[[FloatArray, FloatArray], NDArray[np.floating]]
"""(n, goal_dim), (n, goal_dim) -> (n,) true steps along the shortest path."""


@dataclass(slots=True)
class GoalObservation:
    """A batch of goal observations: (n, obs_dim), (n, goal_dim), (n, goal_dim) float32."""

    observation: FloatArray
    achieved_goal: FloatArray
    desired_goal: FloatArray

    @property
    def parts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The three of them."""
        return self.observation, self.achieved_goal, self.desired_goal

    def __getitem__(self, index: Any) -> GoalObservation:
        return GoalObservation(
            self.observation[index], self.achieved_goal[index], self.desired_goal[index]
        )
