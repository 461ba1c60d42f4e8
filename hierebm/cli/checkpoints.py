"""Agents from their files, with the environments that they are tried in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from hierebm.checkpoint.format import load_checkpoint, read_meta
from hierebm.checkpoint.state import space_from_json
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.errors import CheckpointError
from hierebm.goal_env.make import make_env
from hierebm.goal_env.spaces import GoalSpaces

# A file that asks for more envs side by side gets one.
MOST_ENVS = 1024

AnyEnv = gym.Env[Any, Any] | VectorEnv[Any, Any, Any]


def agent_class_of(name: str) -> Any:
    """The class of that name."""
    import hierebm

    return getattr(hierebm, name)


def load_agent(
    path: Path, env_id: str | None, env_kwargs: dict[str, Any]
) -> tuple[Any, str, dict[str, Any]]:
    """The agent of a checkpoint, and the id and arguments of the env to try it in.

    Args:
        path: the checkpoint.
        env_id: the env; None for the one that the agent was trained in.
        env_kwargs: arguments of the env; of those that it was trained with, the others are kept.
    """
    meta = _meta(path)
    given, (env_id, env_kwargs) = env_id, _env_of(meta, env_id, env_kwargs)
    try:
        env = make_env(env_id, env_kwargs)
    except gym.error.UnregisteredEnv as error:
        if given:
            raise
        # Nothing that a file names is imported.
        raise ValueError(
            f"the agent was trained in {env_id}, which is not registered: name the module that "
            f"registers it with --env MODULE:{env_id}"
        ) from error
    return _load_into(path, meta, env, env_id), env_id, env_kwargs


def load_stopped_agent(
    path: Path, env_id: str | None, env_kwargs: dict[str, Any], options: dict[str, Any]
) -> tuple[Any, str | None, dict[str, Any]]:
    """The agent of a checkpoint with all of its experience, in the env that it learned in.

    Args:
        path, env_id, env_kwargs: as above.
        options: further arguments of ``load``.

    Returns:
        The agent, and id and arguments of the env; no id where it has only seen data.
    """
    meta = _meta(path)
    if not (env_id or meta.get("env")):
        return agent_class_of(meta["agent"]).load(path, **options), None, env_kwargs
    env_id, env_kwargs, env = _make_env_of(meta, env_id, env_kwargs)
    return agent_class_of(meta["agent"]).load(path, env=env, **options), env_id, env_kwargs


def _make_env_of(
    meta: dict[str, Any], env_id: str | None, env_kwargs: dict[str, Any]
) -> tuple[str, dict[str, Any], AnyEnv]:
    """Id, arguments, and the env itself: as many side by side as the agent learned in."""
    given, (env_id, env_kwargs) = env_id, _env_of(meta, env_id, env_kwargs)
    n_envs = meta.get("n_envs", 1)
    try:
        if isinstance(n_envs, int) and 1 < n_envs <= MOST_ENVS:
            return env_id, env_kwargs, gym.make_vec(env_id, num_envs=n_envs, **env_kwargs)
        return env_id, env_kwargs, make_env(env_id, env_kwargs)
    except gym.error.UnregisteredEnv as error:
        if given:
            raise
        # Nothing that a file names is imported.
        raise ValueError(
            f"the agent was trained in {env_id}, which is not registered: name the module that "
            f"registers it with MODULE:{env_id}"
        ) from error


def load_experienced_agent(
    path: Path, env_id: str | None, env_kwargs: dict[str, Any], replay: Path | None
) -> Any:
    """The agent of a checkpoint, in its env if that is to be had, and with its replay buffer.

    Args:
        path, env_id, env_kwargs: as above.
        replay: file of the replay buffer, or None: what is in the checkpoint.
    """
    meta = _meta(path)
    env, named = None, env_id or meta.get("env")
    given, (env_id, env_kwargs) = env_id, _env_of(meta, env_id, env_kwargs)
    if named:
        try:
            env = _make_as_many(env_id, env_kwargs, path if replay is None else replay)
        except (gym.error.Error, ImportError):
            if given:
                raise
    if env is None:
        agent = agent_class_of(meta["agent"]).load(path)
    else:
        agent = _load_into(path, meta, env, env_id, with_experience=replay is None)
    if replay is not None:
        if agent.env is None:
            raise ValueError(
                "a replay buffer is read together with the env that it was filled in: name that "
                "env with --env, and with MODULE: in front where one has to be imported"
            )
        agent.load_replay_buffer(replay)
    return agent


def _make_as_many(env_id: str, env_kwargs: dict[str, Any], replay: Path) -> AnyEnv:
    """The env or, where several filled the replay buffer, a vector of as many."""
    arrays = load_checkpoint(replay).arrays
    times = arrays.get("replay/time", arrays.get("experience/replay/time", [0]))
    if 1 < len(times) <= MOST_ENVS:
        return gym.make_vec(env_id, num_envs=len(times), **env_kwargs)
    return make_env(env_id, env_kwargs)


def _meta(path: Path) -> dict[str, Any]:
    meta = read_meta(path)
    if (name := meta.get("agent")) not in AGENTS.values():
        raise CheckpointError(f"{path} holds no agent ({name}); give a file that agent.save wrote")
    return meta


def _env_of(
    meta: dict[str, Any], env_id: str | None, env_kwargs: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Id and arguments of the env that is asked for or, without, that of the checkpoint."""
    trained_in = meta.get("env") or {}
    env_id = env_id or trained_in.get("id") or ENV_ID
    same_env = env_id.rpartition(":")[2] == trained_in.get("id")
    trained_with = dict(trained_in.get("kwargs") or {}) if same_env else {}
    return env_id, {**trained_with, **env_kwargs}


def _load_into(
    path: Path, meta: dict[str, Any], env: AnyEnv, env_id: str, with_experience: bool = False
) -> Any:
    """The agent of a checkpoint, in an env that fits it."""
    stored = [space_from_json(meta[key]) for key in ("observation_space", "action_space")]
    if isinstance(env, VectorEnv):
        given = [env.single_observation_space, env.single_action_space]
    else:
        given = [env.observation_space, env.action_space]
    for of_agent, of_env, what in zip(
        stored, given, ("observation_space", "action_space"), strict=True
    ):
        _check_fits(of_agent, of_env, what, env_id)
    ours, theirs = GoalSpaces(*stored), GoalSpaces(*given)
    # What learned from data knows no bounds of observations.
    same = meta.get("spaces_from_data") or (
        ours.observation_space == theirs.observation_space
        and ours.action_space == theirs.action_space
    )
    # With its env an agent knows what counts as reached. A map of another size has other bounds.
    options = {"env": env if same else None, "replay_buffer": with_experience}
    return agent_class_of(meta["agent"]).load(path, **options)


def _check_fits(stored: Any, given: Any, what: str, env_id: str) -> None:
    """Same keys and shapes; bounds may differ."""
    if isinstance(stored, gym.spaces.Dict) and isinstance(given, gym.spaces.Dict):
        # What an agent does not look at may be there.
        fits = _shapes(stored).items() <= _shapes(given).items()
    else:
        fits = type(stored) is type(given) and stored.shape == given.shape
    if not fits:
        raise ValueError(
            f"the agent cannot act in {env_id}: its {what} is {given}, the agent was trained with "
            f"{stored}; name the right env with --env"
        )


def _shapes(space: gym.spaces.Dict) -> dict[str, Any]:
    return {key: part.shape for key, part in space.items()}
