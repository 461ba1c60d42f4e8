"""Files and copies of agents: what is in them, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.errors import CheckpointError
from tests.agents.small import make, same, trained


def _edited(path: Path, member: str, **entries: Any) -> Path:
    """A copy of a checkpoint with entries of a JSON member replaced; None takes one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    value = {**json.loads(members[member]), **entries}
    members[member] = json.dumps({k: v for k, v in value.items() if v is not None}).encode()
    with zipfile.ZipFile(path.with_name("edited.zip"), "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path.with_name("edited.zip")


def test_files_that_lack_something_say_so(tmp_path: Path) -> None:
    make("flat").learn("PointMassGoal-v0", 10).save(tmp_path / "agent.zip")
    for key in ("seed", "observation_space", "action_space", "rng", "num_timesteps", "n_updates"):
        with pytest.raises(CheckpointError, match=f"{key}.*another version"):
            DDPGHERAgent.load(_edited(tmp_path / "agent.zip", "meta.json", **{key: None}))
    for setting in ({"hidden_sizes": "x"}, {"batch_size": []}, {"critic": "y"}, {"tau": -1}):
        with pytest.raises(CheckpointError, match="another version"):
            DDPGHERAgent.load(_edited(tmp_path / "agent.zip", "config.json", **setting))
    DDPGHERAgent.load(_edited(tmp_path / "agent.zip", "config.json", of_the_future=3))


@pytest.mark.parametrize(
    "override",
    [{"planner": "sequence"}, {"subgoal_sampler": "cvae"}, {"hidden_sizes": (8,)}],
)
def test_overrides_that_ask_for_other_networks_are_named(
    override: dict[str, Any], tmp_path: Path
) -> None:
    trained("graph").save(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match=f"with another {next(iter(override))}.*train again"):
        HierarchicalEBMAgent.load(tmp_path / "agent.zip", **override)
    loaded = HierarchicalEBMAgent.load(tmp_path / "agent.zip", n_subgoals=3, bisection=True)
    assert loaded.config.n_subgoals == 3


def test_devices(tmp_path: Path) -> None:
    make("flat").learn("PointMassGoal-v0", 10).save(tmp_path / "agent.zip")
    assert DDPGHERAgent.load(tmp_path / "agent.zip", device="cpu:0").num_timesteps == 10
    unusable = ["gpu"] if torch.cuda.is_available() else ["gpu", "cuda"]
    for device in unusable:
        with pytest.raises(ValueError, match=f"device='{device}'.*\"cpu\""):
            DDPGHERAgent(device=device)
        with pytest.raises(ValueError, match=f"device='{device}'.*\"cpu\""):
            DDPGHERAgent.load(tmp_path / "agent.zip", device=device)


def test_what_counts_as_reached_is_in_the_file(tmp_path: Path) -> None:
    wide = gym.make("PointMassGoal-v0")
    wide.unwrapped.success_radius = 0.5
    agent = make("graph").learn(wide, 400)
    agent.save(tmp_path / "agent.zip")
    alone = HierarchicalEBMAgent.load(tmp_path / "agent.zip")
    angle = np.linspace(0.0, 6.0, 50)
    around = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    for radius, inside in ((0.49, True), (0.51, False)):
        assert (alone._reached(radius * around, np.zeros_like(around)) == inside).all()
    env = gym.make("PointMassGoal-v0")
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        mine, its = agent.plan(observation), alone.plan(observation)
        assert mine.path == its.path
        np.testing.assert_array_equal(mine.edges, its.edges)
    alone.save(tmp_path / "again.zip")
    again = HierarchicalEBMAgent.load(tmp_path / "again.zip")
    np.testing.assert_array_equal(again._tolerance, alone._tolerance)


def test_a_seed_at_loading_starts_other_streams(tmp_path: Path) -> None:
    agent = make("flat").learn("PointMassGoal-v0", 150)
    agent.save(tmp_path / "agent.zip")
    runs = [
        DDPGHERAgent.load(tmp_path / "agent.zip", env="PointMassGoal-v0", seed=s).learn(None, 150)
        for s in (None, 1, 1)
    ]
    assert same(runs[1], runs[2]) and not same(runs[0], runs[1])


@pytest.mark.parametrize("kind", ["flat", "graph", "sequence"])
def test_agents_can_be_copied_and_pickled(kind: str) -> None:
    observation, _ = gym.make("PointMassGoal-v0").reset(seed=0)
    agent = make(kind, verbose=1)
    fresh = copy.deepcopy(agent)
    assert fresh.config == agent.config and fresh.seed == agent.seed and fresh.verbose == 1
    assert fresh.observation_space is fresh.action_space is None
    fresh.verbose = agent.verbose = 0
    agent.learn("PointMassGoal-v0", 250)
    assert same(fresh.learn("PointMassGoal-v0", 250), agent)
    before = agent.predict(observation)[0]
    for other in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert other.num_timesteps == 250 and other.get_env() is None
        assert other.observation_space.contains(observation)
        assert other.action_space == gym.make("PointMassGoal-v0").action_space
        other.set_env("PointMassGoal-v0")
        assert np.array_equal(other.predict(observation)[0], before)
        other.learn("PointMassGoal-v0", 200)
        assert not same(other, agent)
    assert np.array_equal(agent.predict(observation)[0], before), "a copy shares nothing"
