"""The replay buffer in a file of its own, with the clock by which its steps were taken."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.agents.state import AgentState
from hierebm.checkpoint.arrays import checked
from hierebm.checkpoint.format import load_checkpoint, save_checkpoint, shown
from hierebm.errors import CheckpointError


def save_replay(agent: AgentState, path: str | os.PathLike[str]) -> None:
    """Write the experience of an agent to one file, atomically. Raises OSError, RuntimeError."""
    agent.replay_buffer.flush()
    save_checkpoint(path, arrays=replay_arrays(agent), meta={"agent": "replay buffer"})


def load_replay(agent: AgentState, path: str | os.PathLike[str]) -> None:
    """Restore what :func:`save_replay` wrote; the agent takes over the clock if it has none.

    Raises:
        RuntimeError: if the agent knows no spaces yet.
        CheckpointError, ValueError: if the file is damaged, of another shape, or its steps are of
            another length.
    """
    if agent.spaces is None:
        raise RuntimeError(
            "the agent knows no spaces yet: set_env(env), or load(path) of the agent whose replay "
            "buffer it is, comes before load_replay_buffer(path)"
        )
    if agent.replay is None:
        agent.make_buffer(1)
    name = shown(path)
    arrays = load_checkpoint(path).arrays
    # Before anything is replaced by it.
    if missing := sorted(set(replay_arrays(agent)) - set(arrays)):
        raise CheckpointError(
            f"{name} has no {', '.join(missing)}: it is not a replay buffer of a "
            f"{type(agent).__name__} of this version of hierebm, collect experience again"
        )
    try:
        repeat = int(checked(arrays, "action_repeat", (), "whole numbers", low=0, high=1e6))
        counters = checked(arrays, "counters", (3,), "whole numbers", low=0)
        has_action = checked(arrays, "replay/has_action", (None,), "flags")
        # A larger buffer is made below, if it is of this many rows.
        checked(arrays, "replay/observation", (len(has_action), agent.spaces.obs_dim))
    except ValueError as error:
        raise CheckpointError(f"{name} is damaged ({error}); use another copy") from error
    if repeat and agent.knows_clock and repeat != agent.action_repeat:
        raise ValueError(
            f"{name} holds steps of {repeat} environment step(s), this agent's are "
            f"{agent.action_repeat}: make the agent with action_repeat={repeat}, or collect "
            "experience again"
        )
    replay, capacity = agent.replay_buffer, len(has_action)
    if capacity > replay.capacity:
        # It grew by a data set.
        replay = agent.empty_buffer(replay.n_envs, capacity)
    try:
        replay.load_state_dict(
            {k.removeprefix("replay/"): v for k, v in arrays.items() if k.startswith("replay/")}
        )
        if agent.high_level is not None:
            agent.high_level.load_replay_arrays(arrays)
    except ValueError as error:
        raise CheckpointError(f"cannot load {name}: {error}") from error
    agent.replay = replay
    agent.replay_buffer.n_added, agent.trained_at, agent.planned_at = map(int, counters)
    if repeat and not agent.knows_clock:
        agent.set_action_repeat(repeat)


def replay_arrays(agent: AgentState) -> dict[str, NDArray[Any]]:
    """What the file holds."""
    replay = agent.replay_buffer
    counters = np.array([replay.n_added, agent.trained_at, agent.planned_at])
    arrays = {f"replay/{name}": array for name, array in replay.state_dict().items()}
    high = {} if agent.high_level is None else agent.high_level.replay_arrays()
    # 0: the clock was not known yet, steps are environment steps.
    clock = {"action_repeat": np.array(agent.action_repeat if agent.knows_clock else 0)}
    return {**arrays, "counters": counters, **clock, **high}
