"""Environments are made by whatever id Gymnasium takes, and what is missing is said."""

from __future__ import annotations

import gymnasium as gym
import pytest

import hierebm
from hierebm.goal_env.make import make_many, open_eval_env
from tests.toys import SMALL


@pytest.mark.filterwarnings("ignore:.*latest versioned environment")
def test_an_id_without_its_version_does_for_training_and_evaluation():
    agent = hierebm.DDPGHERAgent(seed=0, hidden_sizes=(8, 8)).learn("PointMassGoal", 10)
    assert agent.num_timesteps == 10
    with open_eval_env("PointMassGoal", 2, {"layout": "u"}) as env:
        assert env.n_envs == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda env_id: hierebm.HierarchicalEBMAgent(env=env_id, **SMALL),
        lambda env_id: make_many(env_id, {}, 2),
        lambda env_id: open_eval_env(env_id, 2, None).__enter__(),
    ],
)
def test_an_unknown_id_is_told_how_to_name_its_module(make):
    with pytest.raises(gym.error.NameNotFound, match=r"doesn't exist.*as in gymnasium_robotics:"):
        make("Elsewhere-v3")
    with pytest.raises(gym.error.NameNotFound, match=r"doesn't exist\.$"):
        make("hierebm:Elsewhere-v3")
