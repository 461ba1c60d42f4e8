"""Environments in any autoreset mode, single or vectorised, as one batch of true transitions.

Gymnasium's vector environments begin the next episode in one of three ways (``AutoresetMode``):

- ``NEXT_STEP``: the step after an end is the reset. Its row is not a transition.
- ``SAME_STEP``: the step that ends an episode already returns the next episode's first observation.
  The true last one is in ``infos["final_obs"]``, the true info in ``infos["final_info"]``.
- ``DISABLED``: the caller resets what ended, by ``reset(options={"reset_mask": ended})``.

A single environment is reset by the caller as well. :class:`AutoresetEnv` makes all of them alike;
nothing else in the package knows about the modes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import PassiveEnvChecker
from numpy.typing import NDArray

from hierebm.goal_env.explaining import explain
from hierebm.goal_env.faults import EnvFault, flags_fault, reward_fault
from hierebm.goal_env.infos import Infos
from hierebm.goal_env.vec_env import VecEnv, as_gymnasium
from hierebm.types import LARGEST, BoolArray


@dataclass(slots=True)
class EnvStep:
    """What one step of n environments brought; arrays of length n."""

    current: Any
    """Batched observation to act on next; after an end, the next episode's first."""
    reward: NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray
    ended: BoolArray
    """The episode ended with this transition."""
    valid: BoolArray
    """False where the step was the automatic reset of ``NEXT_STEP``: no transition happened."""
    n_valid: int
    """How many transitions happened."""
    first: BoolArray
    """``current`` is the first observation of an episode."""
    infos: Infos
    _returned: Any

    @property
    def next_observation(self) -> Any:
        """Batched true next observation, also where the episode ended.

        The same object as ``current`` unless an episode was reset in this step.

        Raises:
            ValueError: if the environment does not give the last observation of an episode.
        """
        final = self.infos.final_observations()
        return _replaced(self._returned, final) if final else self._returned


