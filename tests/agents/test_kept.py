"""What was learned is kept: in one file, whole, and whatever moment learning is interrupted at."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks.reliability.workers import TINY, TINY_PLANNING
from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.agents.replay_file import replay_arrays
from hierebm.callbacks import CheckpointCallback
from hierebm.checkpoint.format import save_checkpoint
from hierebm.data import OfflineDataset
from hierebm.replay.episodes import EpisodeReplay
from tests.agents import resuming

WORLD = "PointMassGoal-v0"


def _flat(**more: Any) -> DDPGHERAgent:
    return DDPGHERAgent(**{**TINY, "seed": 0, **more})


@pytest.fixture(scope="module")
def trained() -> DDPGHERAgent:
    return _flat().learn(WORLD, 437)


def _stream(agent: Any, **options: Any) -> io.BytesIO:
    agent.save(stream := io.BytesIO(), **options)
    stream.seek(0)
    return stream


def test_counters_come_back(trained: DDPGHERAgent) -> None:
    loaded = DDPGHERAgent.load(_stream(trained))
    assert loaded.num_episodes == trained.num_episodes > 0
    assert loaded.replay is None, "without its experience, as the file is"
    assert (
        DDPGHERAgent.load(_stream(trained, replay_buffer=True), replay_buffer=False).replay is None
    )


def test_a_file_holds_as_much_experience_as_there_is(trained: DDPGHERAgent) -> None:
    agent = _flat(buffer_size=1_000_000, learning_starts=2000).learn(WORLD, 1000)
    sizes = [len(_stream(agent, replay_buffer=r).getvalue()) for r in (False, True)]
    assert sizes[1] - sizes[0] < 1000 * 100


def test_there_may_be_no_episode_to_resume(trained: DDPGHERAgent) -> None:
    alone, whole = (_stream(trained, replay_buffer=r) for r in (False, True))
    with pytest.raises(ValueError, match=r"no episode to resume.*leave resume_episode out"):
        DDPGHERAgent.load(alone, env=WORLD, resume_episode=True)
    venv = gym.make_vec(WORLD, num_envs=2)
    with pytest.raises(
        ValueError, match=r"the stream cannot be .*give as many environments as ran"
    ):
        DDPGHERAgent.load(whole, env=venv, resume_episode=True)


@pytest.mark.parametrize("planner", ["graph", "sequence"])
def test_damaged_episodes_are_refused_or_gone_on_with(planner: str) -> None:
    """Whatever stands in place of a part of them."""
    settings = {**TINY_PLANNING, "planner": planner, "direct_episodes": 0.0}
    agent = HierarchicalEBMAgent(**settings, seed=0).learn(WORLD, 437)
    data = _stream(agent, replay_buffer=True).getvalue()
    env = gym.make(WORLD)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    odd: list[Any] = [None, -1, 10**6, 0.5, True, "x", [], {}, np.zeros(0), np.array([7]),
                      np.zeros((2, 3), np.int64), np.full((1, 4), 1e30, np.float32)]  # fmt: skip
    outcomes = set()
    for _ in range(25):
        loaded = HierarchicalEBMAgent.load(io.BytesIO(data))
        branch: Any = loaded._running
        assert branch is not None
        while True:
            keys = list(branch) if isinstance(branch, dict) else list(range(len(branch)))
            key = keys[int(rng.integers(len(keys)))]
            if not isinstance(branch[key], (dict, list)) or not branch[key]:
                break
            branch = branch[key]
        branch[key] = odd[int(rng.integers(len(odd)))]
        try:
            loaded.set_env(env, resume_episode=True)
        except ValueError as error:
            assert "cannot be gone on with" in str(error)
            outcomes.add("refused")
            continue
        loaded.learn(total_timesteps=12, reset_num_timesteps=False)
        outcomes.add("gone on with")
    assert outcomes == {"refused", "gone on with"}


def test_without_the_state_of_its_environment_the_episode_is_over(trained: DDPGHERAgent) -> None:
    agent = DDPGHERAgent.load(_stream(trained, replay_buffer=True), env=WORLD)
    agent.learn(total_timesteps=200, reset_num_timesteps=False)
    replay = agent.replay_buffer
    rows = np.flatnonzero(replay.has_action)
    moved = replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows]
    assert agent.num_timesteps == 637 and np.abs(moved).max() < 0.21


def test_a_checkpoint_of_a_callback_goes_on_as_its_run_did(tmp_path: Path) -> None:
    """It is written between a step and what is learned from it."""
    checkpoint = CheckpointCallback(132, tmp_path, save_replay_buffer=True)

    def keep_env(locals_: Any, globals_: Any) -> None:
        agent = locals_["self"]
        if agent.num_timesteps == 132:
            resuming.save(agent, tmp_path)

    settings = {**TINY_PLANNING, "train_freq": 4, "energy_train_freq": 132, "seed": 0}
    agent = HierarchicalEBMAgent(**settings).learn(WORLD, 160, [keep_env, checkpoint])
    expected = resuming.everything(agent)
    (tmp_path / "rl_model_132_steps.zip").rename(tmp_path / "agent.zip")
    again = resuming.resumed("HierarchicalEBMAgent", tmp_path)
    assert again._loop.state_dict()["is_training_due"]
    later = resuming.go_on(again, 28)
    assert not [key for key in expected if not torch.equal(later[key], expected[key])]


def test_a_run_says_what_it_did_not_come_to(tmp_path: Path) -> None:
    agent = _flat().learn(WORLD, 300, lambda locals_, _: locals_["self"].num_timesteps < 120)
    assert DDPGHERAgent.load(_stream(agent)).unfinished == {"timesteps": 300}
    agent.learn(total_timesteps=180, reset_num_timesteps=False)
    assert agent.num_timesteps == 300 and not agent.unfinished


def test_arrays_that_contradict_one_another_are_refused(
    trained: DDPGHERAgent, tmp_path: Path
) -> None:
    arrays = replay_arrays(trained)
    damaged = {
        "replay/time": arrays["replay/time"] + 100,
        "replay/episode_start": arrays["replay/time"] + 1,
        "replay/episode_end": arrays["replay/episode_end"] + 1000,
        "replay/action": arrays["replay/action"][:-1],
        "capacity": np.array(10**12),
    }
    kept = trained.replay
    for name, value in damaged.items():
        save_checkpoint(tmp_path / "r.zip", arrays={**arrays, name: value})
        with pytest.raises(ValueError, match="damaged"):
            trained.load_replay_buffer(tmp_path / "r.zip")
    assert trained.replay is kept


def test_replay_files_of_earlier_versions_are_read(trained: DDPGHERAgent, tmp_path: Path) -> None:
    """They held every row, those too that were never written."""
    arrays = replay_arrays(trained)
    new = {"capacity", "replay/data_digests", "replay/data_times"}
    old = {k: v for k, v in arrays.items() if k not in new}
    old |= {f"replay/{k}": v for k, v in trained.replay_buffer.rows().items()}
    save_checkpoint(tmp_path / "r.zip", arrays=old)
    agent = _flat(env=WORLD)
    agent.load_replay_buffer(tmp_path / "r.zip")
    loaded = replay_arrays(agent)
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)


def _data(shift: float = 0.0) -> OfflineDataset:
    action = np.random.default_rng(0).uniform(-1.0, 1.0, (200, 2)).astype(np.float32)
    position = np.cumsum(0.1 * action, 0, dtype=np.float32) + np.float32(shift)
    return OfflineDataset.from_arrays(position, action, np.arange(200) % 50 == 49, goal=[0, 1])


def test_the_same_data_is_stored_once() -> None:
    agent = _flat(action_repeat=1, buffer_size=300)
    options: dict[str, Any] = {"success_tolerance": 0.3}

    def interrupt(locals_: Any, globals_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.learn_offline(_data(), 5, interrupt, **options)
    agent.learn_offline(_data(), 5, **options)
    assert agent.replay_buffer.n_added == agent.replay_buffer.n_transitions == 196
    # So it is after a file, too; other data is other data.
    agent = DDPGHERAgent.load(_stream(agent, replay_buffer=True))
    agent.learn_offline(_data(), 5, **options)
    assert agent.replay_buffer.n_added == 196
    agent.learn_offline(_data(0.5), 5, **options)
    assert agent.replay_buffer.n_added == 392


def test_data_that_was_overwritten_is_stored_again() -> None:
    replay = EpisodeReplay(60, 2, 2, 2)
    states = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    ends = np.arange(20) % 10 == 9
    for digest in (b"a" * 16, b"b" * 16, b"c" * 16):
        times = replay.time.copy()
        replay.add_episodes(states, states, states, states, ends)
        replay.note_data(digest, times)
        assert replay.holds_data(digest)
    assert not replay.holds_data(b"a" * 16) and not replay.holds_data(b"d" * 16)


@pytest.mark.parametrize("name", ["_close_episode", "_open_episodes", "later"])
def test_what_is_stored_is_stored_once_wherever_it_is_interrupted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(replay: EpisodeReplay) -> None:
        rng = np.random.default_rng(0)
        for t in range(30):
            here, there = rng.normal(size=(2, 2, 2)).astype(np.float32)
            ended = np.array([t % 7 == 6, t % 5 == 4])
            with suppress(KeyboardInterrupt):
                replay.add(here, here, here, here, there, there, ended & False, ended)

    whole, broken = (EpisodeReplay(40, 2, 2, 2, 2) for _ in range(2))
    steps(whole)
    method, calls = getattr(broken, name), [0]

    def sometimes(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] % 3 == 1:
            raise KeyboardInterrupt
        return method(*args)

    monkeypatch.setattr(broken, name, sometimes)
    steps(broken)
    for _ in range(3):
        with suppress(KeyboardInterrupt):
            broken.flush()
    assert calls[0] > 5 and whole.n_added == broken.n_added == 60
    for key, array in whole.state_dict().items():
        np.testing.assert_array_equal(array, broken.state_dict()[key], err_msg=key)
