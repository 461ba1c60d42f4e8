"""Checkpoints are written while learning, and cost nothing but themselves."""

from __future__ import annotations

import pytest

from hierebm.callbacks import CheckpointCallback, EvalCallback
from tests.callbacks.agent import Agent


def test_checkpoints(tmp_path):
    callback = CheckpointCallback(2, tmp_path / "a" / "b", "agent", save_replay_buffer=True)
    Agent(n_envs=5).learn(20, callback)
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == [
        "agent_10_steps.zip",
        "agent_20_steps.zip",
        "agent_replay_buffer_10_steps.zip",
        "agent_replay_buffer_20_steps.zip",
    ]
    with pytest.raises(ValueError, match="save_freq"):
        CheckpointCallback(0, tmp_path)


def test_full_disk_costs_the_checkpoint_not_the_training(tmp_path):
    class FullDisk(Agent):
        def save(self, path):
            raise OSError(28, "No space left on device")

    with pytest.warns(RuntimeWarning, match="No space left"):
        agent = FullDisk().learn(4, CheckpointCallback(2, tmp_path))
    assert agent.num_timesteps == 4
    with pytest.warns(RuntimeWarning, match="best_model"):
        evaluation = EvalCallback("PointMassGoal-v0", eval_freq=2, n_eval_episodes=1, verbose=0)
        evaluation.best_model_save_path = tmp_path
        agent = FullDisk().learn(4, evaluation)
    assert agent.num_timesteps == 4
