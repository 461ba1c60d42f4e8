"""Agents from their files, with the environments that they are tried in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from hierebm.checkpoint.format import load_checkpoint, read_meta
from hierebm.checkpoint.state import NOT_OF_THE_WORLD, space_from_json
from hierebm.cli.names import AGENTS, ENV_ID
from hierebm.errors import CheckpointError
from hierebm.goal_env.make import make_env, make_many
from hierebm.goal_env.spaces import GoalSpaces

# An argument of an env that is taken from a file: a layout of 30 by 30 cells fits. Geometry of
# larger ones takes longer than a file may.
LONGEST_ARGUMENT = 1200
# Of modules and files: an env might import or read what such words name.
NAMES_OF_FILES = frozenset(":/\\")
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
    meta, trained_in = _meta(path)
    given, (env_id, env_kwargs) = env_id, _env_of(path, trained_in, env_id, env_kwargs)
    env = _made(path, trained_in, given, lambda: make_env(env_id, env_kwargs))
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
    meta, trained_in = _meta(path)
    agent_class = agent_class_of(meta["agent"])
    if not (env_id or trained_in):
        return agent_class.load(path, **options), None, env_kwargs
    given, (env_id, env_kwargs) = env_id, _env_of(path, trained_in, env_id, env_kwargs)
    n_envs = meta.get("n_envs", 1)
    if not isinstance(n_envs, int) or not 1 <= n_envs <= MOST_ENVS:
        raise CheckpointError(
            f"{path} says that its agent learned in {n_envs!r:.100} environments, 1 to {MOST_ENVS} "
            "are made here: use another copy"
        )
    _check_one(path, meta, trained_in, given, (env_id, env_kwargs, n_envs))
    env = _made(path, trained_in, given, lambda: make_as_many(env_id, env_kwargs, n_envs))
    return agent_class.load(path, env=env, **options), env_id, env_kwargs


def load_experienced_agent(
    path: Path, env_id: str | None, env_kwargs: dict[str, Any], replay: Path | None
) -> Any:
    """The agent of a checkpoint, in its env if that is to be had, and with its replay buffer.

    Args:
        path, env_id, env_kwargs: as above.
        replay: file of the replay buffer, or None: what is in the checkpoint.
    """
    meta, trained_in = _meta(path)
    env, given = None, env_id
    env_id, env_kwargs = _env_of(path, trained_in, given, env_kwargs)
    n_envs = _filled_by(path if replay is None else replay)
    if given or trained_in:
        try:
            _check_one(path, meta, trained_in, given, (env_id, env_kwargs, n_envs))
            env = _made(path, trained_in, given, lambda: make_as_many(env_id, env_kwargs, n_envs))
        except (CheckpointError, gym.error.Error, ImportError):
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


def _filled_by(path: Path) -> int:
    """How many envs filled the replay buffer of a file, its own or that of an agent."""
    arrays = load_checkpoint(path).arrays
    times = arrays.get("replay/time", arrays.get("experience/replay/time", np.zeros(1)))
    n_envs = len(np.atleast_1d(times))
    if not 1 <= n_envs <= MOST_ENVS:
        raise CheckpointError(
            f"{path} says that {n_envs} environments filled it, 1 to {MOST_ENVS} are made here: "
            "use another copy"
        )
    return n_envs


def make_as_many(env_id: str, env_kwargs: dict[str, Any], n_envs: int) -> AnyEnv:
    """The env or, where there are to be several, a vector of as many."""
    if n_envs > 1:
        return make_many(env_id, env_kwargs, n_envs)
    return make_env(env_id, env_kwargs)


def _check_one(
    path: Path,
    meta: dict[str, Any],
    trained_in: Mapping[str, Any],
    given: str | None,
    asked: tuple[str, dict[str, Any], int],
) -> None:
    """Refuse several envs by one of them: a thousand of what does not fit may take all memory."""
    env_id, env_kwargs, n_envs = asked
    if n_envs > 1:
        one = _made(path, trained_in, given, lambda: make_env(env_id, env_kwargs))
        _spaces(path, meta, one, env_id)
        one.close()


def _made(
    path: Path, trained_in: Mapping[str, Any], given: str | None, make: Callable[[], AnyEnv]
) -> AnyEnv:
    """The env, or whose fault it is that there is none: the caller's or the file's."""
    if given:
        return make()
    try:
        return make()
    except gym.error.Error as error:
        # Nothing that a file names is imported.
        env_id = trained_in["id"]
        raise CheckpointError(
            f"the agent of {path} was trained in {env_id}, which cannot be made here "
            f"({error.__cause__ or error}): name the module that registers it, such as "
            f"gymnasium_robotics, with --env MODULE:{env_id}, or another env"
        ) from error
    except Exception as error:
        if isinstance(error, ImportError) or not trained_in.get("kwargs"):
            raise
        raise CheckpointError(
            f"{path} says that its env is {trained_in['id']} with {trained_in['kwargs']!r:.300}, "
            f"and that cannot be made ({error!s:.300}): name the env with --env and its arguments "
            "with --env-arg"
        ) from error


def _meta(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata of an agent, and id and kwargs of the env that it was trained in, if it says."""
    meta = read_meta(path)
    if (name := meta.get("agent")) not in list(AGENTS.values()):
        raise CheckpointError(
            f"{path} holds no agent ({name!r:.100}); give a file that agent.save wrote"
        )
    trained_in = meta.get("env")
    if trained_in is None:
        return meta, {}
    if not isinstance(trained_in, dict):
        trained_in = {}
    env_id, kwargs = trained_in.get("id"), trained_in.get("kwargs", {})
    if not isinstance(env_id, str) or not isinstance(kwargs, dict):
        raise CheckpointError(f"{path} does not say what env it was trained in; use another copy")
    return meta, {"id": env_id, "kwargs": kwargs}


