"""Inputs that are still while an agent warms up, and move later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from tests.agents.small import SMALL, SMALL_PLANNING
from tests.toys import LineGoal


class Late(LineGoal):
    """An entry of the observation is 0 at first, and later about 0.5, or far more."""

    def __init__(self, late: float, after: int = 150) -> None:
        super().__init__()
        self.late, self.after = late, after
        box = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.observation_space = spaces.Dict({**self.observation_space.spaces, "observation": box})

    def _observe(self) -> dict[str, Any]:
        observation = super()._observe()
        entry = self.late * (1.0 + 0.2 * self.x) if self.total_steps >= self.after else 0.0
        observation["observation"] = np.append(observation["observation"], entry)
        return observation


def _largest_input(agent: Any, env: Late) -> float:
    observation, _ = env.reset(seed=0)
    keys = ("observation", "achieved_goal", "desired_goal")
    rows = (torch.as_tensor(observation[k][None], dtype=torch.float32) for k in keys)
    return float(agent.low_level.features(*rows).abs().max())


@pytest.mark.parametrize("late", [0.0, 0.5, 1e-3, 1e4])
def test_an_entry_that_moves_later_does_not_drown_the_others(late: float) -> None:
    env = Late(late)
    agent = DDPGHERAgent(seed=0, **SMALL).learn(env, 600)
    assert _largest_input(agent, env) < 4.0, "measured again at 256 and 512 stored transitions"
    scale = agent.low_level.features.observation_scale[2]  # type: ignore[attr-defined]
    assert agent.scales is not None and agent.scales.observation_scale[2] == scale
    if late:
        assert 0.1 * late < scale < 3.0 * max(late, 0.5)


@pytest.mark.parametrize("kind", [DDPGHERAgent, HierarchicalEBMAgent])
def test_a_run_whose_scales_are_measured_again_resumes_bit_for_bit(
    kind: Any, tmp_path: Path
) -> None:
    settings = SMALL if kind is DDPGHERAgent else SMALL_PLANNING

    def world(steps: int) -> Late:
        env = Late(50.0)
        env.total_steps = steps
        return env

    agent = kind(seed=3, **settings).learn(world(0), 240)
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.zip")
    resumed = kind.load(tmp_path / "agent.zip", env=world(240))
    resumed.load_replay_buffer(tmp_path / "replay.zip")
    went_on = []
    for each in (agent, resumed):
        scale = float(each.scales.observation_scale[2])
        each.set_env(world(240))
        each.learn(total_timesteps=60, reset_num_timesteps=False)
        assert each.scales.observation_scale[2] > 2.0 * scale, "measured again in between"
        assert getattr(each.high_level, "context", each).scales is each.scales
        parameters = each.low_level.state_dict()
        went_on.append([*parameters["actor"].values(), *parameters["features"].values()])
    for a, b in zip(*went_on, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("learning_starts", [0, 10])
def test_scales_do_not_stand_on_a_handful_of_steps(learning_starts: int) -> None:
    agent = DDPGHERAgent(seed=0, **{**SMALL, "learning_starts": learning_starts, "train_freq": 1})
    agent.learn(LineGoal(), 49)
    assert agent.scales is None and agent.n_updates == 0
    agent.learn(total_timesteps=400, reset_num_timesteps=False)
    assert agent.scales is not None and agent.n_updates > 300
    seen = 2.0 * agent.replay_buffer.observation[:400].std(0)
    ratio = agent.scales.observation_scale / seen
    assert (ratio > 0.4).all() and (ratio < 2.5).all()
