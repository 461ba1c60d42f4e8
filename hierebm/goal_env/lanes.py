"""One face for a single env and for vector envs in any autoreset mode, as evaluation needs it.

Whatever the env does at the end of an episode, the observation after it is the next one's first,
and rows that are no transition (the reset row of ``NEXT_STEP``) are marked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from hierebm.goal_env.autoreset import SUCCESS_KEYS, autoreset_mode

_MAX_LANES = 32


@dataclass
class Step:
    """One step of all lanes; arrays are (n,).

    Attributes:
        observation: what the next ``predict`` sees; after an episode's end, the next one's start.
        reward: float64.
        done: the episode ended with this step.
        success: a success key was true in this step's info.
        reported: a success key was there at all.
        valid: False on the reset row of ``NEXT_STEP``, where no transition happened.
        first: ``observation`` is the first one of an episode.
        info: lane index -> that lane's info dict of this step.
    """

    observation: Any
    reward: np.ndarray
    done: np.ndarray
    success: np.ndarray
    reported: np.ndarray
    valid: np.ndarray
    first: np.ndarray
    info: Callable[[int], Mapping[str, Any]]


class Lanes(ABC):
    """Envs side by side that begin the next episode by themselves.

    Attributes:
        env: the env or vector env behind.
        num_envs: n.
        resets_with_options: whether the options of :meth:`reset` hold for later episodes too.
    """

    env: Any
    num_envs: int
    resets_with_options: bool

    @abstractmethod
    def reset(self, seed: int | None, options: Mapping[str, Any] | None) -> Any:
        """Begin an episode in every lane; return the batched observation."""

    @abstractmethod
    def step(self, actions: Any) -> Step:
        """Step every lane with its row of ``actions``."""

    def render(self) -> None:
        """Render the env."""
        self.env.render()


class SingleLane(Lanes):
    """One env, batched by a leading axis of 1."""

    num_envs = 1
    resets_with_options = True

    def __init__(self, env: gym.Env) -> None:
        self.env = env
        self._options: dict[str, Any] | None = None

    def reset(self, seed: int | None, options: Mapping[str, Any] | None) -> Any:
        """Reset the env."""
        self._options = None if options is None else dict(options)
        return _batch(self.env.reset(seed=seed, options=self._options)[0])

    def step(self, actions: Any) -> Step:
        """Step, and reset where an episode ended."""
        observation, reward, terminated, truncated, info = self.env.step(actions[0])
        done = bool(terminated or truncated)
        if done:
            options = None if self._options is None else dict(self._options)
            observation, _ = self.env.reset(options=options)
        known = [bool(np.any(info[key])) for key in SUCCESS_KEYS if key in info]
        return Step(
            observation=_batch(observation),
            reward=np.array([reward], float),
            done=np.array([done]),
            success=np.array([any(known)]),
            reported=np.array([bool(known)]),
            valid=np.ones(1, bool),
            first=np.array([done]),
            info=lambda i: info,
        )


class VectorLanes(Lanes):
    """A Gymnasium vector env; the three autoreset modes made alike."""

    def __init__(self, env: VectorEnv) -> None:
        self.env = env
        self.num_envs = env.num_envs
        self.mode = autoreset_mode(env)
        self.resets_with_options = self.mode is AutoresetMode.DISABLED
        self._options: dict[str, Any] = {}
        self._pending = np.zeros(self.num_envs, bool)

    def reset(self, seed: int | None, options: Mapping[str, Any] | None) -> Any:
        """Reset the env."""
        self._options = dict(options or {})
        self._pending[:] = False
        return self.env.reset(seed=seed, options=dict(self._options) or None)[0]

    def step(self, actions: Any) -> Step:
        """Step, and reset where an episode ended."""
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        done = np.logical_or(terminated, truncated)
        valid = np.ones(self.num_envs, bool)
        first = done
        success, reported = _vector_success(infos, self.num_envs)
        if self.mode is AutoresetMode.NEXT_STEP:
            valid, first = ~self._pending, self._pending
            self._pending = done
        elif self.mode is AutoresetMode.SAME_STEP:
            # Where an episode ended, the top-level infos are those of the next one's reset.
            final = infos.get("final_info", infos)
            final_success, final_reported = _vector_success(final, self.num_envs)
            success = np.where(done, final_success, success)
            reported = np.where(done, final_reported, reported)
        elif done.any():
            options = {**self._options, "reset_mask": done.copy()}
            observation, _ = self.env.reset(options=options)

        def info(i: int) -> Mapping[str, Any]:
            if self.mode is AutoresetMode.SAME_STEP and done[i]:
                return _lane_info(infos.get("final_info", infos), i)
            return _lane_info(infos, i)

        return Step(
            observation=observation,
            reward=np.asarray(reward, float),
            done=done & valid,
            success=success,
            reported=reported,
            valid=valid,
            first=first.copy(),
            info=info,
        )


def _batch(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]


def _vector_success(infos: Mapping[str, Any], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Per lane: whether any success key is true, whether there is one at all."""
    success, reported = np.zeros(n, bool), np.zeros(n, bool)
    for key in SUCCESS_KEYS:
        if key in infos:
            mask = np.asarray(infos.get(f"_{key}", np.ones(n, bool)))
            success[mask] |= np.asarray(infos[key])[mask].astype(bool)
            reported |= mask
    return success, reported


