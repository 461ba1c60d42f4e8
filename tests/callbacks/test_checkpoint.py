"""Checkpoints are written while learning, and cost nothing but themselves."""

from __future__ import annotations

import warnings

import pytest

from hierebm.callbacks import CheckpointCallback, EvalCallback
from tests.callbacks.agent import Agent


def test_checkpoints(tmp_path):
    callback = CheckpointCallback(2, tmp_path / "a" / "b", "agent", save_replay_buffer=True)
    Agent(n_envs=5).learn(20, callback)
    files = {p.name: p.read_text() for p in (tmp_path / "a" / "b").iterdir()}
    # One file: the two cannot part.
    both = "model and experience"
    assert files == {"agent_10_steps.zip": both, "agent_20_steps.zip": both}
    with pytest.raises(ValueError, match="save_freq"):
        CheckpointCallback(0, tmp_path)


def test_old_checkpoints_are_removed_but_none_of_others(tmp_path):
    (tmp_path / "agent_999_steps.zip").write_text("of an earlier run")
    callback = CheckpointCallback(1, tmp_path, "agent", keep=2)
    Agent().learn(4, callback)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"agent_999_steps.zip", "agent_3_steps.zip", "agent_4_steps.zip"}
    with pytest.raises(ValueError, match="keep must be at least 1"):
        CheckpointCallback(1, tmp_path, keep=0)


def test_two_runs_in_one_folder_are_told_apart_and_warned(tmp_path):
    first, second = (CheckpointCallback(1, tmp_path, "agent") for _ in range(2))
    first.init_callback(Agent())
    first.on_training_start({}, {})
    with pytest.warns(RuntimeWarning, match=r"another run is saving agent_\*.*agent-2_\*"):
        Agent().learn(1, second)
    assert (tmp_path / "agent-2_1_steps.zip").exists()
    first.on_training_end()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Agent().learn(1, second)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "agent-2_1_steps.zip",
        "agent_1_steps.zip",
    ]


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    others = [".agent_offline_5_steps.zip.x1.tmp", ".agent.zip.x1.tmp", "agent_5_steps.zip"]
    for name in [*others, ".agent_5_steps.zip.k3j_2a.tmp"]:
        (tmp_path / name).write_text("half")
    Agent().learn(1, CheckpointCallback(2, tmp_path, "agent"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


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
