"""``compute_reward`` of an environment, in batches or row by row, and what it says of goals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from hierebm.goal_env.faults import INTACT
from hierebm.types import LARGEST, BoolArray, FloatArray, GoalObservation

# float32 must resolve the success tolerance into at least this many parts.
TOLERANCE_PARTS = 10


class GoalReward:
    """The sparse reward between goals, and when a goal counts as reached.

    Goals are float32 rows here; ``compute_reward`` gets them in the shape and dtype of their space,
    whole numbers rounded and kept within its bounds, because a reward may look them up in a table.

    Args:
        env: has ``compute_reward(achieved_goal, desired_goal, info)``.
        observation_space: of one environment.
        when: the step that the environment is in, for messages.

    Raises:
        ValueError: if there is no ``compute_reward``.
    """

    def __init__(self, env: Any, observation_space: spaces.Dict, when: Callable[[], str]) -> None:
        self._when = when
        self._compute_reward = _find_compute_reward(env)
        self._box: Any = observation_space["desired_goal"]
        self._to_achieved, self._to_goal = (
            conversion(observation_space[key]) for key in ("achieved_goal", "desired_goal")
        )
        # Whether batches may be asked for; None until it was tried on goals that differ.
        self._batched: bool | None = None
        # What is paid for standing exactly on the goal; asked for once a goal is known.
        self._best: float | None = None

    # --------------------------------------------------------------------- rewards

    def __call__(self, achieved_goal: FloatArray, goal: FloatArray) -> FloatArray:
        """(n, goal_dim), (n, goal_dim) -> (n,) float32.

        Raises:
            ValueError: if it gives another number of rewards.
        """
        return self.between(self._to_achieved(achieved_goal), self._to_goal(goal))

    def between(self, achieved_goal: NDArray[Any], goal: NDArray[Any]) -> FloatArray:
        """The same of goals (n, ...) as the environment itself gives them."""
        batched = self._batched
        if batched is None:
            batched = self._try_batches(achieved_goal, goal)
        try:
            if batched:
                rewards = self._compute_reward(achieved_goal, goal, {})
            else:
                rewards = [
                    self._compute_reward(a, g, {}) for a, g in zip(achieved_goal, goal, strict=True)
                ]
        except KeyError as error:
            raise ValueError(
                f"compute_reward looks up {error} in its info, and there is none: it is asked "
                "whether other goals would have been reached, which never happened. It must tell "
                "by achieved_goal and desired_goal alone: put what it needs into the goals, in a "
                "wrapper"
            ) from error
        try:
            result: FloatArray = np.asarray(rewards, np.float32).reshape(-1)
        except (TypeError, ValueError):
            # Of no length that is right.
            result = np.zeros(len(goal) + 1, np.float32)
        # NaN compares as False; None becomes NaN.
        if len(result) != len(goal) or np.count_nonzero(np.abs(result) <= LARGEST) < len(goal):
            self._raise(rewards, achieved_goal, goal)
        return result

    def _raise(self, rewards: Any, achieved_goal: NDArray[Any], goal: NDArray[Any]) -> None:
        """Say which pair of goals got something else than a number."""
        n = len(goal)
        row, what = 0, f"{rewards!r:.60}"
        try:
            numbers = np.asarray(rewards, np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = None
        if numbers is not None and len(numbers) != n:
            raise ValueError(
                f"compute_reward returned {self._when()} {len(numbers)} numbers for {n} pairs of "
                f"goals of shape {self._box.shape}; it must return one for each. Where a wrapper "
                "changes goals, as FrameStackObservation does, the wrapper needs a compute_reward "
                "of its own, or leaves goals out"
            )
        if numbers is not None:
            row = int(np.argmax(~(np.abs(numbers) <= LARGEST)))
            what = f"{numbers[row]:g}"
        if isinstance(rewards, list):
            what = f"{rewards[row]!r:.60}"
        raise ValueError(
            f"compute_reward returned {self._when()} {what} (row {row} of {n}) for the "
            f"achieved_goal {achieved_goal[row].tolist()} and the desired_goal "
            f"{goal[row].tolist()}, expected a finite number: NaN, infinity and None do not say "
            "whether a goal is reached. "
            f"{INTACT[0].upper()}{INTACT[1:]}"
        )

    def _try_batches(self, achieved_goal: NDArray[Any], goal: NDArray[Any]) -> bool:
        """Whether batches of these goals are paid as their rows are; settled if they can tell."""
        # Standing on the goal is paid otherwise than being elsewhere.
        here = np.concatenate([achieved_goal, goal.astype(achieved_goal.dtype)])
        there = np.concatenate([goal, goal])
        values: set[float] = set()
        # Of two sizes, since one may happen to be the length of a goal that is taken by index.
        for size in (7, 4):
            rows = np.linspace(0, len(here) - 1, size).round().astype(int)
            try:
                batch = self._compute_reward(here[rows], there[rows], {})
                single = [self._of_one(here[i : i + 1], there[i : i + 1]) for i in rows]
                same = np.array_equal(np.asarray(batch, np.float32), single, equal_nan=True)
            except Exception:  # whatever an environment raises on a batch, it can still be looped
                same = False
            if not same:
                self._batched = False
                return False
            values.update(single)
        if len(values) > 1:
            self._batched = True
        return True

    def _of_one(self, achieved_goal: NDArray[Any], goal: NDArray[Any]) -> float:
        """The reward of a batch of one row."""
        try:
            reward = self._compute_reward(achieved_goal[0], goal[0], {})
        except Exception:  # it may take batches only
            reward = self._compute_reward(achieved_goal, goal, {})
        return float(np.asarray(reward, np.float32).reshape(()))

    # --------------------------------------------------------------------- reached

    def best(self, goal: FloatArray) -> float:
        """What is paid for standing exactly on a goal; asked with the first of (n, goal_dim)."""
        if self._best is None:
            self._best = float(self(goal[:1], goal[:1])[0])
        return self._best

    def reached(self, achieved_goal: FloatArray, goal: FloatArray) -> BoolArray:
        """(n, goal_dim), (n, goal_dim) -> (n,); see :meth:`GoalEnv.reached`."""
        if not len(goal):
            return np.zeros(0, np.bool_)
        best = self.best(goal)
        result: BoolArray = self(achieved_goal, goal) >= best - 1e-6
        return result

    def success_tolerance(self, goal: FloatArray, farthest: FloatArray) -> FloatArray:
        """(goal_dim,), (goal_dim,) -> (goal_dim,); see :meth:`GoalEnv.success_tolerance`."""
        goals = np.broadcast_to(goal, (len(goal), len(goal)))
        return _largest(lambda at: self.reached(at, goals), goal, farthest, halvings=32)

    def _own_tolerance(self, goal: NDArray[Any]) -> NDArray[Any]:
        """(goal_dim,) the same of a goal in the dtype of its space, far beyond float32."""
        rows = np.broadcast_to(goal, (len(goal), len(goal))).reshape(-1, *self._box.shape)

        def reached(at: NDArray[Any]) -> BoolArray:
            best = self.between(rows[:1], rows[:1])[0]
            result: BoolArray = self.between(at.reshape(rows.shape), rows) >= best - 1e-6
            return result

        return _largest(reached, goal, np.maximum(np.abs(goal), 1.0), halvings=64)

    # ---------------------------------------------------------------------- checks

    def check(self, observation: GoalObservation) -> None:
        """Raise ValueError unless the low level can learn from rewards between such goals."""
        self.check_sparse(observation.achieved_goal, observation.desired_goal)
        self._check_precision(observation.achieved_goal, observation.desired_goal)

    def check_sparse(self, achieved_goal: FloatArray, desired_goal: FloatArray) -> None:
        """See :meth:`GoalEnv.check_sparse`."""
        share = np.linspace(0.0, 1.0, 9, dtype=np.float32)[:, None, None]
        points = achieved_goal + share * (desired_goal - achieved_goal)
        goals = np.broadcast_to(desired_goal, points.shape)
        dim = achieved_goal.shape[1]
        rewards = self(points.reshape(-1, dim), goals.reshape(-1, dim))
        values = np.unique(rewards)
        if len(values) > 2:
            raise ValueError(
                f"compute_reward pays {len(values)} different values for {len(rewards)} pairs of "
                "goals; the low level learns steps until reached and needs a sparse reward "
                '(two values): make the environment with reward_type="sparse"'
            )

    def _check_precision(self, achieved_goal: FloatArray, desired_goal: FloatArray) -> None:
        """Raise ValueError where float32 rounds coordinates to parts of the success tolerance."""
        seen = np.concatenate([achieved_goal, desired_goal])
        largest = seen[np.abs(seen).argmax(0), np.arange(seen.shape[1])]
        spacing = np.spacing(np.abs(largest))
        tolerance = self._tolerance_at(largest, spacing)
        coarse = np.flatnonzero(spacing > tolerance / TOLERANCE_PARTS)
        if coarse.size:
            axis = coarse[(spacing / tolerance)[coarse].argmax()]
            raise ValueError(
                f"goals have the coordinate {largest[axis]:.9g} (entry {axis}), where float32 "
                f"knows steps of {spacing[axis]:.3g} only, and a goal counts as reached within "
                f"{tolerance[axis]:.3g}: subtract an origin in a wrapper of the environment, from "
                "observation, achieved_goal and desired_goal, and in compute_reward"
            )

    def _tolerance_at(self, goal: FloatArray, spacing: FloatArray) -> NDArray[Any]:
        """(goal_dim,) success tolerance, infinite where float32 loses nothing at all."""
        dtype = self._box.dtype
        everything = np.full(len(goal), np.inf)
        if dtype.kind != "f":
            # Whole numbers: from neighbour to neighbour.
            return np.where(spacing > 1.0, 1.0, everything)
        if dtype.itemsize < goal.dtype.itemsize:
            return everything
        own = goal.astype(dtype)
        tolerance = self._own_tolerance(own)
        if not (spacing > tolerance / TOLERANCE_PARTS).any():
            return tolerance
        # Below what the space itself can tell apart, only another goal shows the tolerance: none
        # at all where goals have to be equal, which float32 can tell.
        try:
            elsewhere = self._own_tolerance(np.zeros_like(own))
        except Exception:  # the environment may not know such a goal
            elsewhere = np.zeros(len(goal))
        tolerance = np.where(tolerance <= np.spacing(np.abs(own)), elsewhere, tolerance)
        return np.where(tolerance > 0.0, tolerance, everything)


def _largest(
    counts: Callable[[NDArray[Any]], BoolArray],
    goal: NDArray[Any],
    farthest: NDArray[Any],
    *,
    halvings: int,
) -> NDArray[Any]:
    """(goal_dim,) how far along each axis from ``goal`` still counts, at most ``farthest``.

    Args:
        counts: (goal_dim, goal_dim) points, row i moved along axis i -> (goal_dim,) whether.
    """
    axes, half = np.eye(len(goal), dtype=goal.dtype), goal.dtype.type(2.0)
    near, far = np.zeros_like(farthest), np.array(farthest, goal.dtype)
    near = np.where(counts(goal + axes * far), far, near)
    for _ in range(halvings):
        middle = (near + far) / half
        inside = counts(goal + axes * middle)
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return near


def conversion(box: Any) -> Callable[[FloatArray], NDArray[Any]]:
    """What makes (n, *shape) values of a Box out of float32 rows."""
    dtype = box.dtype
    if dtype.kind == "f":
        most = min(float(np.finfo(dtype).max), float(np.finfo(np.float32).max))

        def to_float(rows: FloatArray) -> NDArray[Any]:
            if dtype.itemsize < rows.dtype.itemsize:
                rows = np.clip(rows, -most, most)
            return rows.reshape(-1, *box.shape).astype(dtype, copy=False)

        return to_float
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    if dtype.kind in "iu":
        # The largest integers are no floating-point numbers: the next one may be beyond them.
        largest = float(np.iinfo(dtype).max)
        if largest > np.iinfo(dtype).max:
            largest = float(np.nextafter(largest, 0.0))
        high = np.minimum(high, largest)

    def to_whole(rows: FloatArray) -> NDArray[Any]:
        whole = np.rint(rows.reshape(-1, *box.shape).astype(np.float64))
        return np.clip(whole, low, high).astype(dtype)

    return to_whole


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
