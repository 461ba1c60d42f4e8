"""Environments made by their id, with errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from hierebm.goal_env.autoreset import AutoresetEnv
from hierebm.goal_env.vec_env import VecEnv

_MAX_ENVS = 32


def make_env(env_id: str, kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """``gymnasium.make`` whose error names the arguments that the env does not take, or tells how
    to name the module that registers it."""
    try:
        with _telling_of_modules(env_id):
            return gym.make(env_id, **kwargs)
    except TypeError as error:
        if not kwargs:
            raise
        raise TypeError(f"{env_id} does not take {', '.join(kwargs)}: {error}") from error


def make_many(env_id: str, kwargs: Mapping[str, Any], n_envs: int) -> VectorEnv[Any, Any, Any]:
    """``gymnasium.make_vec`` with such an error."""
    with _telling_of_modules(env_id):
        return gym.make_vec(env_id, num_envs=n_envs, **kwargs)


@contextmanager
def _telling_of_modules(env_id: str) -> Iterator[None]:
    try:
        yield
    except (gym.error.NameNotFound, gym.error.NamespaceNotFound) as error:
        if ":" in env_id:
            raise
        raise type(error)(
            f"{error} If a module registers it, put that in front, as in "
            "gymnasium_robotics:FetchReach-v4"
        ) from error


def make_eval_env(
    env_id: str, n_episodes: int, env_kwargs: Mapping[str, Any] | None = None
) -> gym.Env[Any, Any] | VectorEnv[Any, Any, Any]:
    """Make an env by id for ``n_episodes`` episodes, as a native vector env if there is one."""
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    kwargs = dict(env_kwargs or {})
    try:
        is_native = gym.spec(name).vector_entry_point is not None
    except gym.error.Error:
        # An id without its version, which make takes; or a wrong one, of which make tells more.
        is_native = False
    if not is_native:
        return make_env(env_id, kwargs)
    return gym.make_vec(
        env_id,
        num_envs=min(n_episodes, _MAX_ENVS),
        vectorization_mode="vector_entry_point",
        **kwargs,
    )


@contextmanager
def open_eval_env(
    env: str | gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv,
    n_episodes: int,
    env_kwargs: Mapping[str, Any] | None,
) -> Iterator[AutoresetEnv]:
    """An env as it is, or one made by its id and closed at the end.

    Args:
        env: env id, env or vector env.
        n_episodes: how many episodes are wanted; bounds the width of what is made here.
        env_kwargs: given to ``gymnasium.make`` or ``make_vec`` for an id.

    Raises:
        ValueError: n_episodes < 1, or env_kwargs with something that is not an id.
        TypeError: ``env`` is none of these.
    """
    if n_episodes < 1:
        raise ValueError(f"n_eval_episodes must be at least 1, got {n_episodes}")
    if not isinstance(env, str):
        if env_kwargs:
            raise ValueError(
                "env_kwargs needs env to be an env id; pass an env made with them instead"
            )
        yield AutoresetEnv(env)
        return
    made = make_eval_env(env, n_episodes, env_kwargs)
    try:
        yield AutoresetEnv(made)
    finally:
        made.close()
