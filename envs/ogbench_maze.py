"""OGBench's mazes (Park et al. 2025, arXiv 2410.20092) as goal environments."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Observation = dict[str, npt.NDArray[np.float32]]

# An agent this near to an entrance is moved, in radii of the teleporter; as OGBench codes it.
_TELEPORT_RADII = 1.5


class OGBenchMazeEnv(gymnasium.Env[Observation, npt.NDArray[np.float32]], gymnasium.utils.EzPickle):
    """A point or an ant in one of OGBench's mazes, steered to the goals of its five tasks.

    Dynamics, mazes, tasks, the noise on starts and goals, and the success tolerance (1.0 for
    points, 0.5 for ants) are OGBench's. Observation: "observation" is OGBench's state, (2,) for
    points and (29,) for ants; "achieved_goal" and "desired_goal" (2,) are positions; float32.
    Reward: 0 at the goal, else -1. An episode terminates at the goal; the registered ids truncate
    after 1000 steps.

    ``reset(options={"task_id": k})`` begins task k, 1 to 5; without it one of them is drawn. All
    randomness comes from ``np_random``, where OGBench takes tasks, noise and teleports from NumPy's
    global state.

    Args:
        maze: "medium", "large", "giant" or "teleport", where a random exit follows each entrance.
        agent: "point" or "ant".
        render_mode: None or "rgb_array".

    Raises:
        gymnasium.error.DependencyNotInstalled: ogbench is missing.
        ValueError: an unknown maze, agent, render mode, reset option or task, by name.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 10,
    }
    mazes = ("medium", "large", "giant", "teleport")
    agents = ("point", "ant")

    def __init__(
        self, maze: str = "medium", *, agent: str = "point", render_mode: str | None = None
    ) -> None:
        gymnasium.utils.EzPickle.__init__(self, maze, agent=agent, render_mode=render_mode)
        for name, value, known in (
            ("maze", maze, self.mazes),
            ("agent", agent, self.agents),
            ("render_mode", render_mode, (None, *self.metadata["render_modes"])),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: use one of {known}.")
        try:
            from ogbench.locomaze.maze import make_maze_env
        except ImportError as error:
            raise gymnasium.error.DependencyNotInstalled(
                f'OGBench\'s mazes need ogbench: run `pip install "hierebm[ogbench]"` ({error}).'
            ) from error
        self.render_mode = render_mode
        self._maze = make_maze_env(agent, "maze", maze_type=maze)
        # What OGBench draws from NumPy's global state is drawn here.
        self._maze.add_noise = self._add_noise
        self._teleport, self._maze._teleport_info = self._maze._teleport_info, None
        self.action_space = self._maze.action_space
        position = self._position_space()
        state = self._maze.observation_space
        observation_space: Any = spaces.Dict(
            observation=position
            if agent == "point"
            else spaces.Box(-np.inf, np.inf, state.shape, np.float32),
            achieved_goal=position,
            desired_goal=position,
        )
        self.observation_space = observation_space
        self._goal = np.zeros(2, np.float32)

    def _position_space(self) -> spaces.Box:
        """The maze with its outer walls."""
        low, high = (np.array(corner, np.float32) for corner in self._corners())
        return spaces.Box(low, high, dtype=np.float32)

    def _corners(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(x, y) of the lowest and of the highest corner."""
        rows, columns = self._maze.maze_map.shape
        (x_min, y_min), (x_max, y_max) = (
            self._maze.ij_to_xy(ij) for ij in ((-0.5, -0.5), (rows - 0.5, columns - 0.5))
        )
        return (float(x_min), float(y_min)), (float(x_max), float(y_max))

    @property
    def wall_map(self) -> tuple[npt.NDArray[np.bool_], tuple[float, float, float, float]]:
        """What pictures show of the walls: (H, W) bool, row 0 at the lowest y, and its extent
        (x_min, x_max, y_min, y_max)."""
        low, high = self._corners()
        return self._maze.maze_map == 1, (low[0], high[0], low[1], high[1])

    @property
    def success_tolerance(self) -> float:
        """A goal is reached within this distance (OGBench's units; a cell has side 4)."""
        return float(self._maze._goal_tol)

    @property
    def n_tasks(self) -> int:
        """Number of OGBench's tasks in this maze."""
        return int(self._maze.num_tasks)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see the class for ``options``.

        Returns:
            Observation and info with "is_success", "success" and "task_id".
        """
        super().reset(seed=seed)
        task = self._task(options or {})
        # One stream of random numbers: start velocities are drawn from it, too.
        self._maze.np_random = self.np_random
        state, _ = self._maze.reset(options={"task_id": task})
        self._goal = np.asarray(self._maze.cur_goal_xy, np.float32)
        observation = self._observation(state)
        return observation, {**self._info(observation), "task_id": task}

    def _task(self, options: dict[str, Any]) -> int:
        unknown = sorted(set(options) - {"task_id"})
        if unknown:
            raise ValueError(f"options has the unknown key {unknown[0]!r}; known: 'task_id'.")
        task = options.get("task_id")
        if task is None:
            return int(self.np_random.integers(1, self.n_tasks + 1))
        if task not in range(1, self.n_tasks + 1):
            raise ValueError(f"options['task_id'] must be 1 to {self.n_tasks}, got {task!r}.")
        return int(task)

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take an action of OGBench's action space."""
        state, *_ = self._maze.step(action)
        # The observation is that before a teleport, as in OGBench.
        self._enter_teleporter()
        observation = self._observation(state)
        info = self._info(observation)
        success = info["success"]
        return observation, float(success) - 1.0, success, False, info

    def _enter_teleporter(self) -> None:
        if self._teleport is None:
            return
        within = _TELEPORT_RADII * self._teleport["teleport_radius"]
        position = self._maze.get_xy()
        if any(
            np.linalg.norm(position - np.array(entrance)) <= within
            for entrance in self._teleport["teleport_in_xys"]
        ):
            exits = self._teleport["teleport_out_xys"]
            self._maze.set_xy(np.array(exits[int(self.np_random.integers(len(exits)))]))

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any = None
    ) -> Any:
        """Reward for having achieved one goal when another was desired.

        Args:
            achieved_goal, desired_goal: (..., 2) positions.
            info: not looked at.

        Returns:
            (...) float64: 0 within the success tolerance, else -1; a float for single goals.
        """
        offset = np.asarray(achieved_goal, np.float64) - np.asarray(desired_goal, np.float64)
        far = np.linalg.norm(offset, axis=-1) > self.success_tolerance
        return -far.astype(np.float64) if far.ndim else -float(far)

    def _observation(self, state: npt.NDArray[np.float64]) -> Observation:
        observation = state.astype(np.float32)
        return {
            "observation": observation,
            "achieved_goal": observation[:2].copy(),
            "desired_goal": self._goal.copy(),
        }

    def _info(self, observation: Observation) -> dict[str, Any]:
        reward = self.compute_reward(observation["achieved_goal"], observation["desired_goal"])
        return {"is_success": reward == 0.0, "success": reward == 0.0}

    def _add_noise(self, xy: tuple[float, float]) -> tuple[float, float]:
        """A point at most OGBench's noise away from ``xy`` along each axis, uniformly drawn."""
        span = self._maze._noise * self._maze._maze_unit / 4
        x, y = (np.asarray(xy) + self.np_random.uniform(-span, span, 2)).tolist()
        return x, y

    def render(self) -> npt.NDArray[np.uint8] | None:
        """The maze from above, (H, W, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn(
                "render() was called without a render_mode: pass render_mode='rgb_array' when the "
                "environment is made."
            )
            return None
        image: npt.NDArray[np.uint8] = self._maze.render()
        return image

    def close(self) -> None:
        """Close OGBench's environment."""
        # An environment that is refused has none.
        if hasattr(self, "_maze"):
            # It leaves its renderer open, which MuJoCo complains of when Python ends.
            renderer, self._maze.custom_renderer = self._maze.custom_renderer, None
            if renderer is not None:
                renderer.close()
            self._maze.close()
