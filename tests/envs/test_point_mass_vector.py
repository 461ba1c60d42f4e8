"""The vector environment: identical to Gymnasium's SyncVectorEnv over single ones."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.vector import AutoresetMode

import hierebm  # noqa: F401 - registers the environment
from hierebm.envs import PointMassGoalVectorEnv

Observation = dict[str, npt.NDArray[np.float32]]


def make_both(num_envs: int, mode: AutoresetMode, **kwargs: Any) -> tuple[Any, Any]:
    sync = gymnasium.make_vec(
        "PointMassGoal-v0",
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **kwargs,
    )
    native = gymnasium.make_vec(
        "PointMassGoal-v0", num_envs=num_envs, autoreset_mode=mode, **kwargs
    )
    assert isinstance(native.unwrapped, PointMassGoalVectorEnv)
    return sync, native


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Same nesting, keys, dtypes, shapes and bits."""
    assert type(a) is type(b), f"{path}: {type(a)} and {type(b)}"
    if isinstance(a, dict):
        assert set(a) == set(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, tuple):
        assert len(a) == len(b), path
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{path}/{index}")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert b.dtype == object
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{path}/{index}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape, path
        assert a.tobytes() == b.tobytes(), f"{path}: {a} and {b}"
    else:
        assert a == b, path


def some_actions(rng: np.random.Generator, observation: Observation) -> npt.NDArray[np.float32]:
    """Half of the rows steer towards their goals, the others act at random."""
    offset = observation["desired_goal"] - observation["achieved_goal"]
    steer = 5 * offset - 20 * observation["observation"][:, 2:]
    noise = rng.uniform(-1, 1, steer.shape)
    actions = np.where(rng.random((len(steer), 1)) < 0.5, noise, steer)
    return np.clip(actions, -1, 1).astype(np.float32)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"layout": "serpentine", "max_episode_steps": 25},
    {"layout": "four_rooms", "distance": (0.5, 1.5), "time_limit": 40},
    {"layout": ["...#.", "...#.", ".....", ".##.."], "scale": 3, "reward_type": "dense"},
    {"continuing_task": True, "time_limit": 11, "start": (0.5, 0.5)},
]


@pytest.mark.parametrize("kwargs", VARIANTS)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_identical_to_the_sync_vector_env(mode: AutoresetMode, kwargs: dict[str, Any]) -> None:
    num_envs = 5
    sync, native = make_both(num_envs, mode, **kwargs)
    assert sync.observation_space == native.observation_space
    assert sync.action_space == native.action_space
    assert sync.single_observation_space == native.single_observation_space
    assert sync.single_action_space == native.single_action_space
    assert native.metadata["autoreset_mode"] is sync.metadata["autoreset_mode"] is mode

    expected, actual = sync.reset(seed=11), native.reset(seed=11)
    assert_same(expected, actual)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(150):
        actions = some_actions(rng, actual[0])
        expected, actual = sync.step(actions), native.step(actions)
        assert_same(expected, actual)
        over = actual[2] | actual[3]
        ends += int(over.sum())
        if mode is AutoresetMode.DISABLED and over.any():
            # SyncVectorEnv takes the mask out of the dict that it is given.
            expected = sync.reset(options={"reset_mask": over.copy()})
            actual = native.reset(options={"reset_mask": over.copy()})
            assert_same(expected, actual)
    assert ends >= 10, "episodes did end on the way"
    assert [int(s) for s in sync.np_random_seed] == [int(s) for s in native.np_random_seed]


@pytest.mark.parametrize("seed", [3, [4, 9, 2], None])
def test_seeds_and_options_are_those_of_the_sync_vector_env(seed: Any) -> None:
    sync, native = make_both(3, AutoresetMode.NEXT_STEP, layout="u")
    sync.reset(seed=0), native.reset(seed=0)
    options = {"start": (-3, 3), "distance": (5, 6)}
    for _ in range(3):
        assert_same(
            sync.reset(seed=seed, options=dict(options)),
            native.reset(seed=seed, options=dict(options)),
        )


def test_first_reset_without_a_seed_is_random() -> None:
    goals = [PointMassGoalVectorEnv(4).reset()[0]["desired_goal"] for _ in range(2)]
    assert not np.array_equal(goals[0], goals[1])
    assert len(np.unique(goals[0], axis=0)) == 4


