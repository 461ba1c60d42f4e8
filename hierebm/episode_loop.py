"""The one loop that acts with a policy and yields the episodes that end.

Evaluation counts them; pictures watch them step by step through an observer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from hierebm.goal_env.adapter import GoalEnv
from hierebm.goal_env.autoreset import AutoresetEnv, EnvStep, where_rows
from hierebm.types import BoolArray, FloatArray


class Policy(Protocol):
    """Anything with Stable-Baselines3's ``predict`` on batched observations."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Return (actions, state) for a batch of observations."""
        ...


@dataclass(frozen=True)
class Episode:
    """One finished episode.

    Attributes:
        task: position of the task in the seeded order. Two policies that are evaluated with the
            same seed on the same (vector) env got the same task under the same number.
        reward: undiscounted sum.
        length: env steps.
        success: whether ``is_success`` or ``success`` was true in the ``info`` of the last step,
            as Stable-Baselines3 counts it; None if the env reports neither.
        ever_reached: whether the goal was reached at any step: ``info`` said so or, where it says
            nothing, a sparse ``compute_reward`` counts the goal that was desired before the step as
            reached. None where neither can be asked.
        start: achieved goal after the reset, (goal_dim,); None unless the env is a goal env.
        goal: desired goal after the reset, (goal_dim,); None unless the env is a goal env.
        reached_after: env steps until the goal was first reached; None where it never was, as far
            as is known.
    """

    task: int
    reward: float
    length: int
    success: bool | None
    ever_reached: bool | None = None
    start: np.ndarray | None = None
    goal: np.ndarray | None = None
    reached_after: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        row = asdict(self)
        for key in ("start", "goal"):
            row[key] = None if row[key] is None else np.asarray(row[key], float).tolist()
        return row


@dataclass(slots=True)
class ObservedStep:
    """One step of :func:`run_episodes` as its observer sees it, before any episode is counted."""

    observations: Any
    """(n, ...) what the policy saw."""
    episode_starts: np.ndarray
    """(n,) whether that was the first observation of an episode."""
    actions: Any
    states: Any
    """What ``predict`` returned."""
    step: EnvStep
    active: np.ndarray
    """(n,) whose step is part of an episode that counts."""
    counts: np.ndarray
    """(n,) episodes that each sub-env has finished."""
    targets: np.ndarray
    """(n,) episodes that each sub-env contributes."""
    rewards: np.ndarray
    """(n,) return of the running episode."""
    lengths: np.ndarray
    """(n,) steps of the running episode."""


