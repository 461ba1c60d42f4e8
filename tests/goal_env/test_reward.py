"""Goals reach compute_reward as the environment knows them: dtype, shape, one by one if need be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.goal_env.adapter import GoalEnv
from tests.toys import SMALL, LineGoal, PlaneGoal


class Cells(LineGoal):
    """A walk over 9x9 cells whose goals are indices into a table."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.table = np.arange(81).reshape(9, 9)
        self.dtype, self.seen = dtype, set[Any]()
        self.observation_space = spaces.Dict(
            {
                key: spaces.Box(0, 8, (2,), dtype)
                for key in ("observation", "achieved_goal", "desired_goal")
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _observe(self) -> dict[str, Any]:
        at, goal = self.x.astype(self.dtype), self.goal.astype(self.dtype)
        return {"observation": at, "achieved_goal": at, "desired_goal": goal}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.goal = self.np_random.integers(0, 9, (2, 2))
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        self.x = np.clip(self.x + np.rint(action).astype(int), 0, 8)
        self.t += 1
        o = self._observe()
        reward = float(self.compute_reward(o["achieved_goal"], o["desired_goal"], {}))
        return o, reward, reward == 0.0, self.t >= self.limit, {"is_success": reward == 0.0}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        self.seen |= {achieved.dtype, desired.dtype}
        here, there = (self.table[goal[..., 0], goal[..., 1]] for goal in (achieved, desired))
        return -(here != there).astype(float)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.uint64])
@pytest.mark.parametrize("agent_class", [DDPGHERAgent, HierarchicalEBMAgent])
def test_goals_that_are_indices_are_learned_with(agent_class: Any, dtype: Any) -> None:
    world = Cells(dtype)
    names = {f.name for f in agent_class.config_class.__dataclass_fields__.values()}
    small = {k: v for k, v in SMALL.items() if k in names}
    agent = agent_class(seed=0, **small).learn(world, 450)
    assert world.seen == {np.dtype(dtype)}
    assert agent.replay_buffer.failure.sum() == 0


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int16, np.int64, np.uint64, np.float16, np.float32, np.float64]
)
def test_goals_come_in_the_dtype_and_within_the_bounds_of_their_space(dtype: Any) -> None:
    seen: list[Any] = []

    class Watched(LineGoal):
        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            seen.extend([achieved, desired])
            return -(np.asarray(achieved) != desired).any(-1).astype(float)

    world = Watched()
    high = {"b": 1, "f": 40.0}.get(np.dtype(dtype).kind, 40)
    box = spaces.Box(0, high, (1,), dtype)
    world.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
    env = GoalEnv(world)
    achieved = np.array([[-3.2], [0.4], [0.6], [1e30]], np.float32)
    env.reached(achieved, np.ones_like(achieved))
    assert {x.dtype for x in seen} == {np.dtype(dtype)}
    if np.dtype(dtype).kind != "f":
        batch = next(x for x in reversed(seen) if x.shape == (4, 1) and not x.all())
        assert batch.ravel().tolist() == [0, 0, 1, high], "rounded and clipped"


def test_every_whole_number_is_within_the_bounds_of_the_widest_space() -> None:
    class Far(Cells):
        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return -(achieved != desired).any(-1).astype(float)

    for dtype in (np.int64, np.uint64):
        world = Far(dtype)
        limits = np.iinfo(dtype)
        box = spaces.Box(limits.min, limits.max, (2,), dtype)
        world.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
        far, near = np.full((2, 2), 3e38, np.float32), np.zeros((2, 2), np.float32)
        assert GoalEnv(world).reached(far, near).tolist() == [False, False]


def _by_index(achieved: Any, desired: Any) -> Any:
    squares = sum((achieved[i] - desired[i]) ** 2 for i in range(3))
    return -1.0 * (np.sqrt(squares) > 0.1)


def _some_axes(achieved: Any, desired: Any) -> Any:
    return -1.0 * (np.hypot(achieved[0] - desired[0], achieved[1] - desired[1]) > 0.1)


def _of_all_rows(achieved: Any, desired: Any) -> Any:
    """A number for each row, but that of the whole batch."""
    far = np.linalg.norm(achieved - desired) > 0.1
    return -1.0 * np.full(np.shape(achieved)[:-1], far)


def _of_whole_batches(achieved: Any, desired: Any) -> Any:
    return -(np.linalg.norm(achieved[:, :3] - desired[:, :3], axis=1) > 0.1).astype(float)


