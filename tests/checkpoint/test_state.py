"""Spaces, environments and random generators come back from plain values."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.checkpoint.state import (
    check_same_space,
    env_to_json,
    numpy_generator_state,
    set_numpy_generator_state,
    space_from_json,
    space_to_json,
)
from hierebm.errors import CheckpointError

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
SPACES = [
    spaces.Box(-1.0, 1.0, (2,), np.float32),
    spaces.Box(np.array([0.1, -np.inf]), np.array([np.inf, 0.3]), dtype=np.float64),
    spaces.Box(0, 255, (2, 3), np.uint8),
    spaces.Discrete(5, start=-1),
    spaces.MultiBinary(3),
    spaces.Dict(
        observation=spaces.Box(-np.inf, np.inf, (4,), np.float32),
        achieved_goal=spaces.Box(-2, 2, (2,), np.float32),
        desired_goal=spaces.Box(-2, 2, (2,), np.float32),
    ),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_come_back(space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert space_from_json(json.loads(text)) == space


@settings(max_examples=50, deadline=None)
@given(
    bounds=st.lists(
        st.tuples(FLOATS, FLOATS),
        min_size=1,
        max_size=5,
    )
)
def test_box_bounds_come_back_exactly(bounds):
    pairs = np.sort(np.array(bounds, np.float32), axis=1)
    space = spaces.Box(pairs[:, 0], pairs[:, 1], dtype=np.float32)
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    np.testing.assert_array_equal(again.low, space.low, strict=True)
    np.testing.assert_array_equal(again.high, space.high, strict=True)


def test_space_errors():
    with pytest.raises(TypeError, match="Text"):
        space_to_json(spaces.Text(3))
    for damaged in ({}, {"type": "Box"}, {"type": "Evil"}, {"type": "Dict", "spaces": 3}):
        with pytest.raises(CheckpointError, match="space"):
            space_from_json(damaged)


def test_envs_come_back_by_id_and_arguments():
    import gymnasium as gym

    import hierebm  # noqa: F401

    env = gym.make("PointMassGoal-v0", layout="u", scale=2)
    described = json.loads(json.dumps(env_to_json(env)))
    assert described == {"id": "PointMassGoal-v0", "kwargs": {"layout": "u", "scale": 2}}
    again = gym.make(described["id"], **described["kwargs"])
    assert again.observation_space == env.observation_space
    vector = gym.make_vec("PointMassGoal-v0", num_envs=2, layout="u")
    assert env_to_json(vector) == {"id": "PointMassGoal-v0", "kwargs": {"layout": "u"}}
    several = gym.make_vec(
        "PointMassGoal-v0", 2, "sync", {"autoreset_mode": "SameStep"}, layout="u"
    )
    assert env_to_json(several) == {"id": "PointMassGoal-v0", "kwargs": {"layout": "u"}}
    assert env_to_json(gym.Env()) is None


def test_check_same_space_names_the_part():
    goal = SPACES[-1]
    check_same_space(goal, goal, "observation_space")
    other = spaces.Dict({**goal.spaces, "observation": spaces.Box(-1, 1, (6,), np.float32)})
    with pytest.raises(ValueError, match=r"observation_space\['observation'\]"):
        check_same_space(goal, other, "observation_space")
    with pytest.raises(ValueError, match="keys"):
        check_same_space(goal, spaces.Dict(a=SPACES[0]), "observation_space")


@pytest.mark.parametrize(
    "bit_generator", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]
)
def test_numpy_generator_continues_where_it_was(bit_generator):
    generator = np.random.Generator(bit_generator(3))
    generator.normal(size=5)
    state = json.loads(json.dumps(numpy_generator_state(generator)))
    expected = generator.normal(size=5)
    fresh = np.random.Generator(bit_generator(9))
    set_numpy_generator_state(fresh, state)
    np.testing.assert_array_equal(fresh.normal(size=5), expected)


def test_damaged_generator_states():
    with pytest.raises(CheckpointError, match="PCG64"):
        set_numpy_generator_state(np.random.default_rng(), {"bit_generator": "MT19937"})
    with pytest.raises(CheckpointError, match="damaged"):
        set_numpy_generator_state(np.random.default_rng(), {"bit_generator": "PCG64"})
