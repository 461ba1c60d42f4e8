"""Many point-mass worlds at once, in NumPy: row by row the same as the single environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hierebm.envs.dynamics import advance
from hierebm.envs.layouts import Layout
from hierebm.envs.tasks import TaskRange
from hierebm.envs.world import Observation, PointMassWorld, checked_actions
from hierebm.types import BoolArray, Float64Array

if TYPE_CHECKING:
    from hierebm.envs.rendering import Renderer

Step = tuple[Observation, Float64Array, BoolArray, BoolArray, dict[str, Any]]


class PointMassGoalVectorEnv(
    PointMassWorld, VectorEnv[Observation, npt.NDArray[np.float32], npt.NDArray[Any]]
):
    """``num_envs`` independent ``PointMassGoalEnv`` in one set of arrays.

    Observations, rewards, flags and infos are those of Gymnasium's ``SyncVectorEnv`` over single
    environments with the same seeds, bit for bit: each sub-environment has its own stream of
    random numbers. It truncates and resets by itself.

    Args:
        num_envs: number of sub-environments.
        layout, scale, slip, reward_type, continuing_task, time_limit, start, goal, distance: as in
            ``PointMassGoalEnv``.
        max_episode_steps: what ``gymnasium.make_vec`` passes on. Like the wrapper that
            ``gymnasium.make`` adds, it can shorten an episode but not lengthen it (use
            ``time_limit`` for that).
        autoreset_mode: NEXT_STEP (the call after an episode's end resets and ignores the action),
            SAME_STEP (the last observation and info go to ``final_obs`` and ``final_info``) or
            DISABLED (``reset(options={"reset_mask": mask})``); the enum or its string value.
        render_mode: None or "rgb_array".

    Raises:
        TypeError, ValueError: an argument or a reset option that makes no sense, by name.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - each instance replaces it by its own
        "render_modes": ["rgb_array"],
        "render_fps": 30,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        layout: str | Sequence[str] | Layout = "open",
        *,
        scale: int = 1,
        slip: float = 0.0,
        reward_type: str = "sparse",
        continuing_task: bool = False,
        time_limit: int | None = None,
        max_episode_steps: int | None = None,
        start: Sequence[float] | None = None,
        goal: Sequence[float] | None = None,
        distance: tuple[float, float] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(
                f"render_mode={render_mode!r} is unknown: a vector environment takes None or "
                f"'rgb_array'."
            )
        self.num_envs = int(num_envs)
        self.render_mode = render_mode
        self._autoreset = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._autoreset}
        self._build_world(
            layout=layout,
            scale=scale,
            slip=slip,
            reward_type=reward_type,
            continuing_task=continuing_task,
            time_limit=time_limit,
            start=start,
            goal=goal,
            distance=distance,
        )
        self._shorten_time_limit(max_episode_steps)
        self.single_observation_space, self.single_action_space = self._build_spaces()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds: list[int] = [-1] * self.num_envs
        # All x before all y, as `advance` likes it.
        self._position, self._velocity, self._goal = (
            np.zeros((self.num_envs, 2), dtype=np.float32, order="F") for _ in range(3)
        )
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._everyone = np.ones(self.num_envs, dtype=np.bool_)
        self._started = False
        self._trails: list[list[tuple[float, float]]] = [[] for _ in range(self.num_envs)]
        self._renderer: Renderer | None = None

    def _shorten_time_limit(self, max_episode_steps: int | None) -> None:
        if max_episode_steps is None or max_episode_steps == -1:
            return
        if max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be positive, got {max_episode_steps}.")
        if max_episode_steps > self.time_limit:
            gymnasium.logger.warn(
                f"max_episode_steps={max_episode_steps} is beyond the environment's own limit of "
                f"{self.time_limit} steps and has no effect: pass time_limit to lengthen episodes."
            )
        self._time_limit = min(int(max_episode_steps), self.time_limit)

    # -- random numbers ---------------------------------------------------------------------

    def _rng(self, index: int) -> np.random.Generator:
        rng = self._rngs[index]
        if rng is None:
            rng, self._seeds[index] = seeding.np_random()
            self._rngs[index] = rng
        return rng

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random number generator of every sub-environment."""
        return tuple(self._rng(index) for index in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of every sub-environment's generator."""
        for index in range(self.num_envs):
            self._rng(index)
        return tuple(self._seeds)

    def _seed_all(self, seed: int | Sequence[int | None] | None, mask: BoolArray) -> None:
        if seed is None:
            return
        if isinstance(seed, (int, np.integer)):
            seeds: list[int | None] = [int(seed) + index for index in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries for {self.num_envs} environments.")
        for index, own in enumerate(seeds):
            if own is not None and mask[index]:
                self._rngs[index], self._seeds[index] = seeding.np_random(own)

    # -- episodes ---------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start episodes in all sub-environments, or in those of ``options["reset_mask"]``.

        Args:
            seed: one int (sub-environment i takes seed + i), one per sub-environment, or None.
            options: those of the single environment, applied to each; "start" and "goal" may
                also be (num_envs, 2), one row each. "reset_mask": (num_envs,) bool array.

        Returns:
            Observations of all sub-environments, and infos of those that were reset.
        """
        options = dict(options or {})
        mask = self._checked_mask(options.pop("reset_mask", None))
        indices = np.flatnonzero(mask)
        wanted = self._sampler.task_ranges(
            options, indices.tolist(), self.num_envs, default=self._default_task
        )
        self._seed_all(seed, mask)
        self._begin(indices, wanted)
        self._started = True
        _, reached = self._reward_and_reached(self._position, self._goal)
        return self._observation(), _info(reached & mask, mask)

    def _checked_mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError("options['reset_mask'] must be a NumPy array of bool.")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and at least one True, "
                f"got shape {mask.shape} with {int(mask.sum())} True."
            )
        if not self._started and not mask.all():
            raise gymnasium.error.ResetNeeded("the first reset() must reset every environment.")
        return mask

    def _begin(self, indices: npt.NDArray[np.intp], wanted: Sequence[TaskRange]) -> None:
        tasks = np.array(
            [
                self._sampler.sample(self._rng(index), one)
                for index, one in zip(indices.tolist(), wanted, strict=True)
            ],
            dtype=np.float32,
        )
        self._position[indices] = tasks[:, :2]
        self._velocity[indices] = 0.0
        self._goal[indices] = tasks[:, 2:]
        self._steps[indices] = 0
        self._ended[indices] = False
        if self.render_mode is not None:
            for index in indices.tolist():
                self._trails[index] = [_as_point(self._position[index])]

    def step(self, actions: npt.NDArray[np.float32]) -> Step:
        """Apply accelerations (num_envs, 2) for one step.

        Returns:
            Observations (num_envs, ...), rewards (num_envs,) float64, terminations and truncations
            (num_envs,) bool, and infos: "is_success" and "success" with their masks.

        Raises:
            ValueError: actions of another shape or not finite.
            gymnasium.error.ResetNeeded: before the first reset, or (DISABLED) an episode is over.
        """
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        actions = checked_actions(actions, (self.num_envs, 2))
        to_reset = np.flatnonzero(self._ended) if np.count_nonzero(self._ended) else None
        if to_reset is not None and self._autoreset is AutoresetMode.DISABLED:
            raise gymnasium.error.ResetNeeded(
                f"episodes {to_reset.tolist()} are over: reset them with "
                "options={'reset_mask': mask}."
            )
        # A step that only resets draws nothing.
        moves = ~self._ended if self.luck.acts else self._everyone
        if self.luck.acts:
            actions = self.luck.slipped(self._position, actions, self._rng, moves)
        self._position, self._velocity = advance(
            self._position, self._velocity, actions, self.layout
        )
        if self.luck.acts:
            self.luck.teleport(self._position, self._velocity, self._rng, moves)
        self._steps += 1
        if to_reset is not None:
            self._begin(to_reset, [self._default_task] * len(to_reset))
        if self.render_mode is not None:
            self._extend_trails(to_reset)

        rewards, reached = self._reward_and_reached(self._position, self._goal)
        if self.continuing_task:
            terminated = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            terminated = reached.copy()
        truncated = self._steps >= self.time_limit
        if to_reset is not None:
            rewards[to_reset] = 0.0
            terminated[to_reset] = truncated[to_reset] = False
        ended = terminated | truncated
        if self._autoreset is AutoresetMode.SAME_STEP and np.count_nonzero(ended):
            infos = self._reset_ended(np.flatnonzero(ended), reached)
        else:
            self._ended = ended
            infos = _info(reached, self._everyone)
        return self._observation(), rewards, terminated, truncated, infos

    def _reset_ended(self, indices: npt.NDArray[np.intp], reached: BoolArray) -> dict[str, Any]:
        """Reset within the step (SAME_STEP); returns the infos with what was there before."""
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[indices] = True
        final_obs = np.full(self.num_envs, None, dtype=object)
        last = self._observation()
        for index in indices.tolist():
            final_obs[index] = {key: value[index].copy() for key, value in last.items()}
        final_info = _info(reached & mask, mask)
        self._begin(indices, [self._default_task] * len(indices))
        _, reached = self._reward_and_reached(self._position, self._goal)
        return {
            "final_obs": final_obs,
            "_final_obs": mask.copy(),
            "final_info": final_info,
            "_final_info": mask.copy(),
            **_info(reached, self._everyone),
        }

    def _observation(self) -> Observation:
        state = np.empty((self.num_envs, 4), dtype=np.float32)
        state[:, :2] = self._position
        state[:, 2:] = self._velocity
        return {
            "observation": state,
            "achieved_goal": self._position.copy(),
            "desired_goal": self._goal.copy(),
        }

    # -- access to the sub-environments -----------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method, or read an attribute, once for every sub-environment."""
        value = getattr(self, name)
        if not callable(value):
            return (value,) * self.num_envs
        return tuple(value(*args, **kwargs) for _ in range(self.num_envs))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute as every sub-environment has it."""
        return (getattr(self, name),) * self.num_envs

    # -- pictures ---------------------------------------------------------------------------

    def _extend_trails(self, just_reset: npt.NDArray[np.intp] | None) -> None:
        skip = set() if just_reset is None else set(just_reset.tolist())
        for index, trail in enumerate(self._trails):
            if index not in skip:
                trail.append(_as_point(self._position[index]))

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:
        """One frame (H, W, 3) uint8 for every sub-environment.

        Raises:
            gymnasium.error.DependencyNotInstalled: pygame is missing.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                "render() was called without a render_mode: pass render_mode='rgb_array'."
            )
            return None
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before render().")
        if self._renderer is None:
            from hierebm.envs.rendering import Renderer

            self._renderer = Renderer(self.layout, self.success_radius)
        return tuple(
            self._renderer.draw(
                trail=self._trails[index], velocity=self._velocity[index], goal=self._goal[index]
            )
            for index in range(self.num_envs)
        )


def _info(success: BoolArray, mask: BoolArray) -> dict[str, Any]:
    return {
        "is_success": success.copy(),
        "_is_success": mask.copy(),
        "success": success.copy(),
        "_success": mask.copy(),
    }


def _as_point(position: npt.NDArray[np.float32]) -> tuple[float, float]:
    return float(position[0]), float(position[1])