def _words(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, (list, dict)):
        for part in [*tree, *tree.values()] if isinstance(tree, dict) else tree:
            yield from _words(part)


def _env_of(
    path: Path, trained_in: Mapping[str, Any], env_id: str | None, env_kwargs: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Id and arguments of the env that is asked for or, without, that of the checkpoint."""
    named = str(trained_in.get("id", ""))
    if env_id is None and ":" in named:
        raise CheckpointError(
            f"{path} names a module to import its env from ({named!r:.100}), and nothing that a "
            "file names is imported: if you know that module, give --env MODULE:ENV_ID"
        )
    env_id = env_id or named or ENV_ID
    same_env = env_id.rpartition(":")[2] == trained_in.get("id")
    trained_with = dict(trained_in.get("kwargs", {})) if same_env else {}
    kept = {k: v for k, v in trained_with.items() if k not in {*NOT_OF_THE_WORLD, *env_kwargs}}
    for name, value in kept.items():
        told = json.dumps(value)
        if len(told) > LONGEST_ARGUMENT or any(NAMES_OF_FILES & {*text} for text in _words(value)):
            raise CheckpointError(
                f"{path} says that its env is made with {name:.50}={told:.100}: names of files and "
                f"modules, and values of more than {LONGEST_ARGUMENT} characters, are not taken "
                f"from a file. If you trust it, give --env-arg {name:.50}=VALUE"
            )
    return env_id, {**kept, **env_kwargs}


def _load_into(
    path: Path, meta: dict[str, Any], env: AnyEnv, env_id: str, with_experience: bool = False
) -> Any:
    """The agent of a checkpoint, in an env that fits it."""
    ours, theirs = _spaces(path, meta, env, env_id)
    # What learned from data knows no bounds of observations.
    same = meta.get("spaces_from_data") or (
        ours.observation_space == theirs.observation_space
        and ours.action_space == theirs.action_space
    )
    # With its env an agent knows what counts as reached. A map of another size has other bounds.
    options = {"env": env if same else None, "replay_buffer": with_experience}
    return agent_class_of(meta["agent"]).load(path, **options)


def _spaces(
    path: Path, meta: dict[str, Any], env: AnyEnv, env_id: str
) -> tuple[GoalSpaces, GoalSpaces]:
    """Those of the agent and those of the env. Raises ValueError where they do not fit."""
    try:
        stored = [space_from_json(meta[key]) for key in ("observation_space", "action_space")]
        ours = GoalSpaces(*stored)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} lacks what makes an agent ({error!s:.300})") from error
    if isinstance(env, VectorEnv):
        given = [env.single_observation_space, env.single_action_space]
    else:
        given = [env.observation_space, env.action_space]
    for of_agent, of_env, what in zip(
        stored, given, ("observation_space", "action_space"), strict=True
    ):
        _check_fits(path, of_agent, of_env, what, env_id)
    return ours, GoalSpaces(*given)


def _check_fits(path: Path, stored: Any, given: Any, what: str, env_id: str) -> None:
    """Same keys and shapes; bounds may differ."""
    if isinstance(stored, gym.spaces.Dict) and isinstance(given, gym.spaces.Dict):
        # What an agent does not look at may be there.
        fits = _shapes(stored).items() <= _shapes(given).items()
    else:
        fits = type(stored) is type(given) and stored.shape == given.shape
    if not fits:
        raise ValueError(
            f"the agent of {path} cannot act in {env_id}: its {what} is {given}, the agent was "
            f"trained with {stored}; name the right env with --env"
        )


def _shapes(space: gym.spaces.Dict) -> dict[str, Any]:
    return {key: part.shape for key, part in space.items()}
