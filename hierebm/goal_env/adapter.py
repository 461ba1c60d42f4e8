"""Any Gymnasium goal environment, single or vectorised, as one batch of true transitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from hierebm.goal_env.autoreset import SUCCESS_KEYS, autoreset_mode
from hierebm.goal_env.spaces import KEYS, GoalSpaces, all_finite
from hierebm.types import BoolArray, FloatArray, GoalObservation

__all__ = ["EnvLike", "GoalEnv", "GoalObservation", "GoalSpaces", "StepResult"]

EnvLike = str | gym.Env[Any, Any] | VectorEnv[Any, Any, Any]
"""What is taken for an environment: its id, the environment, or a vector of them."""


@dataclass(slots=True)
class StepResult:
    """What one step of every environment brought; arrays of length n."""

    reached_state: GoalObservation
    """The true next state, also where the episode ended."""
    current: GoalObservation
    """Where to act next: ``reached_state``, or after an end the new episode's first state."""
    reward: NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray
    success: BoolArray
    """The episode ended in success: what its info says, else whether the goal is reached."""
    valid: BoolArray
    """False where the step was the automatic reset of NEXT_STEP mode: no transition happened."""
    ended: BoolArray
    """The episode ended with this transition."""
    failure: BoolArray
    """It terminated without the goal being reached: a failure that ends the world for any goal."""
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
        env_: Any = gym.make(env) if isinstance(env, str) else env
        self.env = env_
        self.is_vector = isinstance(env_, VectorEnv)
        if not self.is_vector and not isinstance(self.env, gym.Env):
            raise TypeError(
                "env must be an environment id, a gymnasium.Env or a gymnasium.vector.VectorEnv, "
                f"not {type(self.env).__name__}"
            )
        if self.is_vector:
            self.n_envs: int = self.env.num_envs
            self.autoreset = autoreset_mode(self.env)
            self.spaces = GoalSpaces(
                self.env.single_observation_space, self.env.single_action_space
            )
        else:
            self.n_envs, self.autoreset = 1, AutoresetMode.DISABLED
            self.spaces = GoalSpaces(self.env.observation_space, self.env.action_space)
        self._compute_reward = _find_compute_reward(self.env)
        self._batched_reward = self._reward_is_batched()
        # What is paid for standing exactly on the goal; asked for once a goal is known.
        self._best: float | None = None
        # In NEXT_STEP mode: the environments whose next step is their reset.
        self._resetting: BoolArray | None = None
        self._everywhere, self._nowhere = np.ones(self.n_envs, bool), np.zeros(self.n_envs, bool)
        self._everywhere.flags.writeable = self._nowhere.flags.writeable = False

    # --------------------------------------------------------------------- steps

    def reset(self, seed: int | None = None) -> GoalObservation:
        """Reset every environment."""
        self._resetting = None
        observation, _ = self.env.reset(seed=seed)
        return self.spaces.flatten(self._batch(observation))

    def step(self, action: FloatArray) -> StepResult:
        """Take (n, action_dim) actions in [-1, 1]; environments that ended start anew.

        Raises:
            ValueError: if an observation or a reward is NaN or infinite.
        """
        env_action = self.spaces.to_env_action(action)
        valid, n_valid = self._everywhere, self.n_envs
        if self._resetting is not None:
            valid = ~self._resetting
            n_valid = int(np.count_nonzero(valid))
        if self.is_vector:
            observation, reward, terminated, truncated, infos = self.env.step(env_action)
            reward = np.asarray(reward, np.float64)
            terminated = np.asarray(terminated, np.bool_)
            truncated = np.asarray(truncated, np.bool_)
            rows: Sequence[dict[str, Any]] = _Rows(infos, self.n_envs)
        else:
            observation, reward, terminated, truncated, info = self.env.step(env_action[0])
            reward = np.asarray(reward, np.float64).reshape(-1)
            if len(reward) != 1:
                raise ValueError(f"the environment returned {len(reward)} rewards for one step")
            terminated, truncated = np.array([bool(terminated)]), np.array([bool(truncated)])
            infos = {key: np.array([info[key]]) for key in SUCCESS_KEYS if key in info}
            rows = [dict(info)]
        if not all_finite(reward):
            raise ValueError(
                f"the environment returned the reward {reward[~np.isfinite(reward)][0]}; rewards "
                "must be finite numbers. What was learnt so far is intact: agent.save(path) "
                "still works"
            )
        # While nothing has ended, nothing has in success.
        success = ended = terminated | truncated
        reached_state = current = self.spaces.flatten(self._batch(observation))
        if self._resetting is not None:
            success = ended = ended & valid
            self._resetting = None
        if np.count_nonzero(ended):
            if self.autoreset == AutoresetMode.SAME_STEP:
                reached_state = self._with_final_rows(current, infos, ended)
                infos = infos | infos.get("final_info", {})
                rows = _Rows(infos, self.n_envs)
            elif self.autoreset == AutoresetMode.NEXT_STEP:
                self._resetting = ended
            else:
                current = self._reset_rows(current, ended)
            success = ended & self._success(infos, reached_state)
        return StepResult(
            reached_state=reached_state,
            current=current,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            success=success,
            valid=valid,
            ended=ended,
            failure=self._dead_end(terminated, reached_state),
            n_valid=n_valid,
            infos=rows,
        )

    def _success(self, infos: dict[str, Any], state: GoalObservation) -> BoolArray:
        for key in SUCCESS_KEYS:
            if key in infos:
                given = np.asarray(infos[key]).astype(np.bool_)
                known = infos.get(f"_{key}")
                if known is None or np.count_nonzero(known) == self.n_envs:
                    return given
                return np.where(known, given, self.reached(state.achieved_goal, state.desired_goal))
        return self.reached(state.achieved_goal, state.desired_goal)

    def _dead_end(self, terminated: BoolArray, state: GoalObservation) -> BoolArray:
        # Asked for only where it matters: rewards take a sixth of the time of a step.
        if not np.count_nonzero(terminated):
            return self._nowhere
        return terminated & ~self.reached(state.achieved_goal, state.desired_goal)

    def _reset_rows(self, current: GoalObservation, ended: BoolArray) -> GoalObservation:
        if self.is_vector:
            observation, _ = self.env.reset(options={"reset_mask": ended})
            fresh = self.spaces.flatten(observation)
        else:
            observation, _ = self.env.reset()
            fresh = self.spaces.flatten(self._batch(observation))
        return GoalObservation(
            *(np.where(ended[:, None], getattr(fresh, key), getattr(current, key)) for key in KEYS)
        )

    def _with_final_rows(
        self, current: GoalObservation, infos: dict[str, Any], ended: BoolArray
    ) -> GoalObservation:
        final = infos["final_obs"]
        rows = np.flatnonzero(ended)
        if isinstance(final, dict):
            batch = {key: np.asarray(final[key])[rows] for key in KEYS}
        else:
            batch = {key: np.stack([final[row][key] for row in rows]) for key in KEYS}
        true = self.spaces.flatten(batch)
        merged = [getattr(current, key).copy() for key in KEYS]
        for array, key in zip(merged, KEYS, strict=True):
            array[rows] = getattr(true, key)
        return GoalObservation(*merged)

    def _batch(self, observation: Any) -> dict[str, Any]:
        if self.is_vector:
            batch: dict[str, Any] = observation
            return batch
        return {key: np.asarray(observation[key])[None] for key in KEYS}

    # -------------------------------------------------------------------- reward

    def reached(self, achieved_goal: FloatArray, goal: FloatArray) -> BoolArray:
        """(n, goal_dim), (n, goal_dim) -> (n,): does ``compute_reward`` count the goal as reached?

        Whether the environment pays {-1, 0} or {0, 1}: reached is what is paid for standing
        exactly on the goal.
        """
        if not len(goal):
            return np.zeros(0, np.bool_)
        if self._best is None:
            self._best = float(self._rewards(goal[:1], goal[:1])[0])
        result: BoolArray = self._rewards(achieved_goal, goal) >= self._best - 1e-6
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


class _Rows(Sequence[dict[str, Any]]):
    """The batched info of a vector environment as one dict for each of its n rows.

    Made when somebody asks: most callbacks never do.
    """

    def __init__(self, infos: dict[str, Any], n: int) -> None:
        self._infos, self._n = infos, n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        rows = range(self._n)[index]
        return self._row(rows) if isinstance(rows, int) else [self._row(i) for i in rows]

    def _row(self, i: int) -> dict[str, Any]:
        # What is final was merged into the rest.
        return _row({k: v for k, v in self._infos.items() if k != "final_info"}, i)


def _row(infos: dict[str, Any], i: int) -> dict[str, Any]:
    return {
        key: _row(values, i) if isinstance(values, dict) else values[i]
        for key, values in infos.items()
        if not key.startswith("_") and (f"_{key}" not in infos or infos[f"_{key}"][i])
    }