class AutoresetEnv:
    """One environment, or a vector of n, that begins the next episode by itself.

    Observations and actions are those of the environment, with a leading axis of length n.

    Attributes:
        env: what was given; Stable-Baselines3's behind Gymnasium's interface.
        n_envs: n; 1 for a single environment.
        mode: the autoreset mode; ``DISABLED`` for a single environment.
        n_steps: calls of :meth:`step`.

    Raises:
        TypeError: if ``env`` is neither an environment nor a vector of them.
    """

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv) -> None:
        env = as_gymnasium(env)
        self.env: Any = env
        self._is_vector = isinstance(env, VectorEnv)
        if isinstance(env, VectorEnv):
            self.n_envs: int = env.num_envs
            # A vector environment that does not say resets on the next step, Gymnasium's default.
            self.mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        elif isinstance(env, gym.Env):
            self.n_envs, self.mode = 1, AutoresetMode.DISABLED
        else:
            raise TypeError(
                "env must be an env id, a gymnasium.Env, a gymnasium.vector.VectorEnv or a VecEnv "
                f"of Stable-Baselines3, got {type(env).__name__}"
            )
        self.n_steps = 0
        self._options: dict[str, Any] = {}
        # In NEXT_STEP mode: the environments whose next step is their reset.
        self._resetting: BoolArray | None = None
        self._everywhere, self._nowhere = np.ones(self.n_envs, bool), np.zeros(self.n_envs, bool)
        self._everywhere.flags.writeable = self._nowhere.flags.writeable = False

    @property
    def resetting(self) -> BoolArray | None:
        """(n,) in ``NEXT_STEP`` mode: the environments whose next step is their reset."""
        return self._resetting

    def resume(self, resetting: BoolArray | None) -> None:
        """Go on in the middle of episodes, where :attr:`resetting` was read.

        Raises:
            ValueError: it was read in environments of another number or mode.
        """
        if resetting is not None:
            if self.mode is not AutoresetMode.NEXT_STEP:
                raise ValueError(f"no step of autoreset mode {self.mode.value} is a reset")
            given = np.asarray(resetting)
            if given.shape != (self.n_envs,) or given.dtype != np.bool_:
                raise ValueError(f"resets of {self.n_envs} environment(s) are no {given.shape}")
        self._resetting, self._options = resetting, {}

    @property
    def carries_options(self) -> bool:
        """Whether the options of :meth:`reset` also hold for the automatic resets."""
        return self.mode is AutoresetMode.DISABLED

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
        """Begin an episode everywhere; returns the batched observation.

        Args:
            seed: as for the environment's ``reset``.
            options: as for the environment's ``reset``; see :attr:`carries_options`.
        """
        self._resetting = None
        self._options = dict(options or {})
        options = {"options": dict(self._options)} if self._options else {}
        with self._called("at its reset"):
            return self._begun(self.env.reset(seed=seed, **options))

    @contextmanager
    def _called(self, when: str) -> Iterator[None]:
        """Around a call of the environment."""
        try:
            yield
        except Exception as error:
            explain(error, self.env, when)
            raise
        except BaseException:
            self._end_checks()
            raise

    @contextmanager
    def explained(self, when: str | None = None, observation: Any = None) -> Iterator[None]:
        """Around what is made of a step: errors say what the environment returned there.

        Args:
            when: for the message; None: in the last step.
            observation: batched, that is worked on.

        Raises:
            ValueError: in place of an error about what it returned.
        """
        try:
            yield
        except Exception as error:
            explain(error, self.env, when or self.when, observation)
            raise

    @property
    def when(self) -> str:
        """The last call, for messages."""
        return f"in step {self.n_steps}" if self.n_steps else "at its reset"

    def _end_checks(self) -> None:
        """After an interrupt in the environment, it can be gone on with.

        Gymnasium's checker takes the call that was interrupted for one that has returned, and
        fails in a later one, where it looks for what that was.
        """
        for env in getattr(self.env, "envs", [self.env]):
            while isinstance(env, gym.Wrapper):
                if isinstance(env, PassiveEnvChecker):
                    env.checked_step = env.checked_data_reuse = True
                env = env.env

    def _begun(self, returned: Any) -> Any:
        """The batched observation of what a reset returned."""
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise EnvFault(f"{_count_of(returned)} by reset, expected observation and info")
        return returned[0] if self._is_vector else _batched(returned[0])

    def step(self, actions: Any) -> EnvStep:
        """Take n actions; where an episode ends, the next one begins.

        Raises:
            ValueError: rewards that are no finite numbers, ends that are neither true nor false, or
                not the five values of a step; names the step and, where it is known, the row.
        """
        self.n_steps += 1
        with self._called(self.when):
            return self._step(actions)

    def _step(self, actions: Any) -> EnvStep:
        five = self.env.step(actions if self._is_vector else actions[0])
        if not isinstance(five, (tuple, list)) or len(five) != 5:
            raise EnvFault(
                f"{_count_of(five)}, expected observation, reward, terminated, truncated and info"
            )
        if not isinstance(five[4], Mapping):
            raise EnvFault(f"an info that is a {type(five[4]).__name__}, expected a dict")
        reward = self._checked_reward(five[1])
        terminated = self._checked_flags("terminated", five[2])
        truncated = self._checked_flags("truncated", five[3])
        ended = terminated | truncated
        if self._is_vector:
            returned, infos = five[0], Infos(five[4], self.n_envs)
        else:
            returned, infos = _batched(five[0]), Infos(dict(five[4]))
        current, first = returned, ended
        valid, n_valid = self._everywhere, self.n_envs
        if self._resetting is not None:
            first, valid = self._resetting, ~self._resetting
            n_valid = int(np.count_nonzero(valid))
            ended = ended & valid
            self._resetting = None
        elif self.mode is AutoresetMode.NEXT_STEP:
            first = self._nowhere
        if np.count_nonzero(ended):
            if self.mode is AutoresetMode.NEXT_STEP:
                self._resetting = ended
            elif self.mode is AutoresetMode.SAME_STEP:
                infos = Infos(five[4], self.n_envs, ended)
            else:
                # A reset may write into the memory of the step before it.
                returned = _replaced(returned, {})
                current = self._reset_rows(returned, ended)
        return EnvStep(
            current,
            reward,
            terminated,
            truncated,
            ended,
            valid,
            n_valid,
            first,
            infos,
            returned,
        )

    def _checked_reward(self, reward: Any) -> NDArray[np.float64]:
        """(n,) rewards."""
        try:
            numbers = np.asarray(reward, np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.zeros(0)
        # NaN compares as False; None and words of digits become numbers.
        fits = np.count_nonzero(np.abs(numbers) <= LARGEST) == self.n_envs == len(numbers)
        if not fits or isinstance(reward, str):
            raise EnvFault(reward_fault(reward, self.n_envs))
        return numbers

    def _checked_flags(self, name: str, given: Any) -> BoolArray:
        """(n,) flags."""
        if self._is_vector:
            flags = np.asarray(given)
            if flags.dtype == np.bool_ and flags.shape == (self.n_envs,):
                return flags
        elif isinstance(given, (bool, np.bool_)):
            return self._everywhere if given else self._nowhere
        if fault := flags_fault(name, given, self.n_envs):
            raise EnvFault(fault)
        return np.asarray(given).reshape(-1).astype(np.bool_)

    def _reset_rows(self, returned: Any, ended: BoolArray) -> Any:
        if self._is_vector:
            options = {**self._options, "reset_mask": ended.copy()}
            return where_rows(ended, self._begun(self.env.reset(options=options)), returned)
        options = {"options": dict(self._options)} if self._options else {}
        return self._begun(self.env.reset(**options))


def _count_of(returned: Any) -> str:
    if isinstance(returned, (tuple, list)):
        return f"{len(returned)} values"
    return f"a {type(returned).__name__}"


def where_rows(mask: BoolArray, new: Any, old: Any) -> Any:
    """Batched observation with the rows of ``new`` where ``mask`` (n,) is true, else of ``old``."""
    if isinstance(new, Mapping):
        return {key: where_rows(mask, value, old[key]) for key, value in new.items()}
    if isinstance(new, tuple):
        return tuple(where_rows(mask, *parts) for parts in zip(new, old, strict=True))
    new = np.asarray(new)
    return np.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _batched(observation: Any) -> Any:
    """One observation with a leading axis of length 1."""
    if isinstance(observation, np.ndarray):
        return observation[None]
    if isinstance(observation, Mapping):
        return {key: _batched(value) for key, value in observation.items()}
    if isinstance(observation, tuple):
        return tuple(map(_batched, observation))
    return np.asarray(observation)[None]


def _replaced(batch: Any, rows: dict[int, Any]) -> Any:
    """A copy of a batched observation with other observations in some rows."""
    if isinstance(batch, Mapping):
        return {
            key: _replaced(values, {i: row[key] for i, row in rows.items()})
            for key, values in batch.items()
        }
    if isinstance(batch, tuple):
        return tuple(
            _replaced(values, {i: row[part] for i, row in rows.items()})
            for part, values in enumerate(batch)
        )
    copy = np.array(batch)
    for i, row in rows.items():
        copy[i] = row
    return copy
