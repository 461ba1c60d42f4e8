"""The replay buffer in a file of its own, with the clock by which its steps were taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hierebm.agents.state import AgentState
from hierebm.at_once import set_at_once
from hierebm.checkpoint.arrays import checked
from hierebm.checkpoint.format import load_checkpoint, save_checkpoint, shown
from hierebm.errors import CheckpointError
from hierebm.replay.saved import ROWS, TIMES


def save_replay(agent: AgentState, path: str | os.PathLike[str]) -> None:
    """Write the experience of an agent to one file, atomically. Raises OSError, RuntimeError."""
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
    restore_replay(agent, load_checkpoint(path).arrays, path)


def restore_replay(
    agent: AgentState, arrays: Mapping[str, NDArray[Any]], path: str | os.PathLike[str] | IO[bytes]
) -> None:
    """Restore the experience that :func:`replay_arrays` gave; ``path`` is where it comes from.

    Raises:
        CheckpointError: if the arrays are of another kind or shape or contradict one another.
        ValueError: if the agent has other environments, or steps of another length. Nothing has
            changed then, as after a CheckpointError.
    """
    name = shown(path)
    if missing := sorted(_needed(agent) - set(arrays)):
        raise CheckpointError(
            f"{name} has no {', '.join(missing)}: it is not a replay buffer of a "
            f"{type(agent).__name__} of this version of hierebm, collect experience again"
        )
    try:
        repeat = int(checked(arrays, "action_repeat", (), "whole numbers", low=0, high=1e6))
        n_added, trained_at, planned_at = map(
            int, checked(arrays, "counters", (3,), "whole numbers", low=0)
        )
        n_envs = len(checked(arrays, "replay/time", (None,), "whole numbers", low=0))
        capacity = _capacity(agent, arrays, n_envs)
    except ValueError as error:
        raise CheckpointError(f"{name} is damaged ({error}); use another copy") from error
    kept = agent.replay
    if kept is not None and n_envs != kept.n_envs:
        raise ValueError(
            f"{name} holds the experience of {n_envs} environment(s), this agent has "
            f"{kept.n_envs}: set_env with as many first"
        )
    if repeat and agent.knows_clock and repeat != agent.action_repeat:
        raise ValueError(
            f"{name} holds steps of {repeat} environment step(s), this agent's are "
            f"{agent.action_repeat}: make the agent with action_repeat={repeat}, or collect "
            "experience again"
        )
    usual = agent.config.buffer_size
    if capacity < usual and arrays["replay/time"].max() >= capacity // n_envs:
        raise ValueError(
            f"{name} holds a replay buffer that is full with buffer_size={capacity}, the agent has "
            f"buffer_size={usual}: make or load the agent with the former"
        )
    try:
        # Into a new one, which takes the place of the old one when all of it is there.
        replay = agent.empty_buffer(n_envs, max(capacity, usual))
        replay.load_state_dict(
            {k.removeprefix("replay/"): v for k, v in arrays.items() if k.startswith("replay/")}
        )
        replay.n_added = n_added
        if agent.high_level is not None:
            agent.high_level.load_replay_arrays(arrays)
    except ValueError as error:
        raise CheckpointError(f"cannot load {name}: {error}") from error
    new = {"replay": replay, "trained_at": trained_at, "planned_at": planned_at}
    set_at_once(agent, **new, **({"_action_repeat": repeat} if repeat else {}))
    agent.tell_clock()


def _needed(agent: AgentState) -> set[str]:
    """Names of the arrays without which there is no replay buffer."""
    high = {} if agent.high_level is None else agent.high_level.replay_arrays()
    rows = {f"replay/{name}" for name in (*ROWS, *TIMES)}
    return {*rows, *high, "counters", "action_repeat"}


def _capacity(agent: AgentState, arrays: Mapping[str, NDArray[Any]], n_envs: int) -> int:
    """Rows of the buffer that the arrays come from. Raises ValueError if that cannot be."""
    assert agent.spaces is not None
    n_rows = len(checked(arrays, "replay/has_action", (None,), "flags"))
    # A larger buffer is made, if it is of this many rows.
    checked(arrays, "replay/observation", (n_rows, agent.spaces.obs_dim))
    # It may have grown by data sets, all of which are in the file then.
    most = max(agent.config.buffer_size, n_rows) + (1 + n_envs) * (n_rows + 2)
    least = max(n_rows, 3 * n_envs, 1)
    if "capacity" in arrays:
        return int(checked(arrays, "capacity", (), "whole numbers", low=least, high=most))
    # Files of earlier versions hold all rows.
    if n_rows < least:
        raise ValueError(f"{n_rows} rows for {n_envs} environment(s)")
    return n_rows


def replay_arrays(agent: AgentState) -> dict[str, NDArray[Any]]:
    """What the file holds: all experience, and what was made of it so far."""
    replay = agent.replay_buffer
    replay.flush()
    counters = np.array([replay.n_added, agent.trained_at, agent.planned_at])
    arrays = {f"replay/{name}": array for name, array in replay.state_dict().items()}
    high = {} if agent.high_level is None else agent.high_level.replay_arrays()
    # 0: the clock was not known yet, steps are environment steps.
    clock = {"action_repeat": np.array(agent.action_repeat if agent.knows_clock else 0)}
    capacity = {"capacity": np.array(replay.capacity)}
    return {**arrays, "counters": counters, **clock, **capacity, **high}
