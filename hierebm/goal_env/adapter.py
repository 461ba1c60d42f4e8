"""Any Gymnasium goal environment, single or vectorised, as flat rows for learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from hierebm.goal_env.autoreset import AutoresetEnv, EnvStep
from hierebm.goal_env.spaces import GoalSpaces, all_finite
from hierebm.types import BoolArray, FloatArray, GoalObservation

__all__ = ["EnvLike", "GoalEnv", "GoalObservation", "GoalSpaces", "StepResult"]

EnvLike = str | gym.Env[Any, Any] | VectorEnv[Any, Any, Any]
"""What is taken for an environment: its id, the environment, or a vector of them."""


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
    """Failure terminal: it terminated without the goal being reached, a failure for any goal."""
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
        self._autoreset = AutoresetEnv(gym.make(env) if isinstance(env, str) else env)
        self.env: Any = self._autoreset.env
        self.n_envs = self._autoreset.n_envs
        self.spaces = GoalSpaces.of(self.env)
        self._compute_reward = _find_compute_reward(self.env)
        self._batched_reward = self._reward_is_batched()
        # What is paid for standing exactly on the goal; asked for once a goal is known.
        self._best_reward: float | None = None
        # The goals of the last observation: what a step reaches, it may replace.
        self._desired: FloatArray | None = None
        self._nowhere = np.zeros(self.n_envs, bool)
        self._nowhere.flags.writeable = False

    @property
    def max_episode_steps(self) -> int | None:
        """The environment's time limit, where it tells."""
        spec = getattr(self.env, "spec", None)
        return getattr(spec, "max_episode_steps", None)

    # --------------------------------------------------------------------- steps

    def reset(self, seed: int | None = None) -> GoalObservation:
        """Reset every environment."""
        state = self.spaces.flatten(self._autoreset.reset(seed))
        self._desired = state.desired_goal
        return state

    def step(self, action: FloatArray) -> StepResult:
        """Take (n, action_dim) actions in [-1, 1]; where an episode ends, the next one begins.

        Raises:
            ValueError: if an observation or a reward is NaN or infinite, or if the environment
                does not give the last observation of an episode.
        """
        step = self._autoreset.step(self.spaces.to_env_action(action))
        if not all_finite(step.reward):
            raise ValueError(
                f"the environment returned the reward {step.reward[~np.isfinite(step.reward)][0]}; "
                "rewards must be finite numbers. What was learned so far is intact: "
                "agent.save(path) still works"
            )
        next_state = current = self.spaces.flatten(step.current)
        has_ended = np.count_nonzero(step.ended)
        if has_ended:
            observation = step.next_observation
            if observation is not step.current:
                next_state = self.spaces.flatten(observation)
        success, reached = self._success(step, next_state)
        # While nothing has ended, nothing has in success.
        success = step.ended & success if has_ended else step.ended
        self._desired = current.desired_goal
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
            self._failure(step.terminated, next_state),
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
            state.achieved_goal, state.desired_goal if self._desired is None else self._desired
        )
        reached = np.where(reported, success, reached)
        if np.count_nonzero(step.ended):
            at_end = self.reached(state.achieved_goal, state.desired_goal)
            success = np.where(reported, success, at_end)
        return success, reached | (success & step.ended)

    def _failure(self, terminated: BoolArray, state: GoalObservation) -> BoolArray:
        # Asked for only where it matters: rewards take a sixth of the time of a step.
        if not np.count_nonzero(terminated):
            return self._nowhere
        return terminated & ~self.reached(state.achieved_goal, state.desired_goal)

    # -------------------------------------------------------------------- reward

    def reached(self, achieved_goal: FloatArray, goal: FloatArray) -> BoolArray:
        """(n, goal_dim), (n, goal_dim) -> (n,): does ``compute_reward`` count the goal as reached?

        Whether the environment pays {-1, 0} or {0, 1}: reached is what is paid for standing
        exactly on the goal.
        """
        if not len(goal):
            return np.zeros(0, np.bool_)
        if self._best_reward is None:
            self._best_reward = float(self._rewards(goal[:1], goal[:1])[0])
        result: BoolArray = self._rewards(achieved_goal, goal) >= self._best_reward - 1e-6
        return result

    def success_tolerance(self, goal: FloatArray, farthest: FloatArray) -> FloatArray:
        """(goal_dim,) how far from a goal (goal_dim,), along each axis, it still counts as reached.

        Args:
            farthest: (goal_dim,) what to look at; also the answer where all of it counts.
        """
        axes = np.eye(len(goal), dtype=np.float32)
        goals = np.broadcast_to(goal, axes.shape)
        near, far = np.zeros_like(farthest), np.array(farthest, np.float32)
        near = np.where(self.reached(goals + axes * far, goals), far, near)
        for _ in range(32):
            middle = (near + far) / np.float32(2.0)
            counts = self.reached(goals + axes * middle, goals)
            near, far = np.where(counts, middle, near), np.where(counts, far, middle)
        return near

    def check_sparse(self, achieved_goal: FloatArray, desired_goal: FloatArray) -> None:
        """Raise ValueError if the reward takes more than two values on the way to a goal, or NaN.

        Args:
            achieved_goal, desired_goal: (n, goal_dim); rewards are asked for between them.
        """
        share = np.linspace(0.0, 1.0, 9, dtype=np.float32)[:, None, None]
        points = achieved_goal + share * (desired_goal - achieved_goal)
        goals = np.broadcast_to(desired_goal, points.shape)
        dim = achieved_goal.shape[1]
        rewards = self._rewards(points.reshape(-1, dim), goals.reshape(-1, dim))
        if not all_finite(rewards):
            raise ValueError(
                "compute_reward returned NaN, infinity or None; it must return a number for any "
                "pair of goals"
            )
        values = np.unique(rewards)
        if len(values) > 2:
            raise ValueError(
                f"compute_reward pays {len(values)} different values for {len(rewards)} pairs of "
                "goals; the low level learns steps until reached and needs a sparse reward "
                '(two values): make the environment with reward_type="sparse"'
            )

    def _rewards(self, achieved_goal: FloatArray, goal: FloatArray) -> FloatArray:
        shape = self.spaces.observation_space["desired_goal"].shape or ()
        achieved_goal, goal = achieved_goal.reshape(-1, *shape), goal.reshape(-1, *shape)
        if self._batched_reward:
            rewards = self._compute_reward(achieved_goal, goal, {})
        else:
            rewards = [
                self._compute_reward(a, g, {}) for a, g in zip(achieved_goal, goal, strict=True)
            ]
        result: FloatArray = np.asarray(rewards, np.float32).reshape(-1)
        if len(result) != len(goal):
            raise ValueError(
                f"compute_reward returned {len(result)} numbers for {len(goal)} pairs of goals of "
                f"shape {shape}; it must return one for each"
            )
        return result

    def _reward_is_batched(self) -> bool:
        box = self.spaces.observation_space["desired_goal"]
        # All ones is a goal of any box; three rows tell a batch apart from goal_dim in most cases.
        goals = np.ones((3, *box.shape), np.float32)  # type: ignore[misc]
        try:
            return np.shape(self._compute_reward(goals, goals, {})) == (3,)
        except Exception:  # whatever an environment raises on a batch, it can still be looped
            return False

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _find_compute_reward(env: Any) -> Any:
    try:
        if isinstance(env, VectorEnv):
            if hasattr(env.unwrapped, "compute_reward"):
                return env.unwrapped.compute_reward
            if isinstance(env.unwrapped, SyncVectorEnv):
                return env.unwrapped.envs[0].get_wrapper_attr("compute_reward")
            # Workers in other processes: ask all of them, they agree. Wrappers do not pass it on.
            call: Any = env.unwrapped.call  # type: ignore[attr-defined]
            return lambda *args: call("compute_reward", *args)[0]
        return env.get_wrapper_attr("compute_reward")
    except AttributeError as error:
        raise ValueError(
            "the environment has no compute_reward(achieved_goal, desired_goal, info); hindsight "
            "relabelling needs it to tell whether another goal was reached. Define it on the "
            "environment or on a wrapper"
        ) from error
