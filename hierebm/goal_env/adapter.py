"""Any Gymnasium goal environment, single or vectorised, as flat rows for learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from hierebm.goal_env.agreement import Agreement
from hierebm.goal_env.autoreset import AutoresetEnv, EnvStep
from hierebm.goal_env.make import make_env
from hierebm.goal_env.reward import GoalReward
from hierebm.goal_env.spaces import GoalSpaces
from hierebm.goal_env.vec_env import VecEnv, VecEnvAdapter
from hierebm.types import BoolArray, FloatArray, GoalObservation

__all__ = ["EnvLike", "GoalEnv", "GoalObservation", "GoalSpaces", "StepResult"]

EnvLike = str | gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv
"""What is taken for an environment: its id, the environment, or a vector of them, Gymnasium's or
Stable-Baselines3's."""


@dataclass(slots=True)
class StepResult:
    """What one step of every environment brought; arrays of length n."""

    next_state: GoalObservation
    """The true next state, also where the episode ended."""
    current: GoalObservation
    """Where to act next: ``next_state``, or after an end the new episode's first state."""
    reward: NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray
    success: BoolArray
    """The episode ended in success: what its info says, else whether the goal is reached."""
    reached: BoolArray
    """The goal is reached with this transition: what its info says, else what compute_reward does
    of the goal that was desired before it."""
    valid: BoolArray
    """False where the step was the automatic reset of NEXT_STEP mode: no transition happened."""
    ended: BoolArray
    """The episode ended with this transition."""
    failure: BoolArray
    """Failure terminal: it terminated without success by any word, a failure for any goal."""
    n_valid: int
    """How many transitions happened."""
    infos: Sequence[dict[str, Any]]
    """The info of each environment."""


