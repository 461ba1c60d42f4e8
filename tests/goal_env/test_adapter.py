"""Learning sees flat rows, scaled actions and one meaning of reached in every goal environment."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import PassiveEnvChecker

import hierebm  # noqa: F401
from hierebm.goal_env.adapter import GoalEnv
from tests.toys import LineGoal


def test_an_environment_without_compute_reward_is_told_what_it_is_for() -> None:
    class NoReward(LineGoal):
        @property
        def compute_reward(self) -> Any:  # type: ignore[override]
            raise AttributeError("compute_reward")

    with pytest.raises(ValueError, match=r"compute_reward\(achieved_goal, desired_goal, info\)"):
        GoalEnv(NoReward())


def test_a_dense_reward_is_refused() -> None:
    env = GoalEnv(gym.make("PointMassGoal-v0", reward_type="dense"))
    with pytest.raises(ValueError, match='reward_type="sparse"'):
        env.check_sparse(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))


@pytest.mark.parametrize("pays_one", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_reached_is_what_is_paid_for_standing_on_the_goal(pays_one: bool, batched: bool) -> None:
    env = GoalEnv(LineGoal(pays_one=pays_one, batched=batched))
    achieved = np.array([[0.0], [0.0], [0.5]], np.float32)
    goal = np.array([[0.05], [0.3], [0.5]], np.float32)
    assert env.reached(achieved, goal).tolist() == [True, False, True]
    env.check_sparse(achieved, goal)


def test_the_success_tolerance_of_a_goal_is_measured_along_each_axis() -> None:
    world = gym.make("PointMassGoal-v0")
    world.unwrapped.success_radius = 0.4
    env = GoalEnv(world)
    success_tolerance = env.success_tolerance(
        np.array([0.5, -1.0], np.float32), np.array([6.0, 0.25], np.float32)
    )
    np.testing.assert_allclose(success_tolerance, [0.4, 0.25], atol=1e-5)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda a, d: np.full(a.shape[:-1], np.nan), "NaN"),
        (lambda a, d: None, "None"),
        (lambda a, d: np.zeros((*a.shape[:-1], 2)), "18 numbers for 9 pairs"),
    ],
)
def test_a_reward_that_is_no_number_is_refused(reward: Any, message: str) -> None:
    class Odd(LineGoal):
        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return reward(achieved, desired)

    env = GoalEnv(Odd())
    with pytest.raises(ValueError, match=message):
        env.check_sparse(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32))


def test_native_and_synchronous_vector_environments_agree() -> None:
    results = []
    for how in ("sync", "vector_entry_point"):
        env = GoalEnv(gym.make_vec("PointMassGoal-v0", num_envs=2, vectorization_mode=how))
        env.reset(seed=1)
        action = np.full((2, 2), 0.7, np.float32)
        results.append(np.stack([env.step(action).next_state.observation for _ in range(30)]))
    assert np.array_equal(*results)


@pytest.mark.parametrize("key", ["observation", "achieved_goal", "desired_goal", "reward"])
def test_nan_is_named_with_its_key(key: str) -> None:
    line = LineGoal()
    line.break_at = (5, key)
    env = GoalEnv(line)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"{key}.*agent\.save\(path\)"):
        for _ in range(10):
            env.step(np.zeros((1, 1), np.float32))


def test_a_wrapped_vector_of_processes_is_asked_for_its_reward() -> None:
    vector = gym.vector.AsyncVectorEnv([LineGoal, LineGoal])
    env = GoalEnv(gym.wrappers.vector.RecordEpisodeStatistics(vector))
    try:
        env.reset(seed=0)
        near = env.reached(np.array([[0.0], [0.0]]), np.array([[0.05], [0.5]]))
        assert near.tolist() == [True, False]
    finally:
        env.close()


def test_the_last_observation_of_an_episode_is_asked_for() -> None:
    """A vector that resets in the same step and keeps it for itself cannot be learned from."""

    class NoFinal(SyncVectorEnv):
        def step(self, actions: np.ndarray) -> Any:
            *step, infos = super().step(actions)
            return *step, {key: infos[key] for key in infos if "final" not in key}

    env = GoalEnv(NoFinal([LineGoal] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"have no final_obs.*another autoreset mode"):
        for _ in range(20):
            env.step(np.zeros((2, 1), np.float32))


def test_success_is_what_the_info_says_or_else_whether_the_goal_is_reached() -> None:
    class Reports(LineGoal):
        """Ends on its goal; some say that they failed all the same, the others say nothing."""

        def __init__(self, reports: bool) -> None:
            super().__init__(limit=1)
            self.reports = reports

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.x = self.goal = 0.0
            return self._observe(), {}

        def step(self, action: np.ndarray) -> Any:
            *step, _ = super().step(action)
            return *step, ({"success": False} if self.reports else {})

    reports = [False, True, False]
    env = GoalEnv(SyncVectorEnv([partial(Reports, each) for each in reports]))
    env.reset(seed=0)
    # No step at all, in the middle of the bounds of the actions.
    step = env.step(np.full((3, 1), -1.0 / 3.0, np.float32))
    assert step.ended.all()
    assert step.success.tolist() == [True, False, True]
    assert step.reached.tolist() == [True, False, True]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("reports", [False, True])
def test_a_goal_counts_as_reached_though_the_step_replaces_it(
    mode: AutoresetMode, reports: bool
) -> None:
    class Replaces(LineGoal):
        """Stands still; every third step moves the point onto its goal, which then moves away."""

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.x, self.goal = 0.0, 0.5
            return self._observe(), {}

        def step(self, action: np.ndarray) -> Any:
            self.t += 1
            near = self.t % 3 == 0
            if near:
                self.x, self.goal = self.goal, -self.goal
            info = {"success": near} if reports else {}
            return self._observe(), -1.0, False, self.t >= 7, info

    env = GoalEnv(SyncVectorEnv([Replaces] * 2, autoreset_mode=mode))
    env.reset(seed=0)
    action = np.zeros((2, 1), np.float32)
    steps = [env.step(action) for _ in range(12)]
    valid = [step for step in steps if step.valid.all()]
    reached = [step.reached.tolist() for step in valid]
    assert reached[:10] == [[t % 3 == 0] * 2 for t in (1, 2, 3, 4, 5, 6, 7, 1, 2, 3)]
    assert not any(step.success.any() for step in steps)


@pytest.mark.parametrize("n", [1, 2])
def test_an_environment_that_was_interrupted_in_its_first_reset_is_gone_on_with(n: int) -> None:
    """Gymnasium's checker would fail in the first step."""
    wait = [True]

    class Slow(LineGoal):
        def reset(self, **kwargs: Any) -> Any:
            if wait and wait.pop():
                raise KeyboardInterrupt
            return super().reset(**kwargs)

    def checked() -> Any:
        return PassiveEnvChecker(Slow())

    env = GoalEnv(checked() if n == 1 else SyncVectorEnv([checked] * n))
    with pytest.raises(KeyboardInterrupt):
        env.reset(seed=0)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros((n, 1), np.float32))
