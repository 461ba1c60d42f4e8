"""One step of the agent: an action that is held for several environment steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hierebm.checkpoint.arrays import checked, plain, rows_of
from hierebm.goal_env.adapter import StepResult
from hierebm.types import BoolArray, FloatArray, GoalObservation

# No action is held for more environment steps.
LONGEST = 1_000_000


class ActionBlocks:
    """In n environments side by side, what the agent's running steps began with.

    A block ends when its action was held for ``repeat`` environment steps, or with the episode.

    Args:
        repeat: environment steps in a block.
        n: number of environments.

    Attributes:
        observation, goal, action: where each block began, what was chased, what is being done.
    """

    observation: GoalObservation
    goal: FloatArray
    action: FloatArray

    def __init__(self, repeat: int, n: int) -> None:
        self.repeat = repeat
        # Environment steps until each block ends; 0: it has ended, another action is due.
        self._left = np.zeros(n, np.int64)
        self._everywhere = np.ones(n, np.bool_)

    @property
    def due(self) -> BoolArray:
        """(n,) where another action has to be chosen."""
        return self._everywhere if self.repeat == 1 else self._left == 0

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` restores the running blocks from."""
        running = None
        if hasattr(self, "action"):
            running = [*self.observation.parts, self.goal, self.action]
        return {"repeat": self.repeat, "left": self._left, "running": running}

    def load_state_dict(self, state: Mapping[str, Any], widths: Sequence[int]) -> None:
        """Restore what :meth:`state_dict` gave.

        Args:
            state: what it gave.
            widths: lengths of the three parts of an observation, of a goal and of an action.

        Raises:
            ValueError: it is of another number of environments, or damaged.
        """
        n = len(self._left)
        self.repeat = int(plain(state, "repeat", 1, LONGEST))
        # Where nothing runs, an action is due.
        most = 0 if state["running"] is None else self.repeat
        self._left = checked(state, "left", (n,), "whole numbers", low=0, high=most)
        if state["running"] is not None:
            *observation, self.goal, self.action = rows_of(state["running"], "running", n, widths)
            self.observation = GoalObservation(*observation)

    def begin(
        self, due: BoolArray, observation: GoalObservation, goal: FloatArray, action: FloatArray
    ) -> None:
        """Begin a block where one is due; arrays of n rows, of which the others are not used."""
        if not due.all():
            old, rows = self.observation, due[:, None]
            observation = GoalObservation(
                np.where(rows, observation.observation, old.observation),
                np.where(rows, observation.achieved_goal, old.achieved_goal),
                np.where(rows, observation.desired_goal, old.desired_goal),
            )
            goal = np.where(rows, goal, self.goal)
            action = np.where(rows, action, self.action)
        self.observation, self.goal, self.action = observation, goal, action
        self._left[due] = self.repeat

    def end(self, step: StepResult) -> BoolArray:
        """(n,) whose block is complete with this environment step."""
        if self.repeat == 1:
            return step.valid
        self._left -= 1
        # The reset of an episode is no step: an action is due after it.
        self._left[step.ended | ~step.valid] = 0
        done: BoolArray = step.valid & (self._left == 0)
        return done