def run_episodes(
    model: Policy,
    env: AutoresetEnv,
    n_episodes: int,
    deterministic: bool = True,
    *,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    observe: Callable[[ObservedStep], None] | None = None,
) -> Iterator[Episode]:
    """Yield episodes as they end; each sub-env contributes a share that is fixed in advance.

    Args:
        model: the policy.
        env: where to act; it is reset at first.
        n_episodes: number of episodes.
        deterministic: given to ``predict``.
        seed: of the first reset.
        options: given to every reset.
        observe: called once after every step.
    """
    n = env.n_envs
    targets = np.array([(n_episodes + i) // n for i in range(n)])
    counts = np.zeros(n, int)
    rewards, lengths = np.zeros(n), np.zeros(n, int)
    success, reported = np.zeros(n, bool), np.zeros(n, bool)
    ever_reached, known = np.zeros(n, bool), np.zeros(n, bool)
    reached_after = np.zeros(n, int)
    goal_check = _GoalCheck(env)
    # Where an automatic reset cannot carry the options, all sub-envs are reset together, and one
    # that is done waits for the others.
    in_rounds = options is not None and not env.carries_options
    waiting = np.zeros(n, bool)

    observation = env.reset(seed, options)
    starts, goals = _goal_ends(observation, n)
    states: Any = None
    first = np.ones(n, bool)
    while (counts < targets).any():
        with env.explained(observation=observation):
            actions, states = model.predict(
                observation, state=states, episode_start=first, deterministic=deterministic
            )
        step = env.step(actions)
        active = step.valid & ~waiting & (counts < targets)
        rewards += np.where(active, step.reward, 0.0)
        lengths += active
        with env.explained():
            now_success, now_reported = step.infos.success()
        success = np.where(active, now_success, success)
        reported |= active & now_reported
        if (active & ~now_reported & ~ever_reached).any():
            with env.explained(observation=step.current):
                by_reward, asked = goal_check.reached(observation, step)
            now_success = np.where(now_reported, now_success, by_reward)
            now_reported = now_reported | asked
        reached_after = np.where(active & now_success & ~ever_reached, lengths, reached_after)
        ever_reached |= active & now_success
        known |= active & now_reported
        if observe is not None:
            observe(
                ObservedStep(
                    observation, first, actions, states, step, active,
                    counts, targets, rewards, lengths,
                )
            )  # fmt: skip
        for i in np.flatnonzero(active & step.ended).tolist():
            reward, length = _monitored(step.infos[i], float(rewards[i]), int(lengths[i]))
            yield Episode(
                task=int(counts[i] * n + i),
                reward=reward,
                length=length,
                success=bool(success[i]) if reported[i] else None,
                ever_reached=bool(ever_reached[i]) if known[i] else None,
                start=None if starts is None else starts[i],
                goal=None if goals is None else goals[i],
                reached_after=int(reached_after[i]) if ever_reached[i] else None,
            )
            counts[i] += 1
            rewards[i], lengths[i], success[i], reported[i] = 0.0, 0, False, False
            ever_reached[i] = known[i] = False
            waiting[i] = in_rounds
        idle = waiting | (counts >= targets)
        if idle.any():
            # Who has nothing left to do stays where its episode ended: agents plan where one
            # starts, and plan again where they get no nearer to a goal that is not reached.
            with env.explained(observation=step.current):
                end = where_rows(active & idle, _after(step, observation), observation)
                observation = where_rows(idle, end, step.current)
        else:
            observation = step.current
        first = step.first & ~idle
        if in_rounds and idle.all() and (counts < targets).any():
            observation, first = env.reset(None, options), np.ones(n, bool)
            waiting[:] = False
        if first.any():
            new_starts, new_goals = _goal_ends(observation, n)
            if starts is not None and new_starts is not None:
                starts = np.where(first[:, None], new_starts, starts)
            if goals is not None and new_goals is not None:
                goals = np.where(first[:, None], new_goals, goals)


class _GoalCheck:
    """Asks ``compute_reward`` whether goals are reached, in environments whose info does not say.

    Args:
        env: the environment; nothing is asked of it before :meth:`reached`.
    """

    def __init__(self, env: AutoresetEnv) -> None:
        self._env, self._nothing = env, np.zeros(env.n_envs, np.bool_)
        self._goal_env: GoalEnv | None = None
        self._was_tried = False

    def reached(self, before: Any, step: EnvStep) -> tuple[BoolArray, BoolArray]:
        """(n,) whether a step reached the goals desired before it, (n,) whether that is known.

        Args:
            before: batched observation that was acted on.
            step: what came of it.
        """
        _, goal = _goal_ends(before, self._env.n_envs)
        known = np.ones_like(self._nothing)
        try:
            after = step.next_observation
        except ValueError:
            # The last observation is lost with the reset; the steps before it are not.
            after, known = step.current, ~step.ended
        achieved, _ = _goal_ends(after, self._env.n_envs)
        if achieved is None or goal is None:
            return self._nothing, self._nothing
        achieved, goal = achieved.astype(np.float32), goal.astype(np.float32)
        if not self._was_tried:
            self._was_tried, self._goal_env = True, self._sparse_goal_env(achieved, goal)
        if self._goal_env is None:
            return self._nothing, self._nothing
        return self._goal_env.reached(achieved, goal) & known, known

    def _sparse_goal_env(self, achieved: FloatArray, goal: FloatArray) -> GoalEnv | None:
        try:
            goal_env = GoalEnv(self._env.env)
            goal_env.check_sparse(achieved, goal)
        # Whatever compute_reward raises: episodes can be counted without it.
        except Exception:
            return None
        return goal_env


def _after(step: EnvStep, before: Any) -> Any:
    """Batched observation after a step, also where the episode ended; that before the step where
    the environment does not tell."""
    try:
        return step.next_observation
    except ValueError:
        return where_rows(step.ended, before, step.current)


def _goal_ends(observation: Any, n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Copies of (achieved goal, desired goal), (n, goal_dim) each, where there are any."""
    if not isinstance(observation, Mapping):
        return None, None
    ends = (observation.get(key) for key in ("achieved_goal", "desired_goal"))
    start, goal = (None if end is None else np.array(end).reshape(n, -1) for end in ends)
    return start, goal


def _monitored(info: Mapping[str, Any], reward: float, length: int) -> tuple[float, int]:
    """A monitor wrapper counts below wrappers that alter rewards: its figures go first."""
    episode = info.get("episode")
    if isinstance(episode, Mapping) and {"r", "l"} <= set(episode):
        return float(np.asarray(episode["r"])), int(np.asarray(episode["l"]))
    return reward, length
