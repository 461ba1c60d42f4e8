"""An agent in a file: settings, networks, random streams, spaces; no code."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, fields
from typing import IO, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.replay_file import replay_arrays, restore_replay
from hierebm.agents.state import AgentState
from hierebm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
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

Self = TypeVar("Self", bound="SavedAgent")
# What the names of the replay buffer's arrays begin with in an agent's file.
_EXPERIENCE = "experience/"
_SPACES = ("observation_space", "action_space")
_SCALES = tuple(f.name for f in fields(InputScales))


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
        # To the CPU first: the models copy it to where they live.
        checkpoint = load_checkpoint(path)
        meta, names = checkpoint.meta, {f.name for f in fields(cls.config_class)}
        if meta.get("agent") != cls.__name__:
            raise CheckpointError(
                f"{path} holds a {meta.get('agent', 'file of another kind')}, not a "
                f"{cls.__name__}; load it with that class"
            )
        version = meta.get("hierebm_version", "unknown")
        damaged = (
            f"it was written by another version of hierebm ({version}) or damaged: load it with "
            "that version, or train again"
        )
        try:
            config = cls.config_class(**{k: v for k, v in checkpoint.config.items() if k in names})
            spaces = GoalSpaces(*(space_from_json(meta[k]) for k in _SPACES))
            spaces.from_data = bool(meta.get("spaces_from_data", False))
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
            agent._restore(checkpoint, config)
            if replay_buffer and (experience := _experience(checkpoint.arrays)):
                restore_replay(agent, experience, path)
                agent._running = to_arrays(checkpoint.tensors.get("running"))
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            short = " ".join(str(error).split())[:300]
            own = asdict(agent.config)
            if changed := [k for k in kwargs if k in names and own[k] != asdict(config)[k]]:
                raise ValueError(
                    f"{path} cannot be used with another {', '.join(changed)} ({short}): leave "
                    "out what changes the networks, or train again with it"
                ) from error
            raise CheckpointError(
                f"{path} does not fit a {cls.__name__} of its own settings ({short}); {damaged}"
            ) from error
        if seed is not None:
            agent.set_random_seed(seed)
        if env is not None:
            agent.set_env(env, resume_episode=resume_episode)
        return agent

    def _restore(self, checkpoint: Checkpoint, saved: Any) -> None:
        meta, tensors, arrays = checkpoint.meta, checkpoint.tensors, checkpoint.arrays
        changed = {f.name for f in fields(saved)}
        changed = {k for k in changed if getattr(saved, k) != getattr(self.config, k)}
        self.generator.set_state(tensors["generator"].cpu())
        # What was drawn or estimated under other settings is not gone on with.
        if not changed & {"action_noise", "random_actions"}:
            self.noise.set_state(arrays["noise"])
        if "safe_edge" in changed:
            arrays = {k: v for k, v in arrays.items() if not k.startswith("edge_cutoff/")}
        if "scales/step" in arrays:
            self.scales = InputScales(*(arrays[f"scales/{name}"] for name in _SCALES))
        self._tolerance = arrays.get("success_tolerance")
        if self.scales is not None or "action_repeat" in arrays:
            # Files of 0.2.0 do without it: actions were not held.
            self.set_action_repeat(int(arrays.get("action_repeat", 1)))
        if "episodes/totals" in arrays:
            self.episodes.load_state_dict(
                {k.removeprefix("episodes/"): v for k, v in arrays.items()}
            )
        self.low_level.load_state_dict(tensors["low_level"])
        if self.high_level is not None:
            # Arrays first: planners may be made of the scales.
            self.high_level.load_arrays(arrays, self.scales)
            self.high_level.load_state_dict(tensors["high_level"])
        self.num_timesteps = int(meta["num_timesteps"])
        self.num_episodes = int(meta.get("num_episodes", 0))
        self.unfinished = {k: int(v) for k, v in meta.get("unfinished", {}).items()}
        self.n_updates = int(meta["n_updates"])
        set_numpy_generator_state(self.rng, meta["rng"])

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


def _experience(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The replay buffer's arrays among those of an agent's file."""
    return {k.removeprefix(_EXPERIENCE): v for k, v in arrays.items() if k.startswith(_EXPERIENCE)}


def _again(
    agent_class: type[Self], config: Any, seed: int, data: bytes | None, options: dict[str, Any]
) -> Self:
    """An agent as it was pickled."""
    if data is not None:
        return agent_class.load(io.BytesIO(data), **options)
    agent = agent_class(config, **options)
    agent._start_streams(seed)
    return agent
