"""Errors that arise in the middle of a step, told by what the environment returned there.

Vectors of environments put rows together before anyone looks at them: where a row is of another
shape, or none at all, that is an error of NumPy's inside of Gymnasium or Stable-Baselines3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gymnasium import spaces

from hierebm.goal_env.faults import INTACT, EnvFault, observation_fault, reward_fault
from hierebm.goal_env.spaces import KEYS

# The code that puts rows together: an error in it is about what it was given.
_VECTORS = (
    "gymnasium.vector", "stable_baselines3.common.vec_env",
    "hierebm.goal_env.autoreset", "hierebm.goal_env.infos", "hierebm.goal_env.vec_env",
)  # fmt: skip


def explain(error: Exception, env: Any, when: str, observation: Any = None) -> None:
    """Raise ValueError where an error is about what the environment returned; else do nothing.

    Args:
        error: what was raised while the environment was stepped, or its rows were put together.
        env: the environment or vector, as Gymnasium has them.
        when: "in step 7", for the message.
        observation: batched, that was worked on, if it was one.
    """
    if isinstance(error, EnvFault):
        raise ValueError(f"the environment returned {when} {error}: {INTACT}") from error
    n = getattr(env, "num_envs", 1)
    space = getattr(env, "single_observation_space", env.observation_space)
    if observation is not None and (fault := _fault(observation, space, n)):
        raise ValueError(
            f"the observation that the environment returned {when} {fault}: {INTACT}"
        ) from error
    at = _innermost(error)
    if not at.is_of_vector:
        return
    observations = at.observations
    if observations is None:
        observations = getattr(env.unwrapped, "_env_obs", None)
    for i, row in _rows(observations):
        batch = {key: [values] for key, values in row.items()} if isinstance(row, Mapping) else row
        if fault := _fault(batch, space, 1):
            raise ValueError(
                f"the observation that the environment returned {when} in row {i} {fault}: {INTACT}"
            ) from error
    if at.rewards is not None and (fault := reward_fault(at.rewards, n)):
        raise ValueError(f"the environment returned {when} {fault}: {INTACT}") from error
    where = "" if at.row is None else f" in row {at.row}"
    what = f"what the environment returned {when}{where} is no step ({error}), expected"
    if at.has_died:
        # Only the other process knows more.
        what = (
            f"the environment{where} broke off {when} ({error}). A SyncVectorEnv shows the "
            "line, if that is an error of its own; if not, it returned something else than"
        )
    raise ValueError(
        f"{what} observation, reward (one number), terminated, truncated and info (a dict): "
        f"{INTACT}"
    ) from error


def _rows(observations: Any) -> list[tuple[int, Any]]:
    if isinstance(observations, Mapping):
        return list(observations.items())
    return list(enumerate(observations)) if isinstance(observations, (list, tuple)) else []


def _fault(observation: Any, space: Any, n: int) -> str:
    """What is wrong with a batched observation of a goal environment."""
    if not isinstance(space, spaces.Dict) or any(key not in space.spaces for key in KEYS):
        return ""
    return observation_fault(observation, space, KEYS, n)


class _Place(NamedTuple):
    """Where in a vector an error arose, and what the environments had returned."""

    is_of_vector: bool
    """It is an error of the vector, not of one of its environments."""
    row: int | None
    """The environment that it was at."""
    has_died: bool
    """That environment has a process of its own, which has ended."""
    observations: Any
    """Of all environments, or row -> observation."""
    rewards: Any


def _innermost(error: Exception) -> _Place:
    row, module, has_died = None, "", False
    observations = rewards = None
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        name, known = str(frame.f_globals.get("__name__", "")), frame.f_locals
        # Of NumPy's functions some have frames; whose they are says who called them.
        if not name.startswith("numpy"):
            module = name
        if name == "gymnasium.vector.sync_vector_env":
            row = known.get("i", row)
        elif name == "gymnasium.vector.async_vector_env":
            row, told = known.get("env_idx", row), known.get("successes")
            # Where all have been looked at, the last one is no better than the others.
            if told is not None and len(told) == known["self"].num_envs:
                has_died = not all(told)
                row = list(told).index(False) if has_died else None
            if told is not None and row is None:
                observations, rewards = known["observations"], known["rewards"]
                if observations[0] is None:
                    # They are in memory that is shared, and in order.
                    observations = None
        elif name.startswith("stable_baselines3"):
            row, rewards = known.get("env_idx", row), known.get("rews", rewards)
            if "obs" in known:
                observations = known["obs"] if row is None else {row: known["obs"]}
        elif frame.f_code.co_name == "next_observation":
            observations = known.get("final")
        elif frame.f_code.co_name == "_add_info":
            row, observations, rewards = known.get("env_num", row), None, None
        traceback = traceback.tb_next
    return _Place(module.startswith(_VECTORS), row, has_died, observations, rewards)
