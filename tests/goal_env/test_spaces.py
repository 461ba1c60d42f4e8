"""Every space that an agent cannot learn in gets one clear error; the others become flat rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from hierebm.goal_env.adapter import GoalEnv
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


def test_images_are_flattened_with_a_warning() -> None:
    image, goal = spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Box(-1.0, 1.0, (2,))
    observed = spaces.Dict(observation=image, achieved_goal=goal, desired_goal=goal)
    with pytest.warns(UserWarning, match=r"'observation'\] looks like images.* 192 numbers"):
        assert GoalSpaces(observed, goal).obs_dim == 192


def test_actions_are_scaled_to_the_bounds() -> None:
    env = GoalEnv(LineGoal())
    scaled = env.spaces.to_env_action(np.array([[-1.0], [0.0], [1.0], [7.0]], np.float32))
    assert np.allclose(scaled[:, 0], [-0.2, 0.1, 0.4, 0.4])


def test_bounds_of_half_precision_are_compared_without_overflow() -> None:
    env = LineGoal()
    env.action_space = spaces.Box(-2.0, 2.0, (1,), np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = GoalEnv(env).spaces.to_env_action(np.ones((1, 1), np.float32))
    assert scaled.tolist() == [[2.0]]
