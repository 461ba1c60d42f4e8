"""DDPGHERAgent: the low level alone, one policy for every goal."""

from __future__ import annotations

import os
import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.base import GoalAgent
from hierebm.agents.ddpg_her_config import DDPGHERConfig
from hierebm.checkpoint.format import load_checkpoint, save_checkpoint
from hierebm.control import make_ddpg
from hierebm.control.exploration import ExplorationNoise
from hierebm.goal_env.adapter import GoalEnv, GoalSpaces, StepResult
from hierebm.nn.precision import bf16_products
from hierebm.nn.threads import apply_thread_policy
from hierebm.replay import EpisodeReplay, sample_transitions
from hierebm.replay.episodes import StoredStep
from hierebm.types import FloatArray, GoalObservation

__all__ = ["DDPGHERAgent", "DDPGHERConfig"]

# Random actions are held for this many steps on average: a system with momentum reaches its top
# speed, which sets the scale of one step, and goes somewhere.
HOLD = 8.0
# Steps of all environments that are put into the buffer together, unless it is asked for before.
STORED_AT_ONCE = 128


class DDPGHERAgent(GoalAgent):
    """Goal-conditioned DDPG with hindsight and an ensemble of distance critics.

    Sources: Lillicrap et al. 2016 (arXiv 1509.02971), Andrychowicz et al. 2017 (arXiv 1707.01495),
    Eysenbach et al. 2019 (arXiv 1906.05253). The arguments are those of
    :class:`~hierebm.agents.base.GoalAgent`.
    """

    config_class: ClassVar[type[Any]] = DDPGHERConfig
    default_log_name: ClassVar[str] = "DDPGHER"
    config: DDPGHERConfig

    # Before an environment is set.
    _replay: EpisodeReplay | None = None
    _ready = False

    def _start_streams(self, seed: int) -> None:
        super()._start_streams(seed)
        c = self.config
        self._exploration = ExplorationNoise(c.action_noise, c.random_actions, self.rng)

    def _build(self, spaces: GoalSpaces) -> None:
        apply_thread_policy(
            max(self.config.hidden_sizes, default=1),
            self.config.batch_size,
            log=self.logger.log if self.verbose else None,
        )
        self.low_level = make_ddpg(
            spaces.obs_dim,
            spaces.goal_dim,
            spaces.action_dim,
            self.config,
            self.generator,
            self.device,
            kernels=self.config.kernels,
        )
        # The scales are fitted: the networks can be trained and used.
        self._ready = False

    def _attach(self, env: GoalEnv) -> None:
        spaces = env.spaces
        if self._replay is not None:
            if self._replay.n_envs == env.n_envs:
                return
            warnings.warn(
                f"the replay buffer was filled by {self._replay.n_envs} environment(s), the "
                f"new one has {env.n_envs}: a new buffer is begun, the old experience is dropped",
                stacklevel=4,
            )
        self._replay = EpisodeReplay(
            self.config.buffer_size,
            spaces.obs_dim,
            spaces.goal_dim,
            spaces.action_dim,
            env.n_envs,
        )
        # Steps that are not in the buffer yet: many at once cost a fraction each.
        self._new_steps: list[StoredStep] = []
        # Transitions stored so far, and how many of them the last update had seen.
        self._stored = self._trained_at = 0

    @property
    def replay_buffer(self) -> EpisodeReplay:
        """All experience up to the last step. Raises RuntimeError before an environment is set."""
        if self._replay is None:
            raise RuntimeError("there is no replay buffer yet: learn(env) or set_env(env) first")
        self._replay.add_steps(self._new_steps)
        self._new_steps.clear()
        return self._replay

    def _begin(self, env: GoalEnv) -> None:
        self.replay_buffer.close_episodes()
        shape = (env.n_envs, env.spaces.action_dim)
        self._held_action = self.rng.uniform(-1.0, 1.0, shape).astype(np.float32)

    # ------------------------------------------------------------------- learning

    def _chased_goal(self, observation: GoalObservation) -> FloatArray:
        """(n, goal_dim) what the low level pursues: here, the environment's own goal."""
        return observation.desired_goal

    def _act(self, observation: GoalObservation) -> FloatArray:
        self._goal = self._chased_goal(observation)
        if not self._ready:
            return self._random_walk_action()
        action = self.low_level.act(observation.observation, observation.achieved_goal, self._goal)
        return self._exploration.add(action)

    def _random_walk_action(self) -> FloatArray:
        """(n_envs, action_dim) random actions that are held for a while."""
        new = self.rng.random((len(self._held_action), 1)) < 1.0 / HOLD
        fresh = self.rng.uniform(-1.0, 1.0, self._held_action.shape).astype(np.float32)
        self._held_action = np.where(new, fresh, self._held_action)
        return self._held_action

    def _with_noise(self, action: FloatArray) -> FloatArray:
        """Noise for a step that is not learnt from: leaves what learning has drawn ahead alone."""
        c = self.config
        return ExplorationNoise(c.action_noise, c.random_actions, self.rng, block=1).add(action)

    def _store(self, before: GoalObservation, action: FloatArray, step: StepResult) -> None:
        after = step.next_state
        self._new_steps.append(
            StoredStep(
                before.observation,
                before.achieved_goal,
                self._goal,
                action,
                after.observation,
                after.achieved_goal,
                step.failure,
                step.ended,
                step.valid,
            )
        )
        self._stored += step.n_valid
        if len(self._new_steps) >= STORED_AT_ONCE:
            _ = self.replay_buffer

    def _train(self) -> None:
        assert self.env is not None
        c = self.config
        if self._stored < c.learning_starts:
            self._trained_at = self._stored
            return
        if not self._ready:
            self._fit_scales()
            self._ready = True
        rounds = (self._stored - self._trained_at) // c.train_freq
        self._trained_at += rounds * c.train_freq
        for _ in range(rounds * c.gradient_steps):
            batch = sample_transitions(
                self.replay_buffer,
                c.batch_size,
                self.env.reached,
                self.rng,
                future=c.her_future,
                random=c.her_random,
                nearby=c.her_nearby,
                horizon=c.her_horizon,
            )
            with bf16_products(c.bf16):
                metrics = self.low_level.update(batch)
            self._log_means(metrics)
            self.n_updates += 1

    def _fit_scales(self) -> None:
        """Scale inputs by the spaces' bounds or, where they are infinite, by what was seen."""
        assert self.spaces is not None
        rows = self.replay_buffer.sample_rows(10_000, self.rng)
        replay, spaces = self.replay_buffer, self.spaces
        next_rows = replay.later(rows, np.ones_like(rows))
        goals = np.concatenate([replay.achieved_goal[rows], replay.goal[rows]])
        ranges = []
        for key, seen in (("observation", replay.observation[rows]), ("desired_goal", goals)):
            given = spaces.finite_range(key)
            ranges.append(given or (seen.mean(0), np.maximum(2.0 * seen.std(0), 1e-6)))
        self.goal_range = ranges[1]
        moved = np.abs(replay.achieved_goal[next_rows] - replay.achieved_goal[rows])
        self.step_scale = np.maximum(
            np.quantile(moved, 0.95, axis=0), 0.01 * self.goal_range[1]
        ).astype(np.float32)
        observation_range, goal_range = (
            (torch.from_numpy(shift), torch.from_numpy(scale)) for shift, scale in ranges
        )
        self.low_level.features.fit(
            observation_range, goal_range, torch.from_numpy(self.step_scale)
        )

    # ----------------------------------------------------------------- predicting

    def _predict(
        self,
        observation: GoalObservation,
        state: Any,
        episode_start: NDArray[np.bool_],
        deterministic: bool,
    ) -> tuple[FloatArray, Any]:
        action = self.low_level.act(
            observation.observation, observation.achieved_goal, observation.desired_goal
        )
        return (action if deterministic else self._with_noise(action)), state

    # ---------------------------------------------------------------- persistence

    def _tensors(self) -> dict[str, Any]:
        return {"low_level": self.low_level.state_dict()}

    def _load_tensors(self, tensors: dict[str, Any]) -> None:
        self.low_level.load_state_dict(tensors["low_level"])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"exploration": self._exploration.state()}
        if self._ready:
            arrays["step_scale"] = self.step_scale
            arrays["goal_shift"], arrays["goal_scale"] = self.goal_range
        return arrays

    def _load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        if "exploration" in arrays:
            self._exploration.set_state(arrays["exploration"])
        self._ready = "step_scale" in arrays
        if self._ready:
            self.step_scale = arrays["step_scale"]
            self.goal_range = (arrays["goal_shift"], arrays["goal_scale"])

    def save_replay_buffer(self, path: str | os.PathLike[str]) -> None:
        """Write the experience to one file, atomically. Raises OSError, RuntimeError."""
        save_checkpoint(path, arrays=self._experience(), meta={"agent": "replay buffer"})

    def load_replay_buffer(self, path: str | os.PathLike[str]) -> None:
        """Restore what :meth:`save_replay_buffer` wrote; set the environment first.

        Raises:
            RuntimeError: if no environment is set.
            CheckpointError, ValueError: if the file is damaged or of another shape.
        """
        if self.env is None:
            raise RuntimeError("set_env(env) before load_replay_buffer(path)")
        arrays = load_checkpoint(path).arrays
        # Before anything is replaced by it.
        if missing := sorted(set(self._experience()) - set(arrays)):
            raise ValueError(
                f"{path} has no {', '.join(missing)}: it is not a replay buffer of a "
                f"{type(self).__name__} of this version of hierebm, collect experience anew"
            )
        self._load_experience(arrays)

    def _experience(self) -> dict[str, NDArray[Any]]:
        arrays = {f"replay/{k}": v for k, v in self.replay_buffer.state_dict().items()}
        arrays["counters"] = np.array([self._stored, self._trained_at])
        return arrays

    def _load_experience(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.replay_buffer.load_state_dict(
            {k.removeprefix("replay/"): v for k, v in arrays.items() if k.startswith("replay/")}
        )
        self._stored, self._trained_at = (int(count) for count in arrays["counters"])
