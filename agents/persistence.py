"""An agent in a file: settings, networks, random streams, spaces; no code."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, fields
from typing import IO, Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from hierebm.checkpoint.state import (
    env_to_json,
    numpy_generator_state,
    set_numpy_generator_state,
    space_from_json,
    space_to_json,
)
from hierebm.errors import CheckpointError
from hierebm.goal_env.adapter import EnvLike, GoalEnv, GoalSpaces

Self = TypeVar("Self", bound="SavedAgent")
_SPACES = ("observation_space", "action_space")


class SavedAgent(ABC):
    """What of every agent is in its file, and how it comes back from there.

    ``copy.deepcopy`` and ``pickle`` go the same way: a copy has neither environment nor replay
    buffer.

    Args:
        config: all settings, of the class ``config_class``.
        seed: of the random streams; None draws one.
        device: where the networks live.
    """

    config_class: ClassVar[type[Any]]

    def __init__(
        self,
        config: Any = None,
        *,
        seed: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = self.config_class() if config is None else config
        self.device = _usable(device)
        self.num_timesteps = 0
        self.num_episodes = 0
        self.n_updates = 0
        self.env: GoalEnv | None = None
        self.spaces: GoalSpaces | None = None
        self.generator = torch.Generator()
        self.set_random_seed(seed)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Start all random streams of the agent anew, as the constructor's ``seed``."""
        self._start_streams(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    def _start_streams(self, seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        # In place: the models hold it too.
        self.generator.manual_seed(seed)

    # ------------------------------------------------------- what subclasses define

    @abstractmethod
    def _build(self, spaces: GoalSpaces) -> None:
        """Make the networks; called once, when the spaces are known."""

    @abstractmethod
    def set_env(self, env: EnvLike) -> None:
        """Learn in this environment from now on; its spaces must be those seen before."""

    @abstractmethod
    def _tensors(self) -> dict[str, Any]:
        """Networks and optimisers as nested dicts of tensors."""

    @abstractmethod
    def _load_tensors(self, tensors: dict[str, Any]) -> None:
        """Restore what :meth:`_tensors` gave."""

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What else belongs to the agent, as arrays by name."""
        return {}

    def _load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:  # noqa: B027
        """Restore what :meth:`_arrays` gave."""

    # ------------------------------------------------------------- saving and loading

    def save(self, path: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write everything but the replay buffer to one file, atomically, or to a binary stream.

        Raises:
            OSError: if it cannot be written; a file that was there before is untouched.
            RuntimeError: if there is nothing to save because no environment was seen.
        """
        if self.spaces is None:
            raise RuntimeError("nothing to save: the agent has seen no environment yet")
        save_checkpoint(
            path,
            config=asdict(self.config),
            tensors={**self._tensors(), "generator": self.generator.get_state()},
            arrays=self._arrays(),
            meta={
                "agent": type(self).__name__,
                "env": None if self.env is None else env_to_json(self.env.env),
                "num_timesteps": self.num_timesteps,
                "n_updates": self.n_updates,
                "seed": self.seed,
                "rng": numpy_generator_state(self.rng),
                "observation_space": space_to_json(self.spaces.observation_space),
                "action_space": space_to_json(self.spaces.action_space),
            },
        )

    @classmethod
    def load(
        cls: type[Self],
        path: str | os.PathLike[str] | IO[bytes],
        env: EnvLike | None = None,
        device: str | torch.device = "cpu",
        *,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read an agent from a file that :meth:`save` wrote; no code in the file is run.

        Args:
            path: the file, or a binary stream.
            env: where to go on learning. Predicting goes without; what counts as reached is then
                what the environment counted along each axis when the agent was saved.
            device: where the networks live.
            seed: starts the random streams anew; None goes on with those in the file.
            kwargs: ``tensorboard_log``, ``verbose`` and overrides of the config.

        Raises:
            FileNotFoundError: if there is no such file.
            CheckpointError: if the file is damaged, or of another agent.
            ValueError: if the overrides ask for other networks than those in the file, the
                environment has other spaces, or the device cannot be used here.
        """
        # To the CPU first: the models copy it to where they live.
        checkpoint = load_checkpoint(path)
        meta = checkpoint.meta
        if meta.get("agent") != cls.__name__:
            raise CheckpointError(
                f"{path} holds a {meta.get('agent', 'file of another kind')}, not a "
                f"{cls.__name__}; load it with that class"
            )
        names = {f.name for f in fields(cls.config_class)}
        version = meta.get("hierebm_version", "unknown")
        damaged = (
            f"it was written by another version of hierebm ({version}) or damaged: load it with "
            "that version or train again"
        )
        try:
            config = cls.config_class(**{k: v for k, v in checkpoint.config.items() if k in names})
            spaces = GoalSpaces(*(space_from_json(meta[k]) for k in _SPACES))
            drawn_from = int(meta["seed"])
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} lacks what makes an agent ({error}); {damaged}"
            ) from error
        agent = cls(config, seed=0, device=device, **kwargs)
        try:
            agent._start_streams(drawn_from)
            agent._build(spaces)
            agent.spaces = spaces
            agent._restore(checkpoint)
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            short = " ".join(str(error).split())[:300]
            if changed := [name for name in kwargs if name in names]:
                raise ValueError(
                    f"{path} cannot be used with another {', '.join(changed)} ({short}): leave "
                    "out what changes the networks, or train anew with it"
                ) from error
            raise CheckpointError(
                f"{path} does not fit a {cls.__name__} of its own settings ({short}); {damaged}"
            ) from error
        if seed is not None:
            agent.set_random_seed(seed)
        if env is not None:
            agent.set_env(env)
        return agent

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickles and copies hold what `save` writes: memory that models share among their parts,
        # as copied attribute by attribute it would not be shared any more.
        data = None
        if self.spaces is not None:
            stream = io.BytesIO()
            self.save(stream)
            data = stream.getvalue()
        return _again, (type(self), self.config, self.seed, data, self._options())

    def _options(self) -> dict[str, Any]:
        """Arguments of the constructor that are no part of the file."""
        return {"device": str(self.device)}

    def _restore(self, checkpoint: Checkpoint) -> None:
        meta, tensors = checkpoint.meta, checkpoint.tensors
        self.generator.set_state(tensors.pop("generator").cpu())
        # Arrays first: they hold the scales that the parts of the agent are made with.
        self._load_arrays(checkpoint.arrays)
        self._load_tensors(tensors)
        self.num_timesteps = int(meta["num_timesteps"])
        self.n_updates = int(meta["n_updates"])
        set_numpy_generator_state(self.rng, meta["rng"])


def _again(
    agent_class: type[Self], config: Any, seed: int, data: bytes | None, options: dict[str, Any]
) -> Self:
    """An agent as it was pickled."""
    if data is not None:
        return agent_class.load(io.BytesIO(data), **options)
    agent = agent_class(config, **options)
    agent._start_streams(seed)
    return agent


def _usable(device: str | torch.device) -> torch.device:
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    # A build without CUDA asserts.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).split("\n")[0]
        raise ValueError(
            f'device={str(device)!r} cannot be used here ({first}); "cpu" always can'
        ) from error
    return usable
