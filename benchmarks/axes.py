"""A goal of six axes with walls on the way: what the transition map is worth there.

The agent with its transition map, and the same agent without any (``unverified_cost=1``: every edge
is believed), on the same far tasks.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from benchmarks.trials import Job, folder_of, named, rows_of
from hierebm.types import BoolArray, FloatArray

STEPS, QUICK_STEPS, TASKS, QUICK_TASKS = 8000, 1500, 100, 10
FIRST_TASK = 1000
"""Seed of the first task."""
STEP, TOLERANCE, LIMIT = 0.1, 0.25, 250
WALLS, HALF_THICKNESS, DOOR = (-1.5, 0.0, 1.5), 0.2, 0.5
"""Where the first axis is walled off, half as thick as a wall, and where doors begin along the
second axis: by turns at its upper and its lower end."""
WITH, WITHOUT = "with the map", "without"


class Corridors(gym.Env[dict[str, Any], np.ndarray]):
    """A point in [-3, 3] x [-1, 1]^5 that each action moves along one axis, behind three walls.

    Episodes start before the first wall. Goals are anywhere.

    Args:
        far: goals lie at least two walls away.
    """

    def __init__(self, far: bool = False) -> None:
        self.far = far
        self.half = np.array([3.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32)
        box = spaces.Box(-self.half, self.half)
        self.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
        self.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)

    def in_wall(self, point: FloatArray) -> bool:
        """Whether (6,) is inside a wall."""
        for number, wall in enumerate(WALLS):
            if abs(point[0] - wall) < HALF_THICKNESS:
                return bool((-point[1] if number % 2 else point[1]) <= DOOR)
        return False

    def _draw(self, low: float, high: float) -> FloatArray:
        while True:
            point: FloatArray = self.np_random.uniform(-self.half, self.half).astype(np.float32)
            point[0] = self.np_random.uniform(low, high)
            if not self.in_wall(point):
                return point

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See Gymnasium."""
        super().reset(seed=seed)
        self.point = self._draw(-3.0, WALLS[0] - HALF_THICKNESS)
        self.goal = self._draw(WALLS[1] + HALF_THICKNESS if self.far else -3.0, 3.0)
        self.t = 0
        return self._observe(), {}

    def _observe(self) -> dict[str, Any]:
        point = self.point.copy()
        return {"observation": point, "achieved_goal": point, "desired_goal": self.goal.copy()}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """See Gymnasium. Walls are slid along."""
        free = self.point + STEP * np.clip(action, -1.0, 1.0)
        to = np.clip(free, -self.half, self.half).astype(np.float32)
        for stopped in ([], [0], [1], [0, 1]):
            end = to.copy()
            end[stopped] = self.point[stopped]
            if not self.in_wall(end):
                break
        self.point, self.t = end, self.t + 1
        success = bool(self.compute_reward(end, self.goal, {}) == 0.0)
        info = {"is_success": success}
        return self._observe(), float(success) - 1.0, success, self.t >= LIMIT, info

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        """0 where the goal is reached, else -1; of one goal or a batch."""
        apart = np.linalg.norm(np.asarray(achieved) - np.asarray(desired), axis=-1)
        reached: BoolArray = apart <= TOLERANCE
        return reached - 1.0


def run(quick: bool, seeds: int | None, out: Path) -> list[dict[str, Any]]:
    """With and without the map, with every seed; one row a run."""
    steps, tasks = (QUICK_STEPS, QUICK_TASKS) if quick else (STEPS, TASKS)
    jobs: list[Job] = [
        (train, method, seed, steps, tasks)
        for seed in range(seeds or (1 if quick else 3))
        for method in (WITH, WITHOUT)
    ]
    done = rows_of(named(jobs), folder_of(out, "axes"))
    return [row for rows in done.values() for row in rows]


def train(method: str, seed: int, steps: int, tasks: int) -> list[dict[str, Any]]:
    """Train and measure one run."""
    import torch

    from hierebm import HierarchicalEBMAgent
    from hierebm.evaluation import evaluate

    torch.set_num_threads(1)
    settings: dict[str, Any] = {} if method == WITH else {"unverified_cost": 1.0}
    agent, started = HierarchicalEBMAgent(seed=seed, **settings), time.process_time()
    agent.learn(Corridors(), steps)
    seconds = time.process_time() - started
    result = evaluate(agent, Corridors(far=True), tasks, seed=FIRST_TASK)
    assert agent.high_level is not None
    known = agent.high_level.context.transition_map
    row = {
        "method": method,
        "seed": seed,
        "env_steps": agent.num_timesteps,
        "cpu_s": round(seconds, 1),
        "success": result.success_rate,
        "steps": round(float(np.mean([episode.length for episode in result.episodes])), 1),
        "landmarks": None if known is None else len(known.landmarks),
    }
    return [row]
