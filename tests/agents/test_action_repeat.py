"""Held actions: stored as one step of the agent, counted as environment steps everywhere."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.checkpoint.format import load_checkpoint, save_checkpoint
from tests.toys import SMALL, PlaneGoal


def slow_point(limit: int = 200, terminate: bool = True) -> PlaneGoal:
    """A point that moves a tenth of the success tolerance a step."""
    return PlaneGoal(step=0.02, tolerance=0.2, limit=limit, terminate=terminate)


SETTINGS: dict[str, Any] = {**SMALL, "train_freq": 5, "energy_train_freq": 50}
FLAT = {k: v for k, v in SETTINGS.items() if not k.startswith(("energy", "pool", "n_sub"))}


def _runs(actions: list[np.ndarray]) -> np.ndarray:
    """Lengths of runs of equal actions."""
    changed = [not np.array_equal(a, b) for a, b in pairwise(actions)]
    return np.diff(np.flatnonzero([True, *changed, True]))


def test_the_agent_finds_its_clock_and_holds_its_actions() -> None:
    env = slow_point(terminate=False)
    agent = HierarchicalEBMAgent(seed=0, **SETTINGS)
    assert agent.action_repeat == 1 and not agent.knows_clock
    agent.learn(env, 1000)
    # Full speed goes .02 to .028 a step, the time limit leaves 4 steps a block at most.
    assert agent.action_repeat == 4 and agent.knows_clock
    assert agent.num_timesteps == len(env.actions) == 1000
    # After 200 steps of random actions the clock starts, blocks end with the episode.
    assert (_runs(env.actions[400:]) % 4 == 0).all()
    replay = agent.replay_buffer
    assert replay.n_added == 800 // 4
    assert agent.high_level.context.step_length == 0.25


def test_a_block_ends_with_its_episode() -> None:
    env = slow_point(limit=10, terminate=False)
    agent = DDPGHERAgent(seed=0, action_repeat=4, **FLAT)
    agent.learn(env, 400)
    replay = agent.replay_buffer
    replay.flush()
    # Every episode of ten steps is held for 4, 4 and 2.
    assert replay.n_added == 400 // 10 * 3
    rows = replay.newest_rows(119)
    here, _, _, action, there, _ = replay.transitions(rows)
    steps = (there - here) / 0.02
    inside = (np.abs(there) < 1.0).all(1)
    last = replay.steps_left(rows) == 1
    np.testing.assert_allclose(steps[inside & ~last], 4 * action[inside & ~last], atol=1e-3)
    np.testing.assert_allclose(steps[inside & last], 2 * action[inside & last], atol=1e-3)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_side_by_side_every_environment_has_its_own_blocks(mode: AutoresetMode) -> None:
    limits = [10, 13, 6]
    vector = SyncVectorEnv(
        [lambda limit=limit: slow_point(limit, terminate=False) for limit in limits],
        autoreset_mode=mode,
    )
    agent = DDPGHERAgent(seed=0, action_repeat=4, **{**FLAT, "learning_starts": 10_000})
    agent.learn(vector, 900)
    replay = agent.replay_buffer
    replay.flush()
    for env, limit in enumerate(limits):
        rows = np.arange(env, replay.capacity, 3)
        rows = rows[replay.has_action[rows] & (replay.episode_end[rows] >= 0)]
        here, _, _, action, there, _ = replay.transitions(rows)
        inside = (np.abs(there) < 1.0).all(1)
        length = np.where(replay.steps_left(rows) == 1, (limit - 1) % 4 + 1, 4)
        expected = 0.02 * length[:, None] * action
        np.testing.assert_allclose((there - here)[inside], expected[inside], atol=1e-4)
        assert inside.sum() > 10


def test_a_saved_agent_keeps_its_clock(tmp_path: Path) -> None:
    agent = HierarchicalEBMAgent(seed=0, **SETTINGS).learn(slow_point(), 600)
    agent.save(tmp_path / "a.zip")
    agent.save_replay_buffer(tmp_path / "r.zip")
    loaded = HierarchicalEBMAgent.load(tmp_path / "a.zip", env=slow_point())
    assert loaded.action_repeat == agent.action_repeat == 4
    assert loaded.high_level.context.step_length == 0.25
    loaded.load_replay_buffer(tmp_path / "r.zip")
    assert loaded.replay_buffer.n_added == agent.replay_buffer.n_added

    fresh = HierarchicalEBMAgent(seed=1, env=slow_point(), **SETTINGS)
    fresh.load_replay_buffer(tmp_path / "r.zip")
    assert fresh.action_repeat == 4, "steps of the buffer are steps of the agent"
    other = HierarchicalEBMAgent(seed=1, env=slow_point(), action_repeat=2, **SETTINGS)
    with pytest.raises(ValueError, match="action_repeat=4"):
        other.load_replay_buffer(tmp_path / "r.zip")


def test_the_log_counts_environment_steps(tmp_path: Path) -> None:
    agent = DDPGHERAgent(seed=0, action_repeat=5, **FLAT)
    seen: list[tuple[int, int]] = []

    def count(local: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append((local["self"].num_timesteps, len(local["rewards"])))
        return True

    agent.learn(slow_point(limit=50, terminate=False), 300, callback=count)
    assert [steps for steps, _ in seen] == list(range(1, 301))
    assert agent._loop is not None
    assert agent.episodes.means()["rollout/ep_len_mean"] == 50


def test_a_coarse_clock_can_tell_distances_apart_where_steps_are_tiny() -> None:
    start, goal = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 400, 2)).astype(np.float32)
    way = np.abs(goal - start).max(1)
    start, goal, way = (rows[way > 1.0] for rows in (start, goal, way))
    small: dict[str, Any] = {"hidden_sizes": (64, 64), "batch_size": 128, "learning_starts": 600}

    def over_the_truth(steps: int, **settings: Any) -> float:
        """Predicted distances of far pairs over the true ones, both in steps of the agent."""
        agent = DDPGHERAgent(seed=0, **small, **settings).learn(slow_point(), steps)
        truth = (way - 0.2) / (0.02 * agent.action_repeat)
        return float(np.median(agent.low_level.distance(start, start, goal) / truth))

    assert 0.7 < over_the_truth(3500, gradient_steps=2) < 1.8
    assert over_the_truth(2000, action_repeat=1, train_freq=2) < 0.5, "all of them look alike"


def test_files_that_are_older_than_the_clock_have_one_of_1(tmp_path: Path) -> None:
    agent = DDPGHERAgent(seed=0, action_repeat=1, **FLAT).learn(slow_point(), 400)
    agent.save(tmp_path / "agent.zip")
    file = load_checkpoint(tmp_path / "agent.zip")
    arrays = {k: v for k, v in file.arrays.items() if k != "action_repeat"}
    config = {k: v for k, v in file.config.items() if k != "action_repeat"}
    old = tmp_path / "old.zip"
    save_checkpoint(old, config=config, tensors=file.tensors, arrays=arrays, meta=file.meta)
    loaded = DDPGHERAgent.load(old, env=slow_point())
    assert loaded.learn(total_timesteps=400).action_repeat == 1
    assert loaded.replay_buffer.n_added == 400