@pytest.mark.parametrize("reward", [_by_index, _some_axes, _of_all_rows, _of_whole_batches])
def test_a_reward_is_asked_for_row_by_row_unless_batches_give_the_same(reward: Any) -> None:
    class Own(PlaneGoal):
        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return reward(np.asarray(achieved), np.asarray(desired))

    rng = np.random.default_rng(0)
    achieved = rng.uniform(-1, 1, (40, 3)).astype(np.float32)
    goal = achieved + rng.uniform(-0.1, 0.1, (40, 3)).astype(np.float32)
    axes = 2 if reward is _some_axes else 3
    want = np.linalg.norm((achieved - goal)[:, :axes], axis=1) <= 0.1
    assert 0.1 < want.mean() < 0.9
    env = GoalEnv(Own(dim=3))
    first = env.reset(seed=0)
    env.check_goals(first)
    np.testing.assert_array_equal(env.reached(achieved, goal), want)
    for rows in (1, 3, 5):
        np.testing.assert_array_equal(env.reached(achieved[:rows], goal[:rows]), want[:rows])


def test_a_batched_reward_is_asked_once_for_a_batch() -> None:
    class Counts(PlaneGoal):
        calls = 0

        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            self.calls += 1
            return super().compute_reward(achieved, desired, info)

    world = Counts()
    env = GoalEnv(world)
    first = env.reset(seed=0)
    env.check_goals(first)
    env.reached(first.achieved_goal, first.desired_goal)
    world.calls = 0
    env.reached(np.zeros((50, 2), np.float32), np.ones((50, 2), np.float32))
    assert world.calls == 1


@pytest.mark.parametrize(
    ("offset", "dtype", "limit"),
    [
        (5e6, np.float64, "500000"),
        (1e6, np.float64, "100000"),
        ([0.0, 5e6], np.float64, "500000"),
        (5e6, np.float32, "500000"),
        (-5e6, np.float64, "-500000"),
    ],
)
def test_coordinates_that_float32_cannot_tell_apart_are_refused(
    offset: Any, dtype: Any, limit: str
) -> None:
    env = GoalEnv(SyncVectorEnv([lambda: PlaneGoal(offset=offset, dtype=dtype)] * 3))
    with pytest.raises(ValueError, match=r"float32.*subtract an origin.*compute_reward") as caught:
        env.check_goals(env.reset(seed=0))
    assert limit in str(caught.value) and "0.1" in str(caught.value)


def test_learning_refuses_coordinates_that_float32_cannot_tell_apart() -> None:
    with pytest.raises(ValueError, match="subtract an origin"):
        DDPGHERAgent(seed=0).learn(PlaneGoal(offset=5e6), 10)


def test_a_goal_that_is_large_far_away_is_refused_too() -> None:
    class FarGoal(PlaneGoal):
        def _observe(self) -> dict[str, Any]:
            observation = super()._observe()
            return {**observation, "desired_goal": observation["desired_goal"] + 5e6}

    env = GoalEnv(FarGoal())
    with pytest.raises(ValueError, match="subtract an origin"):
        env.check_goals(env.reset(seed=0))


def _ignores_the_last(achieved: Any, desired: Any) -> Any:
    return -(np.linalg.norm((achieved - desired)[..., :1], axis=-1) > 0.1).astype(float)


def _is_equal(achieved: Any, desired: Any) -> Any:
    return -(np.asarray(achieved) != desired).any(-1).astype(float)


@pytest.mark.parametrize(
    ("offset", "dtype", "reward"),
    [
        (1e4, np.float64, None),
        (-1e4, np.float32, None),
        ([0.0, 5e9], np.float64, _ignores_the_last),
        (1000.0, np.float64, _is_equal),
        (1000.0, np.float32, _is_equal),
        (300, np.int64, _is_equal),
        (1000.0, np.float16, None),
    ],
)
def test_coordinates_that_can_be_told_apart_are_taken(offset: Any, dtype: Any, reward: Any) -> None:
    class Own(PlaneGoal):
        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            if reward is None:
                return super().compute_reward(achieved, desired, info)
            return reward(achieved, desired)

    world = Own(offset=offset, dtype=np.float64)
    if dtype is not np.float64:
        world.dtype = dtype
        limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
        box = spaces.Box(limits.min, limits.max, (2,), dtype)
        world.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
    env = GoalEnv(world)
    env.check_goals(env.reset(seed=0))


def test_whole_numbers_beyond_those_of_float32_are_refused() -> None:
    box = spaces.Box(0, 2**40, (2,), np.int64)
    world = PlaneGoal(offset=2**30, dtype=np.int64)
    world.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
    env = GoalEnv(world)
    with pytest.raises(ValueError, match="subtract an origin"):
        env.check_goals(env.reset(seed=0))
