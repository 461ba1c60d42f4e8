"""The replay buffer in a file of its own, with the clock by which its steps were taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hierebm.agents.state import AgentState
from hierebm.at_once import set_at_once
from hierebm.checkpoint.format import load_checkpoint, save_checkpoint
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
    arrays = load_checkpoint(path).arrays
    try:
        restore_replay(agent, arrays, path)
    except (TypeError, IndexError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another copy") from error


def restore_replay(
    agent: AgentState, arrays: Mapping[str, NDArray[Any]], path: str | os.PathLike[str] | IO[bytes]
) -> None:
    """Restore the experience that :func:`replay_arrays` gave.

    Raises:
        ValueError: if the arrays are of another shape or contradict one another, or the steps are
            of another length; nothing has changed then.
    """
    n_envs = len(arrays.get("replay/time", [0]))
    kept = agent.replay
    if kept is not None and n_envs != kept.n_envs:
        raise ValueError(
            f"{path} holds the experience of {n_envs} environment(s), this agent has "
            f"{kept.n_envs}: set_env with as many first"
        )
    if missing := sorted(_needed(agent) - set(arrays)):
        raise ValueError(
            f"{path} has no {', '.join(missing)}: it is not a replay buffer of a "
            f"{type(agent).__name__} of this version of hierebm, collect experience again"
        )
    repeat = int(arrays["action_repeat"])
    if repeat and agent.knows_clock and repeat != agent.action_repeat:
        raise ValueError(
            f"{path} holds steps of {repeat} environment step(s), this agent's are "
            f"{agent.action_repeat}: make the agent with action_repeat={repeat}, or collect "
            "experience again"
        )
    # Into a new one, which takes the place of the old one when all of it is there.
    replay = agent.empty_buffer(n_envs, _capacity(agent, arrays, n_envs))
    replay.load_state_dict(
        {k.removeprefix("replay/"): v for k, v in arrays.items() if k.startswith("replay/")}
    )
    replay.n_added, trained_at, planned_at = map(int, arrays["counters"])
    new = {"replay": replay, "trained_at": trained_at, "planned_at": planned_at}
    set_at_once(agent, **new, **({"_action_repeat": repeat} if repeat else {}))
    agent.tell_clock()
    if agent.high_level is not None:
        agent.high_level.load_replay_arrays(arrays)


def _needed(agent: AgentState) -> set[str]:
    """Names of the arrays without which there is no replay buffer."""
    high = {} if agent.high_level is None else agent.high_level.replay_arrays()
    rows = {f"replay/{name}" for name in (*ROWS, *TIMES)}
    return {*rows, *high, "counters", "action_repeat"}


def _capacity(agent: AgentState, arrays: Mapping[str, NDArray[Any]], n_envs: int) -> int:
    """Rows of the buffer that the arrays come from."""
    n_rows, usual = len(arrays["replay/has_action"]), agent.config.buffer_size
    # Files of earlier versions hold all rows.
    capacity = int(arrays.get("capacity", n_rows))
    # It may have grown by data sets, all of which are in the file then.
    if not n_rows <= capacity <= max(usual, n_rows) + (1 + n_envs) * (n_rows + 2):
        raise ValueError(
            f"its replay buffer claims {capacity} rows and holds {n_rows}: it is damaged"
        )
    if capacity >= usual:
        return capacity
    if arrays["replay/time"].max() >= capacity // n_envs:
        raise ValueError(
            f"its replay buffer is full with buffer_size={capacity}, the agent has "
            f"buffer_size={usual}: make or load the agent with the former"
        )
    return usual


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
