"""PointMassGoal-v0: steer a point with mass to a goal on a plane, around walls if there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt

from hierebm.envs.dynamics import advance
from hierebm.envs.layouts import Layout
from hierebm.envs.world import Observation, PointMassWorld, checked_actions

if TYPE_CHECKING:
    from hierebm.envs.rendering import Renderer


_MOVES = np.ones(1, np.bool_)


class PointMassGoalEnv(PointMassWorld, gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """A point that accelerates and brakes, with a goal to reach.

    Action: acceleration (2,) in [-1, 1]. Velocity: v' = 0.8 v + 0.04 a, so at most 0.2 world units
    per axis and step. Position: p' = p + v'; walls stop the component that runs into them.
    Observation: "observation" (4,) = [x, y, vx, vy], "achieved_goal" (2,) = [x, y] and
    "desired_goal" (2,), float32, in world units.
    Reward: -1, or 0 when the goal is reached (at most 0.3 away); "dense": minus the distance.
    An episode terminates at the goal and truncates after ``time_limit`` steps.

    ``reset(options=...)`` takes "start" (x, y), "goal" (x, y) and "distance" (low, high), a range
    of the shortest-path distance between the two in world units. What is left out is drawn at
    random: uniform over free space, or over all pairs in the range.

    A world may leave things to chance: actions slip, and teleporters have several exits. All draws
    come from ``np_random``.

    Args:
        layout: "open" (the plane [-2, 2]^2), "u", "four_rooms", "spiral", "serpentine", "large",
            "one_way", "ice", "islands", "shortcut", or rows of text, top row first ("#" wall, "."
            or " " free, cells of side 0.5; doors, slippery ground, teleporters: ``envs/tiles.py``).
        scale: enlarges the layout (int >= 1) at the same step size and success radius.
        slip: probability, from 0 to below 1, that the action of a step is replaced by a uniformly
            random one: on the slippery ground of the layout, everywhere where it has none.
        reward_type: "sparse" or "dense".
        continuing_task: do not terminate at the goal.
        time_limit: steps until truncation; None: 100 on the open plane, more on mazes (see
            ``time_limit``). The ``max_episode_steps`` of ``gymnasium.make`` adds a limit of its
            own on top, which can shorten an episode but not lengthen it.
        start, goal, distance: defaults for the reset options of the same names.
        render_mode: None, "rgb_array" or "human" (both need pygame).

    Raises:
        TypeError, ValueError: an argument or a reset option that makes no sense, by name.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["human", "rgb_array"],
        "render_fps": 30,
    }

    def __init__(
        self,
        layout: str | Sequence[str] | Layout = "open",
        *,
        scale: int = 1,
        slip: float = 0.0,
        reward_type: str = "sparse",
        continuing_task: bool = False,
        time_limit: int | None = None,
        start: Sequence[float] | None = None,
        goal: Sequence[float] | None = None,
        distance: tuple[float, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode={render_mode!r} is unknown: use None, 'rgb_array' or 'human'."
            )
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
        self.observation_space, self.action_space = self._build_spaces()
        self.render_mode = render_mode
        self._position = np.zeros((1, 2), dtype=np.float32)
        self._velocity = np.zeros((1, 2), dtype=np.float32)
        self._goal = np.zeros(2, dtype=np.float32)
        self._steps: int | None = None
        self._trail: list[tuple[float, float]] = []
        self._renderer: Renderer | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see the class for ``options``.

        Returns:
            Observation and info with "is_success" and "success".
        """
        super().reset(seed=seed)
        wanted = self._default_task
        if options:
            wanted = self._sampler.task_range(options, default=wanted)
        task = self._sampler.sample(self.np_random, wanted)
        self._position = np.array([task[:2]], dtype=np.float32)
        self._velocity = np.zeros((1, 2), dtype=np.float32)
        self._goal = np.array(task[2:], dtype=np.float32)
        self._steps = 0
        self._trail = []
        _, reached = self._reward_and_reached(self._position, self._goal)
        self._after_move()
        return self._observation(), _info(bool(reached[0]))

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply an acceleration (2,) for one step; values beyond [-1, 1] are clipped."""
        if self._steps is None:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        actions = checked_actions(action, (2,))[None]
        if self.luck.acts:
            actions = self.luck.slipped(self._position, actions, self._random, _MOVES)
        self._position, self._velocity = advance(
            self._position, self._velocity, actions, self.layout
        )
        if self.luck.acts:
            self.luck.teleport(self._position, self._velocity, self._random, _MOVES)
        self._steps += 1
        rewards, reached = self._reward_and_reached(self._position, self._goal)
        success = bool(reached[0])
        terminated = success and not self.continuing_task
        truncated = self._steps >= self.time_limit
        self._after_move()
        return self._observation(), float(rewards[0]), terminated, truncated, _info(success)

    def _random(self, index: int) -> np.random.Generator:
        return self.np_random

    def _observation(self) -> Observation:
        position = self._position[0]
        return {
            "observation": np.concatenate([position, self._velocity[0]]),
            "achieved_goal": position.copy(),
            "desired_goal": self._goal.copy(),
        }

    def _after_move(self) -> None:
        if self.render_mode is not None:
            self._trail.append((float(self._position[0, 0]), float(self._position[0, 1])))
            if self.render_mode == "human":
                self.render()

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Draw the world: (H, W, 3) uint8 in "rgb_array" mode; a window in "human" mode.

        Raises:
            gymnasium.error.DependencyNotInstalled: pygame is missing.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                "render() was called without a render_mode: pass render_mode='rgb_array' or "
                "'human' when the environment is made."
            )
            return None
        if self._steps is None:
            raise gymnasium.error.ResetNeeded("call reset() before render().")
        renderer = self._drawn_by()
        scene = {
            "trail": self._trail,
            "velocity": self._velocity[0],
            "goal": self._goal,
            "subgoals": self.subgoals,
        }
        if self.render_mode == "human":
            renderer.show(fps=self.metadata["render_fps"], **scene)
            return None
        return renderer.draw(**scene)

    @property
    def frame_extent(self) -> tuple[float, float, float, float]:
        """What ``render`` shows of the plane: (x_min, x_max, y_min, y_max).

        Raises:
            gymnasium.error.DependencyNotInstalled: pygame is missing.
        """
        return self._drawn_by().extent

    def _drawn_by(self) -> Renderer:
        if self._renderer is None:
            from hierebm.envs.rendering import Renderer

            self._renderer = Renderer(self.layout, self.success_radius)
        return self._renderer

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _info(success: bool) -> dict[str, Any]:
    # Both names are in use: the first in gymnasium-robotics' Fetch, the second in its mazes.
    return {"is_success": success, "success": success}
