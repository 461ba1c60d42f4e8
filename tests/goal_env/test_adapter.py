"""Any goal environment becomes true transitions; every bad one gets one clear error."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import hierebm  # noqa: F401
from hierebm.goal_env.adapter import GoalEnv, _Rows
from hierebm.goal_env.spaces import GoalSpaces
from tests.toys import LineGoal


def _with_spaces(observation: Any = None, action: Any = None, **kwargs: Any) -> LineGoal:
    env = LineGoal(**kwargs)
    if observation is not None:
        env.observation_space = observation
    if action is not None:
        env.action_space = action
    return env


BOX = spaces.Box(-1.0, 1.0, (1,))


@pytest.mark.parametrize(
    ("env", "error", "words"),
    [
        (_with_spaces(BOX), TypeError, ["Dict", "desired_goal"]),
        (_with_spaces(spaces.Dict(observation=BOX)), ValueError, ["achieved_goal", "desired_goal"]),
        (
            _with_spaces(
                spaces.Dict(observation=spaces.Discrete(3), achieved_goal=BOX, desired_goal=BOX)
            ),
            TypeError,
            ["'observation'", "Discrete", "Box"],
        ),
        (
            _with_spaces(
                spaces.Dict(observation=BOX, achieved_goal=spaces.Box(0, 1, (2,)), desired_goal=BOX)
            ),
            ValueError,
            ["(2,)", "(1,)"],
        ),
        (_with_spaces(action=spaces.Discrete(2)), TypeError, ["Discrete", "continuous"]),
        (_with_spaces(action=spaces.Box(0, 3, (1,), np.int64)), TypeError, ["int64", "continuous"]),
        (
            _with_spaces(action=spaces.Box(-np.inf, np.inf, (1,))),
            ValueError,
            ["infinite", "TransformAction", "ClipAction"],
        ),
        ("CartPole-v1", TypeError, ["Dict"]),
        (3, TypeError, ["gymnasium.Env"]),
    ],
)
def test_wrong_spaces_get_one_clear_error(env: Any, error: type[Exception], words: list) -> None:
    with pytest.raises(error) as caught:
        GoalEnv(env)
    assert all(word in str(caught.value) for word in words), str(caught.value)


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


def test_images_are_flattened_with_a_warning() -> None:
    image, goal = spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Box(-1.0, 1.0, (2,))
    observed = spaces.Dict(observation=image, achieved_goal=goal, desired_goal=goal)
    with pytest.warns(UserWarning, match=r"'observation'\] looks like images.* 192 numbers"):
        assert GoalSpaces(observed, goal).obs_dim == 192


def test_the_reach_of_a_goal_is_measured_along_each_axis() -> None:
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


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_reward_in_an_array_is_a_reward(shape: tuple[int, ...]) -> None:
    env = GoalEnv(gym.wrappers.TransformReward(LineGoal(), lambda r: np.full(shape, r)))
    env.reset(seed=0)
    step = env.step(np.zeros((1, 1), np.float32))
    assert step.reward.shape == (1,) and step.reward.dtype == np.float64


def test_several_rewards_for_one_step_are_refused() -> None:
    env = GoalEnv(gym.wrappers.TransformReward(LineGoal(), lambda r: np.array([r, r])))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="2 rewards"):
        env.step(np.zeros((1, 1), np.float32))


def test_actions_are_scaled_to_the_bounds() -> None:
    env = GoalEnv(LineGoal())
    scaled = env.spaces.to_env_action(np.array([[-1.0], [0.0], [1.0], [7.0]], np.float32))
    assert np.allclose(scaled[:, 0], [-0.2, 0.1, 0.4, 0.4])


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_gives_the_same_true_transitions(mode: AutoresetMode) -> None:
    """Each transition's next state follows from its state, and no reset row is one."""
    n, steps = 3, 90
    vector = SyncVectorEnv([LineGoal for _ in range(n)], autoreset_mode=mode)
    env = GoalEnv(vector)
    rng = np.random.default_rng(0)
    current = env.reset(seed=0)
    counted, ends = np.zeros(n, int), np.zeros(n, int)
    for _ in range(steps):
        action = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
        moved = env.spaces.to_env_action(action)
        step = env.step(action)
        for i in np.flatnonzero(step.valid):
            expected = np.clip(current.achieved_goal[i] + moved[i], -1, 1)
            assert np.allclose(step.reached_state.achieved_goal[i], expected, atol=1e-5)
            assert step.reached_state.desired_goal[i] == current.desired_goal[i]
            counted[i] += 1
        assert (step.ended == (step.valid & step.truncated)).all()
        ends += step.ended
        for i in np.flatnonzero(step.ended):
            assert counted[i] % 20 == 0
        current = step.current
    assert (ends == counted // 20).all() and (ends >= 4).all()


def test_a_vector_that_names_no_autoreset_mode_resets_on_the_next_step() -> None:
    vector = SyncVectorEnv([LineGoal for _ in range(2)])
    vector.metadata = {k: v for k, v in vector.metadata.items() if k != "autoreset_mode"}
    env = GoalEnv(vector)
    env.reset(seed=0)
    steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(21)]
    assert steps[19].ended.all() and steps[20].n_valid == 0