class GoalEnv:
    """``n_envs`` goal environments behind one interface, whatever their autoreset mode.

    Args:
        env: an id, an environment or a vector environment.

    Raises:
        TypeError, ValueError: if it is no goal environment with continuous, bounded actions, if
            it has no ``compute_reward``, or if that reward is not sparse.
    """

    def __init__(self, env: EnvLike) -> None:
        # The id that the environment was made from here, if it was.
        self.made_from = env if isinstance(env, str) else None
        self._autoreset = AutoresetEnv(make_env(env, {}) if isinstance(env, str) else env)
        self.env: Any = self._autoreset.env
        self.n_envs = self._autoreset.n_envs
        self.spaces = GoalSpaces.of(self.env)
        self._reward = GoalReward(
            self.env, self.spaces.observation_space, lambda: self._autoreset.when
        )
        self._agreement = Agreement(self._reward)
        # (n, goal_dim) desired goals of the last observation; none before the first.
        self._goals: FloatArray | None = None
        self._nowhere = np.zeros(self.n_envs, bool)
        self._nowhere.flags.writeable = False

    @property
    def given(self) -> Any:
        """The environment as it was given, or made."""
        return self.env.given if isinstance(self.env, VecEnvAdapter) else self.env

    @property
    def max_episode_steps(self) -> int | None:
        """The environment's time limit, where it tells."""
        spec = getattr(self.env, "spec", None)
        return getattr(spec, "max_episode_steps", None)

    # --------------------------------------------------------------------- steps

    def reset(self, seed: int | None = None) -> GoalObservation:
        """Reset every environment."""
        observation = self._flat(self._autoreset.reset(seed), "at its reset")
        self._goals = observation.desired_goal
        return observation

    def state_dict(self) -> dict[str, Any]:
        """What is known of running episodes besides the last observation; not the environment's own
        state, which it keeps to itself.
        """
        return {"resetting": self._autoreset.resetting, "agreement": list(self._agreement.seen)}

    def resume(self, observation: GoalObservation, state: Mapping[str, Any]) -> None:
        """Go on in the middle of episodes, without a reset.

        Args:
            observation: the last one.
            state: what :meth:`state_dict` gave then.
        """
        self._autoreset.resume(state["resetting"])
        self._agreement.seen = state["agreement"]
        self._goals = observation.desired_goal

    def step(self, action: FloatArray) -> StepResult:
        """Take (n, action_dim) actions in [-1, 1]; where an episode ends, the next one begins.

        Raises:
            ValueError: if an observation or a reward is no finite number or of another shape, or
                if the environment does not give the last observation of an episode.
        """
        step = self._autoreset.step(self.spaces.to_env_action(action))
        with self._autoreset.explained():
            return self._result(step)

    def _result(self, step: EnvStep) -> StepResult:
        next_state = current = self._flat(step.current)
        has_ended = np.count_nonzero(step.ended)
        if has_ended:
            observation = step.next_observation
            if observation is not step.current:
                next_state = self._flat(observation)
        success, reached = self._success(step, next_state)
        # While nothing has ended, nothing has in success.
        success = step.ended & success if has_ended else step.ended
        failure = self._failure(step, next_state)
        if self._agreement.watches(step):
            best = self._reward.best(next_state.desired_goal)
            same_goal = (next_state.desired_goal == self._goals).all(-1)
            self._agreement.look(step, step.next_observation, best, same_goal)
        self._goals = current.desired_goal
        return StepResult(
            next_state,
            current,
            step.reward,
            step.terminated,
            step.truncated,
            success,
            reached,
            step.valid,
            step.ended,
            failure,
            step.n_valid,
            step.infos,
        )

    def _success(self, step: EnvStep, state: GoalObservation) -> tuple[BoolArray, BoolArray]:
        """(n,) success if the episode ended now, (n,) whether the goal is reached."""
        success, reported = step.infos.success()
        if step.n_valid < self.n_envs:
            success, reported = success & step.valid, reported | ~step.valid
        if np.count_nonzero(reported) == self.n_envs:
            return success, success
        reached = self.reached(
            state.achieved_goal, state.desired_goal if self._goals is None else self._goals
        )
        reached = np.where(reported, success, reached)
        if np.count_nonzero(step.ended):
            at_end = self.reached(state.achieved_goal, state.desired_goal)
            success = np.where(reported, success, at_end)
        return success, reached | (success & step.ended)

    def _failure(self, step: EnvStep, state: GoalObservation) -> BoolArray:
        # Asked for only where it matters: rewards take a sixth of the time of a step.
        if not np.count_nonzero(step.terminated):
            return self._nowhere
        failure = step.terminated & ~self.reached(state.achieved_goal, state.desired_goal)
        if not np.count_nonzero(failure):
            return failure
        # Nor is it a failure where only the environment itself calls it a success.
        success, _ = step.infos.success()
        best = self._reward.best(state.desired_goal)
        return failure & ~success & ~self._agreement.pays_for_success(step, best)

    def _flat(self, observation: Any, when: str | None = None) -> GoalObservation:
        when = when or self._autoreset.when
        return self.spaces.flatten(
            observation, self.n_envs, f"the observation that the environment returned {when}"
        )

    # -------------------------------------------------------------------- reward

    def reached(self, achieved_goal: FloatArray, goal: FloatArray) -> BoolArray:
        """(n, goal_dim), (n, goal_dim) -> (n,): does ``compute_reward`` count the goal as reached?

        Whether the environment pays {-1, 0} or {0, 1}: reached is what is paid for standing
        exactly on the goal.
        """
        return self._reward.reached(achieved_goal, goal)

    def success_tolerance(self, goal: FloatArray, farthest: FloatArray) -> FloatArray:
        """(goal_dim,) how far from a goal (goal_dim,), along each axis, it still counts as reached.

        Args:
            farthest: (goal_dim,) what to look at; also the answer where all of it counts.
        """
        return self._reward.success_tolerance(goal, farthest)

    def check_goals(self, observation: GoalObservation) -> None:
        """Raise ValueError where the low level cannot learn from these goals.

        Because the reward is not sparse (:meth:`check_sparse`), or because float32 does not resolve
        the success tolerance at such coordinates.
        """
        self._reward.check(observation)

    def check_sparse(self, achieved_goal: FloatArray, desired_goal: FloatArray) -> None:
        """Raise ValueError if the reward takes more than two values on the way to a goal, or NaN.

        Args:
            achieved_goal, desired_goal: (n, goal_dim); rewards are asked for between them.
        """
        self._reward.check_sparse(achieved_goal, desired_goal)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
