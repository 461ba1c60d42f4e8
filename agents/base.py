"""The agent: a low level, perhaps a high level above it, and the loop in which both learn."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.config import DDPGHERConfig
from hierebm.agents.diagnosing import diagnose
from hierebm.agents.episode_statistics import EpisodeStatistics
from hierebm.agents.interface import NamesOfSB3
from hierebm.agents.loop import LearningLoop
from hierebm.agents.replay_file import load_replay, save_replay
from hierebm.at_once import set_at_once
from hierebm.callbacks import BaseCallback, MaybeCallback
from hierebm.checkpoint.state import check_same_space
from hierebm.control.base import LowLevel
from hierebm.control.exploration import ExplorationNoise
from hierebm.control.registry import find_low_level
from hierebm.diagnosis import Diagnosis
from hierebm.goal_env.adapter import EnvLike, GoalEnv
from hierebm.goal_env.spaces import KEYS, GoalSpaces
from hierebm.logging.logger import Logger, TableOutput
from hierebm.nn.threads import apply_thread_policy
from hierebm.planning.following import PlanFollower
from hierebm.planning.high_level import HighLevel
from hierebm.types import GoalObservation

Self = TypeVar("Self", bound="GoalAgent")


class GoalAgent(NamesOfSB3):
    """Base of the agents: a subclass says which settings and which high level there are.

    Args:
        config: all settings; its class is the subclass's ``config_class``.
        env: an environment id, a goal environment or a vector of them; can be given to
            :meth:`learn` instead.
        seed: makes runs repeat bit for bit on one machine; None draws a seed.
        tensorboard_log: folder of TensorBoard runs; None writes nothing.
        device: where the networks live.
        verbose: 1 prints a table of metrics while learning.
        overrides: fields of the config by name, e.g. ``batch_size=512``. Those named in ``parts``
            also take a class or an instance, e.g. ``low_level=MyLowLevel``.

    Raises:
        TypeError: for an override that is no field of the config (names the nearest ones), or a
            value of another type than its default.
        ValueError: for a value out of its range, or a device that cannot be used here.
    """

    config_class: ClassVar[type[Any]] = DDPGHERConfig
    default_log_name: ClassVar[str]

    def __init__(
        self,
        config: Any = None,
        *more: Any,
        env: EnvLike | None = None,
        seed: int | None = None,
        tensorboard_log: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 0,
        **overrides: Any,
    ) -> None:
        named = isinstance(config, str) and config.endswith("Policy")
        if more or named or overrides.keys() & {"policy", "policy_kwargs"}:
            raise TypeError(
                "no policy is named here, other than in Stable-Baselines3: networks are made for "
                f"the environment. Write {type(self).__name__}(env=env), with hidden_sizes=(256, "
                "256) for networks of other sizes; all other arguments go by name, too"
            )
        config = self.config_class() if config is None else config
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"config must be a {self.config_class.__name__}, got {config!r}; an environment "
                "goes to learn(env) or env=, single settings go by name, e.g. batch_size=512"
            )
        super().__init__(config, seed=seed, device=device, **overrides)
        self._check_parts()
        self.tensorboard_log, self.verbose = tensorboard_log, verbose
        # Until `learn` makes that of its run.
        self.logger: Logger = Logger(None, [TableOutput()] if verbose else [])
        if env is not None:
            self.set_env(env)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Start all random streams again, as the constructor's ``seed``; the next ``learn`` resets
        the environment.
        """
        super().set_random_seed(seed)
        if self._loop is not None:
            self._loop.restart()

    def _options(self) -> dict[str, Any]:
        own = {"tensorboard_log": self.tensorboard_log, "verbose": self.verbose}
        return {**super()._options(), **own}

    # ------------------------------------------------------- what subclasses define

    def _check_parts(self) -> None:
        """Raise ValueError or TypeError for a part that is none."""
        find_low_level(self.part("low_level"))

    def _make_high_level(self, spaces: GoalSpaces) -> HighLevel | None:
        """The high level, if the agent has one; the low level is there already."""
        return None

    def _default_callbacks(self, callback: MaybeCallback) -> list[BaseCallback]:
        """Callbacks that the agent adds to the user's."""
        return []

    # ------------------------------------------------------------------ predicting

    def predict(
        self,
        observation: dict[str, NDArray[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """The action for an observation, or for a batch of them.

        Args:
            observation: a Dict observation, or one with a leading batch dimension; scaled by the
                ``VecNormalize`` that was given around the environment, if one was.
            state: what the last call returned; None at first.
            episode_start: (n,) True where a new episode begins.
            deterministic: False adds the exploration noise.

        Returns:
            The action, batched as the observation, and the state for the next call.

        Raises:
            RuntimeError: if the agent knows no spaces yet.
            ValueError: if the observation is not of the environment's kind, or has NaN in it; a
                ``state`` or ``episode_start`` of another number of environments.
        """
        if self.spaces is None:
            raise RuntimeError(
                "the agent knows no spaces yet: learn(env), learn_offline(data) or load(path) first"
            )
        if (normalization := self.get_vec_normalize_env()) is not None:
            # Learned from, and looked at, is what there was before it.
            observation = normalization.unnormalize_obs(observation)
        batch, single = self._rows(self.spaces, observation)
        n = len(batch.observation)
        goals = batch.desired_goal
        if self.high_level is not None and self.high_level.can_plan:
            follower = PlanFollower(
                self.high_level.planner, state, n, self._plan_rng, learning=False
            )
            start = [False] * n if episode_start is None else np.ravel(episode_start).tolist()
            if len(start) != n:
                raise ValueError(f"episode_start has {len(start)} entries for {n} observation(s)")
            follower.advance(batch, start)
            goals, state = follower.subgoals(batch), follower.plans
        action = self.low_level.act(batch.observation, batch.achieved_goal, goals)
        if deterministic:
            action = self.low_level.at_full(action)
        else:
            # Draws nothing ahead: what learning has drawn is left alone.
            c = self.config
            noise = ExplorationNoise(c.action_noise, c.random_actions, self.rng, block=1)
            action = noise.add(action)
        scaled = self.spaces.to_env_action(action)
        return (scaled[0] if single else scaled), state

    @staticmethod
    def _rows(
        spaces: GoalSpaces, observation: dict[str, NDArray[Any]]
    ) -> tuple[GoalObservation, bool]:
        """An observation as flat rows, and whether it was a single one."""
        single = spaces.is_single(observation)
        if single:
            observation = {key: np.asarray(observation[key])[None] for key in KEYS}
        return spaces.flatten(observation), single

    def _plan_rng(self) -> np.random.Generator:
        # A stream of its own for every plan: predicting neither depends on nor disturbs learning.
        return np.random.default_rng(self.seed)

    # ------------------------------------------------------------------ diagnosing

    def diagnose(self) -> Diagnosis:
        """Why the agent reaches its goals or does not, and what to try; print it to read it.

        Takes about a second. Nothing is learned or logged, and no random stream moves on: learning
        goes on as it would have without. A loaded agent knows less: it has no replay buffer.

        Raises:
            RuntimeError: if the agent knows no environment yet.
        """
        if self.spaces is None:
            raise RuntimeError("there is nothing to diagnose yet: learn or load(path) first")
        return diagnose(self, self._success_tolerance(), self._reached)

    # ------------------------------------------------------------------ environment

    def set_env(self, env: EnvLike, *, resume_episode: bool = False) -> None:
        """Learn in this environment from now on; its spaces must be those seen before.

        Experience is kept, of another number of environments too.

        Bounds of observations and goals may be others: those of another map of the same world.
        What was learned of the old one, such as its walls, is not forgotten. Spaces that were made
        from data (:meth:`learn_offline`) are replaced by the environment's: lengths of observations
        and goals and the bounds of actions must agree.

        An environment that was made from an id is kept where the same id is given again, and closed
        where another environment takes its place.

        Args:
            env: id, environment or vector environment.
            resume_episode: of an agent that was just loaded: see :meth:`load`.

        Raises:
            ValueError: if the spaces differ, or there is no episode to resume.
        """
        if self.env is not None and isinstance(env, str) and env == self.env.made_from:
            return
        goal_env = GoalEnv(env)
        if self.env is not None and goal_env.given is self.env.given:
            return
        try:
            self._fit_spaces(goal_env.spaces)
            assert self.spaces is not None
            ours, theirs = self.spaces, goal_env.spaces
            known = _bounded_as(theirs.observation_space, ours.observation_space)
            check_same_space(ours.observation_space, known, "observation_space")
            check_same_space(ours.action_space, theirs.action_space, "action_space")
            if (
                known != theirs.observation_space
                and self.replay is not None
                and self.replay.n_added
            ):
                warnings.warn(
                    "the environment has other bounds than the one that the agent learned in: what "
                    "was stored there stays in the replay buffer, and may not be true here; "
                    "load(path, env, replay_buffer=False) begins without it",
                    stacklevel=2,
                )
            replay = self._kept_buffer(goal_env.n_envs)
            loop = LearningLoop(self, goal_env)
            if resume_episode:
                self._resume(loop)
        except BaseException:
            if goal_env.made_from is not None:
                goal_env.close()
            raise
        old = self.env
        # What is remembered of episodes belongs to the old one.
        episodes = self.episodes if old is None else EpisodeStatistics()
        set_at_once(
            self, env=goal_env, _loop=loop, episodes=episodes, replay=replay, _running=None,
            _moving=None,
        )  # fmt: skip
        if old is not None and old.made_from is not None:
            old.close()

    def _resume(self, loop: LearningLoop) -> None:
        """Let a loop go on in the middle of the episodes of the file."""
        if self._running is None:
            raise ValueError(
                "there is no episode to resume: the agent was saved without replay_buffer=True, or "
                "after learning was stopped by an error; leave resume_episode out"
            )
        try:
            loop.resume(self._running)
        # What is wrong with a file can show as nearly anything.
        except Exception as error:
            raise ValueError(
                f"the episodes of the file cannot be gone on with ({error!s:.300}): give as many "
                "environments as ran then, or leave resume_episode out"
            ) from error

    def _running_episodes(self) -> dict[str, Any] | None:
        return self._running if self._loop is None else self._loop.state_dict()

    def _fit_spaces(self, spaces: GoalSpaces) -> None:
        """Take over the spaces of an environment where none was known."""
        if self.spaces is None:
            self._build(spaces)
        elif self.spaces.from_data:
            self.spaces.check_fits(spaces, "the environment")
            self.low_level.check_spaces(spaces.observation_space, spaces.action_space)
        else:
            return
        self.spaces = spaces

    def save_replay_buffer(self, path: str | os.PathLike[str]) -> None:
        """Write the experience to one file, atomically. Raises OSError, RuntimeError."""
        save_replay(self, path)

    def load_replay_buffer(self, path: str | os.PathLike[str]) -> None:
        """Restore what :meth:`save_replay_buffer` wrote, in an agent that knows its spaces: of an
        environment that was set, or of what was learned before it was saved.

        The next ``learn`` begins with a reset: the episode that runs is not the one in the buffer.

        Raises:
            RuntimeError: if the agent knows no spaces yet.
            CheckpointError, ValueError: if the file is damaged or of another shape, or its steps
                are of another length.
        """
        load_replay(self, path)
        if self._loop is not None:
            self._loop.restart()

    def _build(self, spaces: GoalSpaces) -> None:
        c = self.config
        log = self.logger.log if self.verbose else None
        apply_thread_policy(max(c.hidden_sizes), c.batch_size, log=log)
        part = find_low_level(self.part("low_level"))
        if not isinstance(part, LowLevel):
            sizes = spaces.obs_dim, spaces.goal_dim, spaces.action_dim
            part = part.build(*sizes, c, self.generator, self.device)
        part.check_spaces(spaces.observation_space, spaces.action_space)
        self.low_level = part
        self.high_level = self._make_high_level(spaces)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(asdict(self.config))})"


def _bounded_as(given: gym.spaces.Dict, known: gym.spaces.Dict) -> gym.spaces.Dict:
    """A space with the bounds of another one, where shape and dtype are the same."""
    same = {
        key: known[key]
        if (given[key].shape, given[key].dtype) == (known[key].shape, known[key].dtype)
        else given[key]
        for key in KEYS
    }
    return gym.spaces.Dict(same)
