"""An agent in a file: settings, networks, random streams, spaces; no code."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, fields
from typing import IO, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.replay_file import replay_arrays, restore_replay
from hierebm.agents.state import AgentState
from hierebm.checkpoint.arrays import checked
from hierebm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint, shown
from hierebm.checkpoint.limits import AllocationLimit
from hierebm.checkpoint.state import (
    env_to_json,
    numpy_generator_state,
    set_numpy_generator_state,
    space_from_json,
    space_to_json,
    to_arrays,
    to_tensors,
)
from hierebm.errors import CheckpointError
from hierebm.goal_env.adapter import EnvLike
from hierebm.goal_env.spaces import GoalSpaces
from hierebm.replay.scales import InputScales
from hierebm.types import LARGEST

Self = TypeVar("Self", bound="SavedAgent")
# What the names of the replay buffer's arrays begin with in an agent's file.
_EXPERIENCE = "experience/"
_SPACES = ("observation_space", "action_space")
_SCALES = tuple(f.name for f in fields(InputScales))
_NUMBERS = tuple(name for name in _SCALES if name != "at_will")


class SavedAgent(AgentState):
    """What of every agent is in its file, and how it comes back from there.

    ``copy.deepcopy`` and ``pickle`` go the same way: a copy has neither environment nor replay
    buffer.
    """

    # ------------------------------------------------------------- saving and loading

    # The episodes that ran when the file was written that this agent was loaded from.
    _running: dict[str, Any] | None = None

    def save(
        self, path: str | os.PathLike[str] | IO[bytes], *, replay_buffer: bool = False
    ) -> None:
        """Write the agent to one file, atomically, or to a binary stream.

        Args:
            path: the file, or a binary stream.
            replay_buffer: also write all experience and where the running episodes are: all that
                :meth:`load` needs for going on as if learning had not been stopped.

        Raises:
            OSError: if it cannot be written; a file that was there before is untouched.
            RuntimeError: if there is nothing to save because neither environment nor data was seen.
        """
        if self.spaces is None:
            raise RuntimeError("nothing to save: the agent has seen no environment and no data yet")
        tensors = {**self._tensors(), "generator": self.generator.get_state()}
        arrays = self._arrays()
        if replay_buffer and self.replay is not None:
            arrays |= {f"{_EXPERIENCE}{k}": v for k, v in replay_arrays(self).items()}
            if (running := self._running_episodes()) is not None:
                tensors["running"] = to_tensors(running)
        save_checkpoint(
            path,
            config=asdict(self.config),
            tensors=tensors,
            arrays=arrays,
            meta={
                "agent": type(self).__name__,
                "env": None if self.env is None else env_to_json(self.env.env),
                "n_envs": 1 if self.env is None else self.env.n_envs,
                "num_timesteps": self.num_timesteps,
                "num_episodes": self.num_episodes,
                "unfinished": self.unfinished,
                "n_updates": self.n_updates,
                "seed": self.seed,
                "rng": numpy_generator_state(self.rng),
                "observation_space": space_to_json(self.spaces.observation_space),
                "action_space": space_to_json(self.spaces.action_space),
                "spaces_from_data": self.spaces.from_data,
            },
        )

    def _running_episodes(self) -> dict[str, Any] | None:
        """What going on in the middle of episodes takes; None where there are none."""
        return self._running

    def _tensors(self) -> dict[str, Any]:
        """Networks and optimisers, as nested dicts of tensors."""
        tensors = {"low_level": self.low_level.state_dict()}
        if self.high_level is not None:
            tensors["high_level"] = self.high_level.state_dict()
        return tensors

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What else the agent depends on, as arrays by name."""
        arrays: dict[str, NDArray[Any]] = {"noise": self.noise.state()}
        arrays |= {f"episodes/{k}": v for k, v in self.episodes.state_dict().items()}
        if self.scales is not None:
            arrays |= {f"scales/{name}": getattr(self.scales, name) for name in _SCALES}
        if self.knows_clock:
            arrays["action_repeat"] = np.array(self.action_repeat)
        if (tolerance := self._success_tolerance()) is not None:
            arrays["success_tolerance"] = tolerance
        return arrays if self.high_level is None else arrays | self.high_level.arrays()

    @classmethod
    def load(
        cls: type[Self],
        path: str | os.PathLike[str] | IO[bytes],
        env: EnvLike | None = None,
        device: str | torch.device = "cpu",
        *,
        seed: int | None = None,
        replay_buffer: bool = True,
        resume_episode: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Read an agent from a file that :meth:`save` wrote; no code in the file is run.

        ``learn(reset_num_timesteps=False)`` then goes on. What was saved with its replay buffer
        does so as if it had not been stopped, bit for bit on one machine: with ``resume_episode``
        in the middle of the episode, without it from the next one on.

        Args:
            path: the file, or a binary stream.
            env: where to go on learning. Predicting goes without; what counts as reached is then
                what the environment counted along each axis when the agent was saved.
            device: where the networks live.
            seed: starts the random streams again; None goes on with those in the file.
            replay_buffer: False leaves the experience in the file, where there is some.
            resume_episode: ``env`` is where it was when the agent was saved (which no file can
                bring about: put its state back yourself): go on in the middle of its episodes.
                False: they are over, the next ``learn`` resets the environment.
            kwargs: ``tensorboard_log``, ``verbose`` and overrides of the config. A part of your
                own (``low_level=MyLowLevel``) has to be given again.

        Raises:
            FileNotFoundError: if there is no such file.
            CheckpointError: if the file is damaged, or of another agent.
            ValueError: if the overrides ask for other networks than those in the file, the
                environment has other spaces, or the device cannot be used here.
        """
        name = shown(path)
        # To the CPU first: the models copy it to where they live.
        checkpoint = load_checkpoint(path)
        meta, names = checkpoint.meta, {f.name for f in fields(cls.config_class)}
        if meta.get("agent") != cls.__name__:
            raise CheckpointError(
                f"{name} holds a {meta.get('agent', 'file of another kind')}, not a "
                f"{cls.__name__}; load it with that class"
            )
        version = str(meta.get("hierebm_version", "unknown"))[:20]
        damaged = (
            f"it was written by another version of hierebm ({version}) or damaged: load it with "
            "that version, or train again"
        )
        try:
            config = cls.config_class(**{k: v for k, v in checkpoint.config.items() if k in names})
            spaces = GoalSpaces(*(space_from_json(meta[k]) for k in _SPACES))
            spaces.from_data = bool(meta.get("spaces_from_data", False))
            drawn_from = int(meta["seed"])
        # What is wrong with a file can show anywhere from here on.
        except Exception as error:
            raise CheckpointError(
                f"{name} lacks what makes an agent ({_short(error)}); {damaged}"
            ) from error
        try:
            agent = cls(config, seed=0, device=device, **kwargs)
        except (TypeError, ValueError) as error:
            # With settings that are none of the file's it fails, too, if the fault is not its own.
            cls(seed=0, device=device, **kwargs)
            raise CheckpointError(f"cannot load {name}: {error}") from error
        changed = [
            k for k in kwargs if k in names and getattr(agent.config, k) != getattr(config, k)
        ]
        # What the caller asks for may be larger than what the file holds.
        own = changed or any(not isinstance(kwargs.get(k, ""), str) for k in cls.parts)
        limit = nullcontext() if own else AllocationLimit(checkpoint.tensors)
        try:
            agent._start_streams(drawn_from)
            with limit:
                agent._build(spaces)
            agent.spaces = spaces
            agent._restore(checkpoint, config)
            if replay_buffer and (experience := _experience(checkpoint.arrays)):
                restore_replay(agent, experience, path)
                agent._running = _running(checkpoint.tensors)
        except Exception as error:
            if changed:
                raise ValueError(
                    f"{name} cannot be used with another {', '.join(changed)} ({_short(error)}): "
                    "leave out what changes the networks, or train again with it"
                ) from error
            raise CheckpointError(
                f"{name} does not fit a {cls.__name__} of its own settings ({_short(error)}); "
                f"{damaged}"
            ) from error
        if seed is not None:
            agent.set_random_seed(seed)
        if env is not None:
            try:
                agent.set_env(env, resume_episode=resume_episode)
            except ValueError as error:
                raise ValueError(f"{name} cannot be used in this environment: {error}") from error
        return agent

    def _restore(self, checkpoint: Checkpoint, saved: Any) -> None:
        meta, tensors, arrays = checkpoint.meta, checkpoint.tensors, checkpoint.arrays
        changed = {f.name for f in fields(saved)}
        changed = {k for k in changed if getattr(saved, k) != getattr(self.config, k)}
        self.generator.set_state(tensors["generator"].cpu())
        # What was drawn or estimated under other settings is not gone on with.
        if not changed & {"action_noise", "random_actions"}:
            self._restore_noise(arrays)
        if "safe_edge" in changed:
            arrays = {k: v for k, v in arrays.items() if not k.startswith("edge_cutoff/")}
        self._restore_measured(arrays)
        if "episodes/totals" in arrays:
            own = {k.removeprefix("episodes/"): v for k, v in arrays.items()}
            assert self.spaces is not None
            self.episodes.load_state_dict(own, self.spaces.obs_dim, self.spaces.goal_dim)
        self.low_level.load_state_dict(tensors["low_level"])
        if self.high_level is not None:
            # Arrays first: planners may be made of the scales.
            self.high_level.load_arrays(arrays, self.scales)
            self.high_level.load_state_dict(tensors["high_level"])
        self.num_timesteps, self.n_updates = (
            _count(meta[name]) for name in ("num_timesteps", "n_updates")
        )
        # Files of earlier versions do without.
        self.num_episodes = _count(meta.get("num_episodes", 0))
        self.unfinished = {str(k): _count(v) for k, v in meta.get("unfinished", {}).items()}
        set_numpy_generator_state(self.rng, meta["rng"])

    def _restore_noise(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        assert self.spaces is not None
        shape = (None, 2, None, self.spaces.action_dim)
        noise = arrays.get("noise", np.zeros(0))
        shape = shape if noise.size else noise.shape
        self.noise.set_state(checked({"noise": noise}, "noise", shape, "floats"))

    def _restore_measured(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Scales, clock and success tolerance."""
        assert self.spaces is not None
        n, goal_dim = self.spaces.obs_dim, self.spaces.goal_dim
        if "scales/step" in arrays:
            scales: dict[str, Any] = {}
            for name in _NUMBERS:
                shape = (n if name.startswith("observation") else goal_dim,)
                low = -LARGEST if name.endswith("shift") else 1.0 / LARGEST
                scales[name] = checked(arrays, f"scales/{name}", shape, "floats", low=low)
            # Files of earlier versions do without it.
            if "scales/at_will" in arrays:
                scales["at_will"] = checked(arrays, "scales/at_will", (goal_dim,), "flags")
            self.scales = InputScales(**scales)
        if "success_tolerance" in arrays or "pool/achieved_goal" in arrays:
            # Plans ask what counts as reached.
            self._tolerance = checked(arrays, "success_tolerance", (goal_dim,), "floats", low=0.0)
        if "action_repeat" in arrays:
            repeat = checked(arrays, "action_repeat", (), "whole numbers", low=1, high=1e6)
            self.set_action_repeat(int(repeat))
        elif self.scales is not None:
            # Files of 0.2.0 do without it: actions were not held.
            self.set_action_repeat(1)

    # --------------------------------------------------------------------- copies

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickles and copies hold what `save` writes: memory that models share among their parts,
        # as copied attribute by attribute it would not be shared any more.
        for name, part in self._given.items():
            if not isinstance(part, (str, type)):
                raise TypeError(
                    f"an agent whose {name} was given as an instance cannot be copied or pickled: "
                    "its copy would share it; give the class, or save the agent and load it with "
                    "an instance of its own"
                )
        data = None
        if self.spaces is not None:
            stream = io.BytesIO()
            self.save(stream)
            data = stream.getvalue()
        return _again, (type(self), self.config, self.seed, data, self._options())

    def _options(self) -> dict[str, Any]:
        """Arguments of the constructor that are no part of the file."""
        return {"device": str(self.device), **self._given}


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"a number of steps or episodes is {value!r}")
    return value


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _experience(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The replay buffer's arrays among those of an agent's file."""
    return {k.removeprefix(_EXPERIENCE): v for k, v in arrays.items() if k.startswith(_EXPERIENCE)}


def _running(tensors: Mapping[str, Any]) -> dict[str, Any] | None:
    """The episodes that ran, with arrays for tensors."""
    running = to_arrays(tensors.get("running"))
    if running is not None and not isinstance(running, dict):
        raise TypeError("what it says of running episodes is no dict")
    return running


def _again(
    agent_class: type[Self], config: Any, seed: int, data: bytes | None, options: dict[str, Any]
) -> Self:
    """An agent as it was pickled."""
    if data is not None:
        return agent_class.load(io.BytesIO(data), **options)
    agent = agent_class(config, **options)
    agent._start_streams(seed)
    return agent
