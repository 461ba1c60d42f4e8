"""A run that goes on, here or in its own process: ``python -m tests.agents.resuming ...``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from hierebm import agents
from hierebm.agents.replay_file import replay_arrays

STEPS = 200


def save(agent: Any, folder: Path) -> None:
    """Write all that :func:`resumed` needs."""
    agent.save(folder / "agent.zip")
    agent.save_replay_buffer(folder / "replay.zip")


def resumed(agent_class: str, folder: Path) -> Any:
    """What :func:`save` wrote."""
    agent = getattr(agents, agent_class).load(folder / "agent.zip", env="PointMassGoal-v0")
    agent.load_replay_buffer(folder / "replay.zip")
    return agent


def go_on(agent: Any) -> dict[str, Tensor]:
    """Learn for ``STEPS`` more; return all that the agent saves and all experience, by name."""
    agent.learn(gym.make("PointMassGoal-v0"), STEPS, reset_num_timesteps=False)
    experience = {key: torch.as_tensor(value) for key, value in replay_arrays(agent).items()}
    arrays = {key: torch.as_tensor(value) for key, value in agent._arrays().items()}
    tensors = _named("agent", agent._tensors()) | _named("arrays", arrays)
    return tensors | _named("experience", experience)


def _named(name: str, value: Any) -> dict[str, Tensor]:
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {k: t for key in value for k, t in _named(f"{name}/{key}", value[key]).items()}
    return {name: torch.as_tensor(value)}


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        agent_class, _, path = argument.partition("=")
        torch.save(go_on(resumed(agent_class, Path(path))), Path(path) / "later.pt")