def _lane_info(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The info dict that sub-env i reported."""
    info: dict[str, Any] = {}
    for key, value in infos.items():
        mask = infos.get(f"_{key}")
        if key.startswith("_") and key[1:] in infos:
            continue
        if mask is not None and not np.asarray(mask)[i]:
            continue
        if isinstance(value, Mapping):
            info[key] = _lane_info(value, i)
        elif isinstance(value, (np.ndarray, list, tuple)) and len(value) > i:
            info[key] = value[i]
        else:
            info[key] = value
    return info


def goal_ends(observation: Any, n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Copies of (achieved goal, desired goal), (n, goal_dim) each, where there are any."""
    if not isinstance(observation, Mapping):
        return None, None
    ends = (observation.get(key) for key in ("achieved_goal", "desired_goal"))
    start, goal = (None if end is None else np.array(end).reshape(n, -1) for end in ends)
    return start, goal


def hold_rows(new: Any, old: Any, rows: np.ndarray) -> Any:
    """A batched observation with some rows (n,) as they were."""
    if not rows.any():
        return new
    if isinstance(new, Mapping):
        return {key: hold_rows(value, old[key], rows) for key, value in new.items()}
    new, old = np.asarray(new), np.asarray(old)
    return np.where(rows.reshape(-1, *[1] * (new.ndim - 1)), old, new)


@contextmanager
def open_lanes(
    env: str | gym.Env | VectorEnv, n_episodes: int, env_kwargs: Mapping[str, Any] | None
) -> Iterator[Lanes]:
    """Lanes of an env, or of an env id, which is made here and closed at the end.

    Args:
        env: env id, env or vector env.
        n_episodes: how many episodes are wanted; bounds the width of what is made here.
        env_kwargs: given to ``gymnasium.make`` or ``make_vec`` for an id.

    Raises:
        ValueError: n_episodes < 1, or env_kwargs with something that is not an id.
        TypeError: ``env`` is none of the three.
    """
    if n_episodes < 1:
        raise ValueError(f"n_eval_episodes must be at least 1, got {n_episodes}")
    if env_kwargs and not isinstance(env, str):
        raise ValueError("env_kwargs needs env to be an env id; pass an env made with them instead")
    if isinstance(env, str):
        made = make_eval_env(env, n_episodes, env_kwargs)
        try:
            yield VectorLanes(made) if isinstance(made, VectorEnv) else SingleLane(made)
        finally:
            made.close()
    elif isinstance(env, VectorEnv):
        yield VectorLanes(env)
    elif isinstance(env, gym.Env):
        yield SingleLane(env)
    else:
        raise TypeError(
            "env must be an env id, a gymnasium.Env or a gymnasium.vector.VectorEnv, got "
            f"{type(env).__name__}"
        )


def make_eval_env(
    env_id: str, n_episodes: int, env_kwargs: Mapping[str, Any] | None = None
) -> gym.Env | VectorEnv:
    """Make an env by id for ``n_episodes`` episodes, as a native vector env if there is one."""
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    kwargs = dict(env_kwargs or {})
    if gym.spec(name).vector_entry_point is None:
        return gym.make(env_id, **kwargs)
    return gym.make_vec(
        env_id,
        num_envs=min(n_episodes, _MAX_LANES),
        vectorization_mode="vector_entry_point",
        **kwargs,
    )
