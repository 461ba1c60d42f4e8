"""Learning where the achieved goal moves only when it is touched."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.agents.measuring import LONGEST_WAIT
from tests.pushing import PushedBlock
from tests.toys import SMALL, PlaneGoal

FEW: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "n_critics": 2,
    "learning_starts": 200,
    "batch_size": 32,
    "train_freq": 20,
    "buffer_size": 5000,
}


def test_random_actions_go_on_until_the_block_has_moved() -> None:
    agent = DDPGHERAgent(seed=0, **FEW)
    agent.learn(PushedBlock(), 200)
    assert agent.scales is None
    agent.learn(PushedBlock(), 4000, callback=lambda *_: agent.n_updates < 3)
    assert agent.scales is not None
    assert not agent.scales.at_will.any()
    assert len(agent.moving_rows.rows()) >= 32


def test_random_actions_end_where_nothing_ever_moves() -> None:
    agent = DDPGHERAgent(seed=0, **FEW).learn(PushedBlock(stuck=True), 200 * LONGEST_WAIT + 100)
    assert agent.n_updates > 0


@pytest.mark.parametrize("dim", [1, 2])
def test_what_moves_at_will_is_not_waited_for(dim: int) -> None:
    agent = DDPGHERAgent(seed=0, **FEW).learn(PlaneGoal(dim), 230)
    assert agent.scales is not None
    assert agent.scales.at_will.all() and agent.n_updates > 0


def test_what_moves_at_will_is_saved(tmp_path: Path) -> None:
    agent = DDPGHERAgent(seed=0, **FEW).learn(PushedBlock(stuck=True), 2100)
    agent.save(tmp_path / "agent.zip")
    again = DDPGHERAgent.load(tmp_path / "agent.zip")
    assert agent.scales is not None and again.scales is not None
    np.testing.assert_array_equal(again.scales.at_will, agent.scales.at_will)


def test_the_hierarchical_agent_learns_there_without_an_error() -> None:
    agent = HierarchicalEBMAgent(seed=0, **{**SMALL, **FEW}).learn(PushedBlock(), 2500)
    assert agent.n_updates > 0


@pytest.mark.parametrize(("steps", "more"), [(500, 1800), (3010, 400)])
def test_a_run_resumes_bit_for_bit(tmp_path: Path, steps: int, more: int) -> None:
    """While random actions go on, and when rows are drawn from where the block moves."""
    seen: list[list[np.ndarray]] = [[], []]

    def run(agent: DDPGHERAgent, env: PushedBlock, target: int, kept: list[np.ndarray]) -> None:
        def look(here: dict[str, Any], _: Any) -> bool:
            kept.append(here["actions"].copy())
            return True

        agent.learn(env, target, callback=look, reset_num_timesteps=False)

    first, env = DDPGHERAgent(seed=1, **FEW), PushedBlock()
    run(first, env, steps, [])
    first.save(tmp_path / "agent.zip", replay_buffer=True)
    copy = deepcopy(env)
    run(first, env, more, seen[0])
    second = DDPGHERAgent.load(tmp_path / "agent.zip")
    second.set_env(copy, resume_episode=True)
    run(second, copy, more, seen[1])
    assert first.n_updates > 0
    np.testing.assert_array_equal(np.array(seen[0]), np.array(seen[1]))
