"""What Stable-Baselines3's agents offer besides learning, under the same names."""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.learning import LearningAgent
from hierebm.checkpoint.format import load_checkpoint
from hierebm.control.base import LowLevel
from hierebm.goal_env.vec_env import TrainingEnv, normalization_of
from hierebm.logging.logger import Logger
from hierebm.logging.other import as_logger


class NamesOfSB3(LearningAgent):
    """Environment, spaces, parameters and statistics by the names that callbacks know."""

    def get_env(self) -> Any:
        """The environment that was set, with ``num_envs``, ``get_attr``, ``set_attr``,
        ``env_method`` and ``env_is_wrapped`` as Stable-Baselines3's vector environments have them,
        single or not; None before.
        """
        return None if self.env is None else TrainingEnv.of(self.env.given)

    def get_vec_normalize_env(self) -> Any:
        """The ``VecNormalize`` that was given around the environments, if it scales observations.

        None without: these agents scale their inputs themselves.
        """
        return normalization_of(self.get_env())

    @property
    def n_envs(self) -> int:
        """How many environments the agent learns in."""
        return 1 if self.env is None else self.env.n_envs

    @property
    def observation_space(self) -> gym.spaces.Dict | None:
        """What of an observation the agent looks at; None before it has seen an environment."""
        return None if self.spaces is None else self.spaces.observation_space

    @property
    def action_space(self) -> gym.spaces.Box | None:
        """Where its actions are; None before it has seen an environment."""
        return None if self.spaces is None else self.spaces.action_space

    @property
    def policy(self) -> PolicyView:
        """What acts, with the methods that callbacks call on a policy."""
        return PolicyView(self)

    @property
    def ep_info_buffer(self) -> deque[dict[str, float]]:
        """Return ``r`` and length ``l`` of the last 100 episodes."""
        return deque({"r": e.reward, "l": e.length} for e in self.episodes.finished)

    @property
    def ep_success_buffer(self) -> deque[bool]:
        """Whether the last 100 episodes ended in success."""
        return deque(e.success for e in self.episodes.finished)

    @abstractmethod
    def predict(
        self,
        observation: dict[str, NDArray[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """The action for an observation, or for a batch of them."""

    # ------------------------------------------------------------------ parameters

    def get_parameters(self) -> dict[str, Any]:
        """Copies of all networks and optimisers: nested dicts of tensors.

        Raises:
            RuntimeError: if the agent has no networks yet because it knows no environment.
        """
        self._need_networks()
        return copy.deepcopy(self._tensors())

    def set_parameters(
        self,
        load_path_or_dict: str | os.PathLike[str] | Mapping[str, Any],
        exact_match: bool = True,
        device: str | torch.device = "auto",
    ) -> None:
        """Restore what :meth:`get_parameters` gave, or the networks of a saved agent.

        Args:
            load_path_or_dict: the parameters, or the file of an agent of the same settings.
            exact_match: False takes parts that are there and leaves the others as they are.
            device: accepted for compatibility; networks stay where they are.

        Raises:
            RuntimeError: as above.
            ValueError: parts are missing or unknown, or of other networks.
        """
        self._need_networks()
        given: Mapping[str, Any]
        if isinstance(load_path_or_dict, Mapping):
            given = load_path_or_dict
        else:
            given = load_checkpoint(load_path_or_dict).tensors
            given = {k: v for k, v in given.items() if k in self._tensors()}
        before = copy.deepcopy(self._tensors())
        if unknown := [name for name in given if name not in before]:
            raise ValueError(
                f"unknown parameters {', '.join(map(repr, unknown))}; the agent has "
                f"{', '.join(map(repr, before))}"
            )
        if exact_match and (missing := [name for name in before if name not in given]):
            raise ValueError(
                f"the parameters lack {', '.join(map(repr, missing))}: give them all, or "
                "exact_match=False"
            )
        try:
            self._load_tensors(given)
        except Exception as error:
            self._load_tensors(before)
            raise ValueError(
                f"these parameters are of other networks ({error!s:.300}): they take an agent of "
                "the same settings and spaces"
            ) from error

    def _load_tensors(self, tensors: Mapping[str, Any]) -> None:
        if "low_level" in tensors:
            self.low_level.load_state_dict(tensors["low_level"])
        if "high_level" in tensors and self.high_level is not None:
            self.high_level.load_state_dict(tensors["high_level"])

    def _need_networks(self) -> None:
        if self.spaces is None:
            raise RuntimeError(
                "the agent has no networks yet: set_env(env), learn_offline(data) or load(path) "
                "first"
            )

    # ------------------------------------------------------------------------ logs

    def set_logger(self, logger: Any) -> None:
        """Log there from now on, instead of into a run's folder of ``tensorboard_log``.

        Args:
            logger: of ``hierebm.logging`` or of Stable-Baselines3.

        Raises:
            TypeError: if it is neither.
        """
        self.logger = self._own_logger = as_logger(logger)

    _own_logger: Logger | None = None

    def _begin_log(self, name: str, reset: bool) -> None:
        if self._own_logger is None:
            super()._begin_log(name, reset)
        else:
            self.logger = self._own_logger


class PolicyView:
    """An agent's policy, as callbacks that were written for Stable-Baselines3 look at it.

    Args:
        agent: whose.
    """

    def __init__(self, agent: NamesOfSB3) -> None:
        self._agent = agent

    @property
    def low_level(self) -> LowLevel:
        """What acts for near goals."""
        return self._agent.low_level

    @property
    def observation_space(self) -> gym.spaces.Dict | None:
        """As the agent's."""
        return self._agent.observation_space

    @property
    def action_space(self) -> gym.spaces.Box | None:
        """As the agent's."""
        return self._agent.action_space

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return self._agent.device

    def predict(
        self, observation: dict[str, NDArray[Any]], *args: Any, **kwargs: Any
    ) -> tuple[NDArray[Any], Any]:
        """As the agent's."""
        return self._agent.predict(observation, *args, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """As the agent's :meth:`~NamesOfSB3.get_parameters`."""
        return self._agent.get_parameters()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As the agent's :meth:`~NamesOfSB3.set_parameters`."""
        self._agent.set_parameters(state)

    def parameters(self) -> Iterator[torch.Tensor]:
        """Copies of all tensors of floating-point numbers, targets and optimisers among them."""
        yield from _tensors(self.state_dict())

    def set_training_mode(self, mode: bool) -> None:
        """Nothing to do: these networks act as they learn."""


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        if tree.is_floating_point():
            yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from _tensors(part)
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _tensors(part)
