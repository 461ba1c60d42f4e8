"""Whether an environment and its ``compute_reward`` mean the same by success."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from hierebm.goal_env.autoreset import EnvStep
from hierebm.goal_env.reward import GoalReward
from hierebm.types import LARGEST, BoolArray

# Steps that are looked at from the beginning, and ends of episodes at which a goal was reached.
FIRST_STEPS, SUCCESSES = 48, 200
# A single disagreement may be a matter of rounding, on the very edge of the success tolerance.
DISAGREEMENTS = 2


class Agreement:
    """Warns once where a goal is reached by one word and not by the other.

    Looks at the first steps and at the ends of episodes, until enough goals were reached.

    Args:
        reward: ``compute_reward`` of the environment.
    """

    def __init__(self, reward: GoalReward) -> None:
        self._reward = reward
        self._steps, self._successes, self._disagreements = 0, 0, 0
        # What compute_reward pays elsewhere than at the goal, once a step was paid the same: a
        # wrapper may scale rewards, then they are not compared.
        self._elsewhere: float | None = None

    @property
    def seen(self) -> tuple[int, int, int, float | None]:
        """What was seen so far; may be set."""
        return self._steps, self._successes, self._disagreements, self._elsewhere

    @seen.setter
    def seen(self, seen: Sequence[Any]) -> None:
        *counts, elsewhere = seen
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError(f"{counts} are no numbers of steps, successes and disagreements")
        if elsewhere is not None and not (
            isinstance(elsewhere, float) and abs(elsewhere) <= LARGEST
        ):
            raise ValueError(f"{elsewhere!r:.60} is no reward")
        self._steps, self._successes, self._disagreements = counts
        self._elsewhere = elsewhere

    def watches(self, step: EnvStep) -> bool:
        """Whether :meth:`look` is to be called for this step."""
        if self._disagreements >= DISAGREEMENTS:
            return False
        if self._steps < FIRST_STEPS:
            return True
        return self._successes < SUCCESSES and bool(np.count_nonzero(step.ended))

    def pays_for_success(self, step: EnvStep, best: float) -> BoolArray:
        """(n,) whether the step itself was paid as ``compute_reward`` pays at the goal."""
        alike: BoolArray = np.abs(step.reward - best) <= 1e-6
        return alike & (self._elsewhere is not None)

    def look(self, step: EnvStep, observation: Any, best: float, same_goal: BoolArray) -> None:
        """Compare the words of one step.

        Args:
            observation: the true next one, as the environment gave it.
            best: what ``compute_reward`` pays for standing on a goal.
            same_goal: (n,) whether its desired goal is that of the step before: where it is the
                next one already, nothing can be compared.
        """
        looked_at = step.valid & same_goal & (step.ended | (self._steps < FIRST_STEPS))
        self._steps += 1
        paid = self._reward.between(
            np.asarray(observation["achieved_goal"]), np.asarray(observation["desired_goal"])
        )
        reached = paid >= best - 1e-6
        alike = looked_at & ~reached & (np.abs(step.reward - paid) <= 1e-6)
        if alike.any():
            self._elsewhere = float(paid[alike.argmax()])
        success, reported = step.infos.success()
        by_info = reported & (success != reached)
        by_reward = self.pays_for_success(step, best) & ~reached
        if self._elsewhere is not None:
            by_reward |= (np.abs(step.reward - self._elsewhere) <= 1e-6) & reached
        wrong = looked_at & (by_info | by_reward)
        self._successes += int(np.count_nonzero(looked_at & (reached | success)))
        self._disagreements += int(np.count_nonzero(wrong))
        if self._disagreements >= DISAGREEMENTS:
            first = int(wrong.argmax())
            _warn(bool(reached[first]), "info" if by_info[first] else "reward")


def _warn(reached: bool, word: str) -> None:
    by = 'info["is_success"] (or "success")' if word == "info" else "the reward of the step"
    counts, does_not = ("compute_reward", by) if reached else (by, "compute_reward")
    warnings.warn(
        "the environment and its compute_reward disagree about success: where a step ended, "
        f"{counts} counts the goal as reached and {does_not} does not. Learning goes by "
        "compute_reward, success rates by what info says: let the environment use one condition "
        "for reward, is_success, terminated and compute_reward",
        stacklevel=2,
    )
