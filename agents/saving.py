"""An agent in a file: settings, networks, random streams, spaces; no code."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from hierebm.errors import CheckpointError
from hierebm.goal_spaces import GoalSpaces
from hierebm.serialization import load_checkpoint, save_checkpoint
from hierebm.state import (
    env_to_json,
    numpy_generator_state,
    set_numpy_generator_state,
    space_from_json,
    space_to_json,
)

if TYPE_CHECKING:
    from hierebm.agents.base import GoalAgent

Agent = TypeVar("Agent", bound="GoalAgent")


def save_agent(agent: GoalAgent, path: str | os.PathLike[str]) -> None:
    """Write an agent; see :meth:`GoalAgent.save`."""
    if agent.spaces is None:
        raise RuntimeError("nothing to save: the agent has seen no environment yet")
    save_checkpoint(
        path,
        config=asdict(agent.config),
        tensors={**agent._tensors(), "generator": agent.generator.get_state()},
        arrays=agent._arrays(),
        meta={
            "agent": type(agent).__name__,
            "env": None if agent.env is None else env_to_json(agent.env.env),
            "num_timesteps": agent.num_timesteps,
            "n_updates": agent.n_updates,
            "seed": agent.seed,
            "rng": numpy_generator_state(agent.rng),
            "observation_space": space_to_json(agent.spaces.observation_space),
            "action_space": space_to_json(agent.spaces.action_space),
        },
    )


def load_agent(
    agent_class: type[Agent],
    path: str | os.PathLike[str],
    device: str | torch.device,
    **kwargs: Any,
) -> Agent:
    """Make the agent that :func:`save_agent` wrote; see :meth:`GoalAgent.load`."""
    checkpoint = load_checkpoint(path, map_location=device)
    meta = checkpoint.meta
    if meta.get("agent") != agent_class.__name__:
        raise CheckpointError(
            f"{path} holds a {meta.get('agent', 'file of another kind')}, not a "
            f"{agent_class.__name__}; load it with that class"
        )
    names = {f.name for f in fields(agent_class.config_class)}
    config = agent_class.config_class(**{k: v for k, v in checkpoint.config.items() if k in names})
    agent = agent_class(config, seed=0, device=device, **kwargs)
    agent.set_random_seed(int(meta["seed"]))
    agent.spaces = GoalSpaces(
        space_from_json(meta["observation_space"]), space_from_json(meta["action_space"])
    )
    agent._build(agent.spaces)
    tensors = checkpoint.tensors
    try:
        agent.generator.set_state(tensors.pop("generator").cpu())
        # Arrays first: they hold the scales that the parts of the agent are made with.
        agent._load_arrays(checkpoint.arrays)
        agent._load_tensors(tensors)
        agent.num_timesteps = int(meta["num_timesteps"])
        agent.n_updates = int(meta["n_updates"])
        set_numpy_generator_state(agent.rng, meta["rng"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not fit a {agent_class.__name__} of its own settings ({error}); it was "
            "written by another version of hierebm or damaged: load it with the version in "
            f"its meta.json ({meta.get('hierebm_version', 'unknown')}) or train again"
        ) from error
    return agent
