"""Stable-Baselines3's vector environments as Gymnasium's, and the other way round for callbacks.

Nothing of Stable-Baselines3 is imported: its environments are known by their methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray


class VecEnv(Protocol):
    """What is used here of Stable-Baselines3's ``VecEnv``."""

    num_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    def reset(self) -> Any:
        """The first observations, batched."""
        ...

    def step_async(self, actions: Any) -> None:
        """Begin a step in every environment."""
        ...

    def step_wait(self) -> Any:
        """Observations, rewards, dones and infos of that step."""
        ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment."""
        ...

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """What a method of each environment returns."""
        ...

    def close(self) -> None:
        """Close the environments."""
        ...


def is_vec_env(env: Any) -> TypeGuard[VecEnv]:
    """Whether it is a vector environment of Stable-Baselines3."""
    methods = ("reset", "step_async", "step_wait", "env_method", "get_attr")
    return not isinstance(env, (gym.Env, VectorEnv)) and all(hasattr(env, m) for m in methods)


def as_gymnasium(env: Any) -> Any:
    """A vector environment of Stable-Baselines3 as one of Gymnasium's, and a view of an environment
    as what it shows; others as they are.
    """
    # Its class is asked for: it passes for an environment.
    if type(env) is TrainingEnv:
        return env.env
    return VecEnvAdapter(env) if is_vec_env(env) else env


def normalization_of(env: Any) -> Any:
    """The ``VecNormalize`` that scales the observations of an environment; None without one.

    Raises:
        ValueError: if it is not the outermost wrapper.
    """
    outermost = env
    while env is not None and not isinstance(env, (gym.Env, VectorEnv)):
        # Of its class: wrappers hand on what they do not have.
        if hasattr(type(env), "get_original_obs") and env.norm_obs:
            if env is not outermost:
                raise ValueError(
                    "VecNormalize is inside of another wrapper: make it the outermost one, or "
                    "leave it out (these agents scale their inputs themselves)"
                )
            return env
        env = getattr(env, "venv", None)
    return None


class VecEnvAdapter(VectorEnv[Any, Any, Any]):
    """A vector environment of Stable-Baselines3 behind Gymnasium's interface.

    It resets in the same step (``AutoresetMode.SAME_STEP``). Observations and rewards are those
    before ``VecNormalize``, whose statistics change: experience would become another one.

    Attributes:
        given: the environment itself.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        self.num_envs = given.num_envs
        self._normalization = normalization_of(given)
        # VecNormalize may leave observations alone and scale rewards.
        self._scales_reward = hasattr(given, "get_original_reward")
        self.single_observation_space = given.observation_space
        self.single_action_space = given.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {**given.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = given.render_mode
        self.spec = self._of_first("spec")

    def _of_first(self, name: str) -> Any:
        try:
            return self.given.get_attr(name, indices=[0])[0]
        # Workers may be unable to send it.
        except Exception:
            return None

    @property
    def compute_reward(self) -> Any:
        """``compute_reward`` of the first environment; they agree.

        Raises:
            AttributeError: if it has none.
        """
        if not self.given.has_attr("compute_reward"):
            raise AttributeError("the environments have no compute_reward")

        def call(*args: Any) -> Any:
            return self.given.env_method("compute_reward", *args, indices=[0])[0]

        return call

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode everywhere."""
        if seed is not None:
            self.given.seed(seed)
        if options is not None:
            self.given.set_options(options)
        observation = self._original(self.given.reset())
        return observation, _batched(self.given.reset_infos, range(self.num_envs))

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take a step everywhere; where an episode ends, the next one begins."""
        observation, reward, done, infos = self.given.step(actions)
        observation = self._original(observation)
        if self._scales_reward:
            reward = self.given.get_original_reward()
        ended = np.array(done, np.bool_)
        truncated = ended & [bool(info.get("TimeLimit.truncated", False)) for info in infos]
        rows = np.flatnonzero(ended).tolist()
        batch = _batched(infos, np.flatnonzero(~ended).tolist())
        if rows:
            final = np.full(self.num_envs, None, object)
            for i in rows:
                if "terminal_observation" in infos[i]:
                    final[i] = self._unscaled(infos[i]["terminal_observation"])
            batch |= {"final_obs": final, "final_info": _batched(infos, rows)}
        return observation, np.asarray(reward), ended & ~truncated, truncated, batch

    def _original(self, observation: Any) -> Any:
        scaled = self._normalization is not None
        return self.given.get_original_obs() if scaled else observation

    def _unscaled(self, observation: Any) -> Any:
        if self._normalization is None:
            return observation
        return self._normalization.unnormalize_obs(observation)

    def render(self) -> Any:
        """A picture of each environment."""
        return tuple(self.given.get_images())

    def close(self, **kwargs: Any) -> None:
        """Close the environments."""
        self.given.close()


def _batched(infos: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> dict[str, Any]:
    """Infos as Gymnasium batches them, those of some rows; entries may be anything."""
    batch: dict[str, Any] = {}
    for i in rows:
        for key, value in infos[i].items():
            if key not in batch:
                batch[key] = np.full(len(infos), None, object)
                batch[f"_{key}"] = np.zeros(len(infos), np.bool_)
            batch[key][i] = value
            batch[f"_{key}"][i] = True
    return batch


class TrainingEnv:
    """One or several environments with what callbacks ask of Stable-Baselines3's ``VecEnv``.

    Everything else is the environment's own: it passes for it, and equals it.

    Args:
        env: of Gymnasium.
    """

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
        self.env = env
        self.num_envs: int = getattr(env, "num_envs", 1)

    @classmethod
    def of(cls, env: Any) -> Any:
        """A view of an environment; those of Stable-Baselines3, views, and None, as they are."""
        if type(env) is cls:
            return env
        if isinstance(env, VecEnvAdapter):
            return env.given
        return cls(env) if isinstance(env, (gym.Env, VectorEnv)) else env

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The environment's, for ``isinstance``."""
        return type(self.env)

    def __reduce__(self) -> Any:
        return TrainingEnv, (self.env,)

    def __eq__(self, other: object) -> bool:
        return as_gymnasium(other) is self.env

    def __hash__(self) -> int:
        return hash(self.env)

    def __getattr__(self, name: str) -> Any:
        if name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def __repr__(self) -> str:
        return f"TrainingEnv({self.env!r})"

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each environment, wrappers included; ``indices`` says of which ones."""
        if (envs := self._envs()) is not None:
            return [envs[i].get_wrapper_attr(attr_name) for i in self._rows(indices)]
        unwrapped: Any = self.env.unwrapped
        if hasattr(unwrapped, "call") and not hasattr(unwrapped, attr_name):
            return [unwrapped.call(attr_name)[i] for i in self._rows(indices)]
        # Many in one: what belongs to all of them.
        return [getattr(unwrapped, attr_name) for _ in self._rows(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether each environment has it."""
        try:
            self.get_attr(attr_name)
        except AttributeError:
            return False
        return True

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each environment."""
        if (envs := self._envs()) is not None:
            for i in self._rows(indices):
                envs[i].set_wrapper_attr(attr_name, value)
        elif indices is not None:
            raise ValueError("these environments are one object: leave indices out")
        elif hasattr(self.env.unwrapped, "set_attr"):
            self.env.unwrapped.set_attr(attr_name, value)
        else:
            setattr(self.env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """What a method of each environment returns."""
        if self._envs() is None and hasattr(unwrapped := self.env.unwrapped, "call"):
            returned = unwrapped.call(method_name, *args, **kwargs)
            return [returned[i] for i in self._rows(indices)]
        return [method(*args, **kwargs) for method in self.get_attr(method_name, indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Whether each environment has a wrapper of this class."""
        rows = self._rows(indices)
        if (envs := self._envs()) is None:
            return [False] * len(rows)
        return [_is_wrapped(envs[i], wrapper_class) for i in rows]

    def _envs(self) -> list[Any] | None:
        """The single environments, where they are in this process."""
        if isinstance(self.env, gym.Env):
            return [self.env]
        return list(u.envs) if isinstance(u := self.env.unwrapped, SyncVectorEnv) else None

    def _rows(self, indices: Any) -> list[int]:
        return list(range(self.num_envs)) if indices is None else np.atleast_1d(indices).tolist()


def _is_wrapped(env: Any, wrapper_class: type[Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False
