"""The learning benchmark's own measures."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.learning import FULL, PEER, subgoal_quality
from hierebm import DDPGHERAgent, HierarchicalEBMAgent

SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "n_critics": 2,
    "batch_size": 16,
    "learning_starts": 200,
    "train_freq": 20,
    "energy_width": 16,
    "energy_train_freq": 500,
    "energy_gradient_steps": 3,
}


def test_every_case_makes_an_agent_that_can_learn_there() -> None:
    for case in FULL:
        if case.method == PEER:
            pytest.importorskip("stable_baselines3")
        agent = case.learner(seed=0)
        assert agent.get_env() is not None
        if case.method != PEER:
            assert type(agent) is (DDPGHERAgent if case.method == "flat" else HierarchicalEBMAgent)
            assert {k: getattr(agent.config, k) for k, _ in case.settings} == dict(case.settings)


def test_paths_over_subgoals_are_no_shorter_than_the_straight_line() -> None:
    agent = HierarchicalEBMAgent(seed=0, **SMALL)
    agent.learn(gym.make("PointMassGoal-v0"), 1500)
    quality = subgoal_quality(agent, 10)
    assert 1.0 <= quality["path_ratio"] < 2.0 and np.isfinite(quality["saddle_nats"])
