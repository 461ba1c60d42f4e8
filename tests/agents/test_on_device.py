"""An agent whose low level is the one of GPUs, here on the CPU, learns like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hierebm import DDPGHERAgent, DDPGHERConfig
from hierebm.agents.batches import device_batches
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.errors import TrainingDiverged
from hierebm.replay.device_batches import HindsightBatches, HostBatches
from tests.agents import resuming
from tests.toys import SMALL, LineGoal, PlaneGoal

FLAT = {k: v for k, v in SMALL.items() if k in DDPGHERConfig().to_dict()} | {"train_freq": 2}


def make(**settings: Any) -> DDPGHERAgent:
    return DDPGHERAgent(seed=0, low_level=CapturedDDPG, **FLAT | settings)


def weights(agent: DDPGHERAgent) -> list[torch.Tensor]:
    parts = agent.low_level.state_dict()
    return [t.clone() for part in parts.values() for t in part.values()]


def test_it_learns_from_batches_that_are_drawn_on_the_device() -> None:
    agent = make(train_freq=1).learn("PointMassGoal-v0", 260)
    assert isinstance(device_batches(agent), HindsightBatches)
    before = weights(agent)
    agent.learn(total_timesteps=100, reset_num_timesteps=False)
    assert agent.n_updates == 161
    assert not all(map(torch.equal, before, weights(agent)))
    for name in ("critic_loss", "actor_loss", "distance_mean"):
        assert np.isfinite(agent.logger.latest[f"train/{name}"])


def test_going_on_from_a_file_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    agent = make().learn("PointMassGoal-v0", 300)
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.npz")
    again = DDPGHERAgent.load(tmp_path / "agent.zip", low_level=CapturedDDPG)
    again.set_env("PointMassGoal-v0")
    again.load_replay_buffer(tmp_path / "replay.npz")
    for one in (agent, again):
        # Both begin with a reset.
        one.learn(total_timesteps=100)
    assert all(map(torch.equal, weights(agent), weights(again)))


def test_updates_are_launched_between_the_choice_of_an_action_and_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a GPU makes them while the environment steps."""
    agent = make(train_freq=1).learn("PointMassGoal-v0", 260)
    order: list[str] = []
    noted = [(agent.low_level, "act"), (agent.low_level, "update_from"), (agent.env, "step")]
    for owner, name in noted:
        call = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *a, _name=name, _call=call: order.append(_name) or _call(*a)
        )
    agent.learn(total_timesteps=3, reset_num_timesteps=False)
    once = ["act", "update_from", "step"]
    assert order == ["act", "step", *once, *once, "update_from"]


def test_a_file_of_a_callback_goes_on_as_its_run_did(tmp_path: Path) -> None:
    """It is written while updates are due."""

    def save(locals_: Any, _: Any) -> None:
        if locals_["self"].num_timesteps == 280:
            resuming.save(locals_["self"], tmp_path)

    agent = make().learn("PointMassGoal-v0", 300, save)
    again = resuming.resumed("DDPGHERAgent", tmp_path, low_level=CapturedDDPG)
    assert again._loop.state_dict()["is_training_due"]
    expected, later = resuming.everything(agent), resuming.go_on(again, 20)
    assert not [key for key in expected if not torch.equal(later[key], expected[key])]


def far_or_near(achieved: Any, desired: Any, info: Any) -> Any:
    """A tolerance that depends on the goal."""
    tolerance = np.where(desired[..., 0] > 0.0, 0.1, 0.2)
    return -(np.linalg.norm(achieved - desired, axis=-1) > tolerance).astype(float)


def test_where_reached_is_no_ellipsoid_the_host_draws() -> None:
    env = PlaneGoal()
    env.compute_reward = far_or_near  # type: ignore[method-assign]
    agent = make().learn(env, 300)
    assert isinstance(device_batches(agent), HostBatches)
    assert agent.n_updates > 0
    agent.learn(PlaneGoal(), 60)
    assert isinstance(device_batches(agent), HindsightBatches)
    assert isinstance(device_batches(make().learn(LineGoal(), 300)), HindsightBatches)


def test_one_that_diverges_is_named_and_what_it_was() -> None:
    agent = make(train_freq=1).learn("PointMassGoal-v0", 260)
    good = weights(agent)
    agent.low_level.critic_optimizer.lr = 1e20
    agent.last_good.forget()
    words = r"of the critics came to .* in update 62, at the learning rate 1e\+20.* were 1 update"
    with pytest.raises(TrainingDiverged, match=words):
        agent.learn(total_timesteps=200, reset_num_timesteps=False)
    assert all(map(torch.equal, good, weights(agent)))
    agent.low_level.critic_optimizer.lr = 1e-3
    agent.learn(total_timesteps=50, reset_num_timesteps=False)


def test_callbacks_see_no_network_that_is_lost(tmp_path: Path) -> None:
    agent = make(train_freq=1).learn("PointMassGoal-v0", 260)
    seen = []

    def look(locals_: Any, _: Any) -> bool:
        seen.append(all(torch.isfinite(w).all() for w in weights(agent)))
        agent.low_level.critic_optimizer.lr = 1e20 if len(seen) == 3 else 1e-3
        return True

    with pytest.raises(TrainingDiverged, match=r"in update 64, .* were 64 update"):
        agent.learn(total_timesteps=200, callback=look, reset_num_timesteps=False)
    assert all(seen) and len(seen) == 3


def test_a_new_seed_is_one_for_batches_too() -> None:
    agent = make().learn("PointMassGoal-v0", 260)
    drawn = []
    for seed in (1, 2, 1):
        agent.set_random_seed(seed)
        source = device_batches(agent)
        source.draw(1)
        drawn.append(source.batches(1).observation[:, 0])
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_many_updates_at_once_and_several_environments() -> None:
    env = gym.make_vec("PointMassGoal-v0", num_envs=4)
    agent = make(train_freq=1, gradient_steps=3).learn(env, 300)
    # From the step on after which there were 200.
    assert agent.n_updates == 3 * (300 - 196)