def test_native_and_synchronous_vector_environments_agree() -> None:
    results = []
    for how in ("sync", "vector_entry_point"):
        env = GoalEnv(gym.make_vec("PointMassGoal-v0", num_envs=2, vectorization_mode=how))
        env.reset(seed=1)
        action = np.full((2, 2), 0.7, np.float32)
        results.append(np.stack([env.step(action).reached_state.observation for _ in range(30)]))
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


def test_a_step_stays_as_it_was_when_the_environment_reuses_its_memory() -> None:
    class Reuses(SyncVectorEnv):
        """Writes every step into the arrays that it returned before."""

        def step(self, actions: np.ndarray) -> Any:
            actions *= 0.5
            fresh = super().step(actions)
            if not hasattr(self, "memory"):
                self.memory = fresh
            for key, value in fresh[0].items():
                self.memory[0][key][:] = value
            for array, value in zip(self.memory[2:4], fresh[2:4], strict=True):
                array[:] = value
            return (self.memory[0], fresh[1], *self.memory[2:4], fresh[4])

        def spoil(self) -> None:
            for array in (*self.memory[0].values(), *self.memory[2:4]):
                array[:] = 1

    vector = Reuses([LineGoal for _ in range(2)], copy=False)
    env = GoalEnv(vector)
    env.reset(seed=0)
    action = np.full((2, 1), 0.25, np.float32)
    step = env.step(action)
    assert (action == 0.25).all()
    kept = step.reached_state.observation.copy()
    vector.spoil()
    assert np.array_equal(step.reached_state.observation, kept)
    assert not step.ended.any() and not step.failure.any() and step.valid.all()


def test_infos_of_a_vector_environment_come_row_by_row() -> None:
    env = GoalEnv(gym.make_vec("PointMassGoal-v0", num_envs=3))
    env.reset(seed=0)
    infos = env.step(np.zeros((3, 2), np.float32)).infos
    assert len(infos) == 3 == len(list(infos))
    assert [set(info) for info in infos] == [{"is_success", "success"}] * 3
    assert infos[-1] == infos[2] and infos[:2] == [infos[0], infos[1]]
    with pytest.raises(IndexError):
        infos[3]


def test_a_row_of_infos_has_what_its_mask_says() -> None:
    values, known = np.array([1.0, 2.0]), np.array([True, False])
    rows = _Rows({"a": values, "_a": known, "b": values, "final_info": {"a": values}}, 2)
    assert list(rows) == [{"a": 1.0, "b": 1.0}, {"b": 2.0}]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_episodes_that_a_vector_wrapper_counts_reach_the_infos(mode: AutoresetMode) -> None:
    vector = SyncVectorEnv([LineGoal, LineGoal], autoreset_mode=mode)
    env = GoalEnv(gym.wrappers.vector.RecordEpisodeStatistics(vector))
    env.reset(seed=0)
    rows = []
    for _ in range(25):
        rows += [info for info in env.step(np.ones((2, 1), np.float32)).infos if "episode" in info]
    assert [row["episode"]["l"] for row in rows] == [20, 20]


def test_a_wrapped_vector_of_processes_is_asked_for_its_reward() -> None:
    vector = gym.vector.AsyncVectorEnv([LineGoal, LineGoal])
    env = GoalEnv(gym.wrappers.vector.RecordEpisodeStatistics(vector))
    try:
        env.reset(seed=0)
        near = env.reached(np.array([[0.0], [0.0]]), np.array([[0.05], [0.5]]))
        assert near.tolist() == [True, False]
    finally:
        env.close()