def test_rows_of_starts_and_goals() -> None:
    env = PointMassGoalVectorEnv(3, layout="u")
    starts, goals = [[-3, 3], [-3, 2], [-3, 1]], [[3, 3], [3, 2], [3, 1]]
    observation, _ = env.reset(seed=0, options={"start": starts, "goal": goals})
    np.testing.assert_array_equal(observation["achieved_goal"], starts)
    np.testing.assert_array_equal(observation["desired_goal"], goals)
    with pytest.raises(ValueError, match=r"\['goal'\] must have shape"):
        env.reset(options={"goal": np.zeros((2, 2))})


def test_masked_reset_touches_only_its_rows() -> None:
    env = PointMassGoalVectorEnv(4, autoreset_mode="Disabled")
    before, _ = env.reset(seed=0)
    mask = np.array([False, True, False, True])
    options = {"reset_mask": mask, "goal": (1, 1)}
    after, info = env.reset(options=options)
    np.testing.assert_array_equal(after["desired_goal"][mask], [[1, 1], [1, 1]])
    np.testing.assert_array_equal(after["desired_goal"][~mask], before["desired_goal"][~mask])
    np.testing.assert_array_equal(info["_is_success"], mask)
    assert options["reset_mask"] is mask, "the caller's dict is left alone"


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False], TypeError),
        (np.array([1, 0]), TypeError),
        (np.array([True]), ValueError),
        (np.array([False, False]), ValueError),
    ],
)
def test_bad_reset_masks(mask: Any, error: type[Exception]) -> None:
    env = PointMassGoalVectorEnv(2)
    env.reset(seed=0)
    with pytest.raises(error, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_disabled_mode_asks_for_the_reset() -> None:
    env = PointMassGoalVectorEnv(2, autoreset_mode=AutoresetMode.DISABLED, time_limit=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1\] are over"):
        env.step(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"autoreset_mode": "sometimes"}, "sometimes"),
        ({"render_mode": "human"}, "render_mode='human'"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"layout": "maze"}, "'maze' is unknown"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointMassGoalVectorEnv(**arguments)


def test_bad_calls() -> None:
    env = PointMassGoalVectorEnv(2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="seed has 3 entries for 2"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), got \(2,\)"):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full((2, 2), np.inf, np.float32))


def test_a_limit_beyond_its_own_is_reported() -> None:
    with pytest.warns(UserWarning, match="pass time_limit"):
        env = PointMassGoalVectorEnv(2, max_episode_steps=500)
    assert env.time_limit == 100
    assert PointMassGoalVectorEnv(2, time_limit=500).time_limit == 500


def test_results_are_not_views_of_the_state() -> None:
    env = PointMassGoalVectorEnv(2)
    env.reset(seed=0)
    observation, rewards, terminated, truncated, info = env.step(np.zeros((2, 2), np.float32))
    kept = {key: value.copy() for key, value in observation.items()}
    for value in observation.values():
        value += 1
    rewards += 1
    for flags in (terminated, truncated, *info.values()):
        flags[:] = True
    following, _, terminated, truncated, _ = env.step(np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(following["achieved_goal"], kept["achieved_goal"])
    np.testing.assert_array_equal(following["desired_goal"], kept["desired_goal"])
    assert not terminated.any() and not truncated.any()


def test_world_is_within_reach() -> None:
    env = gymnasium.make_vec("PointMassGoal-v0", num_envs=3, layout="u")
    world: Any = env.unwrapped
    assert world.call("time_limit") == world.get_attr("time_limit") == (150, 150, 150)
    assert world.call("compute_reward", np.zeros(2), np.ones(2), {}) == (-1.0, -1.0, -1.0)
    assert world.shortest_path_distance([[-3, 3]], [[3, 3]])[0] > 6
    assert env.spec is not None and env.spec.id == "PointMassGoal-v0"


def test_one_picture_for_each() -> None:
    pytest.importorskip("pygame")
    env = PointMassGoalVectorEnv(2, render_mode="rgb_array", time_limit=3)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.ones((2, 2), np.float32))
    frames = env.render()
    assert frames is not None and len(frames) == 2
    assert frames[0].shape == (512, 512, 3) and not np.array_equal(*frames)
