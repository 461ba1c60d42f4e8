"""Agents that learn together learn what each learns alone."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hierebm import DDPGHERAgent, HierarchicalEBMAgent, HierarchicalEBMConfig, learn_together
from hierebm.agents.batches import device_batches
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.device_learner import DeviceLearner
from hierebm.replay.device_batches import HostBatches
from tests.agents.test_on_device import FLAT, far_or_near, weights
from tests.toys import SMALL, PlaneGoal

KINDS: dict[type, dict[str, Any]] = {
    DDPGHERAgent: FLAT,
    HierarchicalEBMAgent: {
        k: v for k, v in SMALL.items() if k in HierarchicalEBMConfig().to_dict()
    },
}


def make(seed: int, kind: type = DDPGHERAgent, **settings: Any) -> Any:
    return kind(seed=seed, low_level=CapturedDDPG, **KINDS[kind] | settings)


def check_same(together: Any, alone: Any, start: list[torch.Tensor]) -> None:
    assert together.num_timesteps == alone.num_timesteps
    assert together.n_updates == alone.n_updates > 0
    replays = together.replay_buffer, alone.replay_buffer
    np.testing.assert_allclose(*(r.observation for r in replays), atol=1e-2)
    for mine, theirs, before in zip(weights(together), weights(alone), start, strict=True):
        moved = (theirs.double() - before.double()).abs().max()
        assert (mine.double() - theirs.double()).abs().max() <= 0.05 * moved + 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_each_learns_what_it_learns_alone(kind: type) -> None:
    alone, together = ([make(seed, kind) for seed in range(2)] for _ in range(2))
    starts = []
    for agent in alone:
        agent.set_env("PointMassGoal-v0")
        starts.append(weights(agent))
        agent.learn(total_timesteps=250)
    learn_together(together, ["PointMassGoal-v0"] * 2, total_timesteps=250)
    for mine, theirs, start in zip(together, alone, starts, strict=True):
        check_same(mine, theirs, start)
        assert type(mine.low_level._learner) is DeviceLearner
        for name in ("critic_loss", "distance_mean"):
            metrics = [agent.logger.latest[f"train/{name}"] for agent in (mine, theirs)]
            assert metrics[0] == pytest.approx(metrics[1], rel=1e-2)
    # And go on alone.
    together[0].learn(total_timesteps=10, reset_num_timesteps=False)
    assert together[0].num_timesteps == 260


def test_one_goes_on_when_another_has_ended_with_batches_of_the_host() -> None:
    agents = [make(seed) for seed in range(2)]
    envs = [PlaneGoal(), PlaneGoal()]
    for env in envs:
        env.compute_reward = far_or_near  # type: ignore[method-assign]
    steps = []

    def count(values: dict[str, Any], _: Any) -> bool:
        steps.append(values["self"])
        return len(steps) < 450 or values["self"] is not agents[0]

    learn_together(agents, envs, total_timesteps=300, callback=count)
    assert agents[1].num_timesteps == 300 > agents[0].num_timesteps > 200
    assert agents[1].n_updates > agents[0].n_updates > 0
    assert all(isinstance(device_batches(agent), HostBatches) for agent in agents)


def test_an_error_of_one_ends_all_and_is_told() -> None:
    agents = [make(seed) for seed in range(2)]

    class Breaks(gym.Wrapper):  # type: ignore[type-arg]
        n = 0

        def step(self, action: Any) -> Any:
            self.n += 1
            if self.n == 250:
                raise OSError("the simulator went away")
            return super().step(action)

    envs = [gym.make("PointMassGoal-v0"), Breaks(gym.make("PointMassGoal-v0"))]
    with pytest.raises(OSError, match="went away"):
        learn_together(agents, envs, total_timesteps=400)
    assert all(200 < agent.num_timesteps < 300 for agent in agents)
    assert all(type(agent.low_level._learner) is DeviceLearner for agent in agents)


def test_what_is_shared_is_refused() -> None:
    agent, env = make(0), gym.make("PointMassGoal-v0")
    with pytest.raises(ValueError, match="one agent was given twice"):
        learn_together([agent, agent], [env, "PointMassGoal-v0"])
    with pytest.raises(ValueError, match="one environment was given twice"):
        learn_together([agent, make(1)], [env, env])
    with pytest.raises(ValueError, match="an environment for each agent"):
        learn_together([agent], [])


def test_on_the_cpu_they_learn_one_after_the_other() -> None:
    agents = [DDPGHERAgent(seed=seed, **FLAT) for seed in range(2)]
    learn_together(agents, ["PointMassGoal-v0"] * 2, total_timesteps=210)
    assert [agent.num_timesteps for agent in agents] == [210, 210]


def test_those_with_as_many_updates_go_together() -> None:
    """One has learned before; it goes on beside the others, and each as alone."""
    agents, alone = ([make(seed) for seed in range(3)] for _ in range(2))
    for one in (agents[0], alone[0]):
        one.learn("PointMassGoal-v0", 230)
    starts = [weights(alone[0])]
    for one in alone[1:]:
        one.set_env("PointMassGoal-v0")
        starts.append(weights(one))
    learn_together(agents, ["PointMassGoal-v0"] * 3, total_timesteps=230)
    for agent, one, start in zip(agents, alone, starts, strict=True):
        one.learn("PointMassGoal-v0", 230)
        check_same(agent, one, start)
