"""What every agent is made of: settings, random streams, clock, models, environment, experience."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from hierebm.agents.episode_statistics import EpisodeStatistics
from hierebm.agents.kept_batches import KeptBatches
from hierebm.agents.last_good import LastGood
from hierebm.at_once import set_at_once
from hierebm.control.base import LowLevel
from hierebm.control.exploration import ExplorationNoise
from hierebm.diagnosis import Diagnosis
from hierebm.goal_env.adapter import EnvLike, GoalEnv
from hierebm.goal_env.spaces import GoalSpaces
from hierebm.logging.logger import Logger
from hierebm.parts import part_name
from hierebm.planning.high_level import HighLevel
from hierebm.replay import EpisodeReplay
from hierebm.replay.growing import spread
from hierebm.replay.moving import MovingRows
from hierebm.replay.scales import InputScales
from hierebm.settings import overridden
from hierebm.types import BoolArray, FloatArray


class AgentState(ABC):
    """What the learning loop works on and files keep.

    Args:
        config: all settings, of the class ``config_class``.
        seed: of the random streams; None draws one.
        device: where the networks live.
        overrides: fields of the config by name; those in ``parts`` also as a class or an instance.
    """

    config_class: ClassVar[type[Any]]
    parts: ClassVar[tuple[str, ...]] = ("low_level",)
    """Settings that take a class or an instance, too."""

    low_level: LowLevel
    high_level: HighLevel | None = None
    logger: Logger
    given_seed: int | None
    """What the random streams began with; None where they go on from a file."""

    def __init__(
        self,
        config: Any,
        *,
        seed: int | None = None,
        device: str | torch.device = "cpu",
        **overrides: Any,
    ) -> None:
        # The config holds the names of the parts; what was given is kept beside it.
        self._given = {k: v for k, v in overrides.items() if k in self.parts}
        names = {k: part_name(v) for k, v in self._given.items()}
        self.config = overridden(config, overrides | names)
        self.device = _usable(device)
        self.num_timesteps = self.num_episodes = self.n_updates = 0
        # What the running or the last call of ``learn`` (env steps) and of ``learn_offline``
        # (gradient steps) did not come to: the count at which each was to end.
        self.unfinished: dict[str, int] = {}
        self.env: GoalEnv | None = None
        self.spaces: GoalSpaces | None = None
        self.replay: EpisodeReplay | None = None
        # Measured when learning begins: from then on the networks can be trained and used.
        self.scales: InputScales | None = None
        # How long actions are held, once it was measured.
        self._action_repeat: int | None = None
        # (goal_dim,) how far from a goal it counts as reached, where there is no environment:
        # as when the agent was saved, or as learn_offline was told.
        self._tolerance: FloatArray | None = None
        # Of the buffer that there is; made again when it is another one.
        self._moving: MovingRows | None = None
        # Transitions that had been added when the low and the high level were last trained.
        self.trained_at = self.planned_at = 0
        # What the low level was when it had not diverged.
        self.last_good = LastGood()
        # Where a low level on a GPU gets its batches from.
        self.batches = KeptBatches()
        # How the last episodes went.
        self.episodes = EpisodeStatistics()
        self.generator = torch.Generator()
        self.set_random_seed(seed)

    def part(self, name: str) -> Any:
        """What was given for a part: a name, a class or an instance."""
        return self._given.get(name, getattr(self.config, name))

    def set_random_seed(self, seed: int | None = None) -> None:
        """Start all random streams of the agent again, as the constructor's ``seed``."""
        sequence = np.random.SeedSequence(seed)
        self._start_streams(int(sequence.generate_state(1)[0]))
        # Where none was given, one was drawn.
        assert isinstance(sequence.entropy, int)
        self.given_seed = sequence.entropy

    def _start_streams(self, seed: int) -> None:
        self.seed, self.given_seed = seed, None
        self.rng = np.random.default_rng(seed)
        # In place: the models hold it too.
        self.generator.manual_seed(seed)
        c = self.config
        self.noise = ExplorationNoise(c.action_noise, c.random_actions, self.rng)

    @abstractmethod
    def _build(self, spaces: GoalSpaces) -> None:
        """Make the low and the high level; called once, when the spaces are known."""

    @abstractmethod
    def set_env(self, env: EnvLike, *, resume_episode: bool = False) -> None:
        """Learn in this environment from now on; its spaces must be those seen before."""

    @abstractmethod
    def diagnose(self) -> Diagnosis:
        """Why the agent reaches its goals or does not, and what to try."""

    # ------------------------------------------------------------------- clock

    @property
    def knows_clock(self) -> bool:
        """Whether :attr:`action_repeat` was set or measured."""
        return self.config.action_repeat > 0 or self._action_repeat is not None

    @property
    def action_repeat(self) -> int:
        """Environment steps for which an action is held while learning: one step of the agent.

        1 until it is known.
        """
        return self.config.action_repeat or self._action_repeat or 1

    def set_action_repeat(self, repeat: int) -> None:
        """Hold actions for this many environment steps from now on."""
        self._action_repeat = repeat
        self.tell_clock()

    def tell_clock(self) -> None:
        """Tell the high level for how long actions are held."""
        if self.high_level is not None:
            self.high_level.context.action_repeat = self.action_repeat

    # ------------------------------------------------------------ what counts as reached

    def _reached(self, achieved_goal: FloatArray, goal: FloatArray) -> BoolArray:
        """(n, goal_dim), (n, goal_dim) -> (n,) whether each goal counts as reached."""
        if self.env is not None:
            return self.env.reached(achieved_goal, goal)
        # An ellipsoid, as far as the environment counted along each axis when the agent was saved.
        assert self._tolerance is not None
        tolerance = np.maximum(self._tolerance, np.finfo(np.float32).tiny)
        result: BoolArray = np.square((achieved_goal - goal) / tolerance).sum(-1) <= 1.0
        return result

    def _success_tolerance(self, scales: InputScales | None = None) -> FloatArray | None:
        """(goal_dim,) as the environment says it, by default for the agent's own scales."""
        scales = scales or self.scales
        if self.env is None or scales is None:
            return self._tolerance
        farthest = 2.0 * scales.goal_scale
        try:
            return self.env.success_tolerance(scales.goal_shift, farthest)
        except Exception:
            # What was learned has to be saved all the same, where the environment is out of order.
            if self._tolerance is None:
                raise
            return self._tolerance

    def _wide_tolerance(self) -> FloatArray:
        """(goal_dim,) success tolerance, also along axes on which all that was seen is nearer."""
        if self.env is None:
            assert self._tolerance is not None
            return self._tolerance
        replay = self.replay_buffer
        rows = replay.newest_rows(replay.n_added)
        goal = replay.goal[rows[0]] if self.scales is None else self.scales.goal_shift
        farthest = np.abs(goal) + np.abs(replay.achieved_goal[rows]).max(0) + np.float32(1.0)
        return self.env.success_tolerance(goal, farthest)

    # -------------------------------------------------------------- replay buffer

    @property
    def replay_buffer(self) -> EpisodeReplay:
        """All experience, but for up to ``STORED_AT_ONCE`` steps while ``learn`` runs without
        callbacks (``flush()`` stores them). Raises RuntimeError before there is one.
        """
        if self.replay is None:
            raise RuntimeError(
                "there is no replay buffer yet: learn(env), set_env(env) or learn_offline(data) "
                "first"
            )
        return self.replay

    @property
    def moving_rows(self) -> MovingRows:
        """Where the achieved goal goes somewhere. Raises RuntimeError before there is a buffer."""
        replay = self.replay_buffer
        if self._moving is None or self._moving.replay is not replay:
            self._moving = MovingRows(replay, float(self._wide_tolerance().min()))
        return self._moving

    def _kept_buffer(self, n_envs: int) -> EpisodeReplay:
        """The experience that there is, spread over as many environments."""
        if self.replay is None:
            self.make_buffer(n_envs)
        replay, high_level = self.replay_buffer, self.high_level
        if replay.n_envs == n_envs:
            return replay
        # As large as it has to be. Raises ValueError where buffer_size is too small for so many.
        most = max(self.empty_buffer(n_envs).capacity, replay.capacity)
        replay.flush()
        if high_level is not None and high_level.context.transition_map is not None:
            # What is new to the map is looked for among the last rows.
            high_level.map(replay, replay.n_added)
        return spread(replay, n_envs, most)

    def empty_buffer(self, n_envs: int, capacity: int | None = None) -> EpisodeReplay:
        """A replay buffer for the agent's spaces, by default of the size that the config says."""
        spaces = self.spaces
        assert spaces is not None
        widths = spaces.obs_dim, spaces.goal_dim, spaces.action_dim
        return EpisodeReplay(capacity or self.config.buffer_size, *widths, n_envs)

    def make_buffer(self, n_envs: int) -> None:
        """Begin an empty replay buffer."""
        if self.high_level is not None:
            self.high_level.mapped = 0
        set_at_once(self, replay=self.empty_buffer(n_envs), trained_at=0, planned_at=0)


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
