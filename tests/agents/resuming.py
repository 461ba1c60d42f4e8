"""A run that goes on, here or in its own process: ``python -m tests.agents.resuming ...``."""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from hierebm import agents
from hierebm.agents.replay_file import replay_arrays
from hierebm.checkpoint.state import to_tensors

STEPS = 150
WORLD = "PointMassGoal-v0"


def make_env(n_envs: int) -> Any:
    """One environment, or several; fewer than none: Gymnasium's vector of so many."""
    if n_envs == 1:
        return gym.make(WORLD)
    if n_envs > 1:
        return gym.make_vec(WORLD, num_envs=n_envs)
    single = [partial(gym.make, WORLD)] * -n_envs
    return SyncVectorEnv(single, autoreset_mode=AutoresetMode.NEXT_STEP)


def save(agent: Any, folder: Path) -> None:
    """Write all that :func:`resumed` needs, the state of the environment too."""
    agent.save(folder / "agent.zip", replay_buffer=True)
    (folder / "env.pkl").write_bytes(pickle.dumps(agent.get_env()))


def resumed(agent_class: str, folder: Path, **options: Any) -> Any:
    """What :func:`save` wrote."""
    env = pickle.loads((folder / "env.pkl").read_bytes())
    cls = getattr(agents, agent_class)
    return cls.load(folder / "agent.zip", env=env, resume_episode=True, **options)


def go_on(agent: Any, steps: int = STEPS) -> dict[str, Tensor]:
    """Learn for more steps; return all that there is of the agent afterwards, by name."""
    agent.learn(total_timesteps=steps, reset_num_timesteps=False)
    return everything(agent)


def everything(agent: Any) -> dict[str, Tensor]:
    """All that the agent saves, all experience, and the running episodes, by name."""
    stream = agent.rng.bit_generator.state["state"]
    return {
        **_named("agent", agent._tensors()),
        **_named("arrays", to_tensors(agent._arrays())),
        **_named("experience", to_tensors(replay_arrays(agent))),
        **_named("running", to_tensors(agent._running_episodes())),
        **_named("stream", [[int(digit) for digit in str(n)] for n in stream.values()]),
        **_named("counters", [agent.num_timesteps, agent.num_episodes, agent.n_updates]),
    }


def _named(name: str, value: Any) -> dict[str, Tensor]:
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {k: t for key in value for k, t in _named(f"{name}/{key}", value[key]).items()}
    return {} if value is None else {name: torch.as_tensor(value)}


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        agent_class, _, path = argument.partition("=")
        torch.save(go_on(resumed(agent_class, Path(path))), Path(path) / "later.pt")
