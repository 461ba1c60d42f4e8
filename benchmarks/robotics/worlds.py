"""The worlds of the benchmark: how they are made, how long one learns there, and on which tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from benchmarks.installed import installed
from benchmarks.learning import FAR
from hierebm.evaluation import EvaluationResult, Policy, evaluate

LANES = 4
"""Environments that a policy is tried in side by side."""


@dataclass(frozen=True)
class World:
    """A goal environment, and what is asked of agents there.

    Attributes:
        name: in tables and pictures.
        env_id: registered id.
        limit: environment steps of an episode.
        steps: environment steps that an agent learns for.
        discount: of Stable-Baselines3's agents, by how far goals are.
        needs: the library that it comes from, if it is not this package.
        kwargs: of the environment, for learning and evaluation.
        eval_kwargs: of the environment, for evaluation only.
        n_tasks: how many numbered tasks evaluation goes through in turn; 0: tasks are drawn.
        episodes: how they end, for the table.
    """

    name: str
    env_id: str
    limit: int
    steps: int
    discount: float
    needs: str | None
    kwargs: tuple[tuple[str, Any], ...] = ()
    eval_kwargs: tuple[tuple[str, Any], ...] = ()
    n_tasks: int = 0
    episodes: str = "end at the goal"

    @property
    def is_there(self) -> bool:
        """Whether the library that it needs is installed."""
        return self.needs is None or installed(self.needs)

    def make(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """One environment to learn in."""
        import hierebm  # noqa: F401 - registers ids

        if self.needs == "gymnasium_robotics":
            import gymnasium_robotics

            gym.register_envs(gymnasium_robotics)
        own_limit = self.env_id == "PointMassGoal-v0"
        limit = "time_limit" if own_limit else "max_episode_steps"
        settings: dict[str, Any] = {limit: self.limit, **dict(self.kwargs), **kwargs}
        return gym.make(self.env_id, **settings)

    def lanes(self) -> VectorEnv[Any, Any, Any]:
        """Environments to evaluate in; their tasks may differ from those that one learns from."""
        kwargs = dict(self.eval_kwargs)
        return SyncVectorEnv(
            [lambda: self.make(**kwargs)] * LANES, autoreset_mode=AutoresetMode.DISABLED
        )

    def evaluate(
        self, policy: Policy, lanes: VectorEnv[Any, Any, Any], tasks: int, seed: int
    ) -> EvaluationResult:
        """The policy on tasks that nobody learned from, the same for everybody.

        Args:
            policy: with Stable-Baselines3's ``predict``.
            lanes: of :meth:`lanes`.
            tasks: how many; numbered tasks share them equally.
            seed: of the tasks.
        """
        if not self.n_tasks:
            return evaluate(policy, lanes, tasks, seed=seed)
        each = tasks // self.n_tasks
        return EvaluationResult.from_episodes(
            [
                episode
                for task in range(1, self.n_tasks + 1)
                for episode in evaluate(
                    policy, lanes, each, seed=1000 * seed + task, options={"task_id": task}
                ).episodes
            ]
        )


def _point_maze(size: str, limit: int, steps: int) -> World:
    return World(
        f"PointMaze {size}", f"PointMaze_{size}-v3", limit, steps, 0.98, "gymnasium_robotics",
        (("continuing_task", False),),
        episodes="end at the goal (continuing_task=False); any free cell is start or goal",
    )  # fmt: skip


def _ogbench(maze: str, steps: int) -> World:
    return World(
        f"OGBench point {maze}", f"OGBenchPointMaze-{maze}-v0", 1000, steps, 0.98, "ogbench",
        n_tasks=5, episodes="end at the goal; OGBench's five tasks",
    )  # fmt: skip


# Time limits are those of the registered ids; budgets are a few times what the first of the methods
# takes to succeed.
WORLDS = (
    _point_maze("UMaze", 300, 20_000),
    _point_maze("Medium", 600, 40_000),
    _point_maze("Large", 800, 50_000),
    _ogbench("medium", 40_000),
    _ogbench("large", 60_000),
    _ogbench("giant", 80_000),
    World("FetchReach", "FetchReach-v4", 50, 6_000, 0.95, "gymnasium_robotics",
          episodes="go on at the goal"),
    World("four_rooms", "PointMassGoal-v0", 150, 20_000, 0.95, None,
          (("layout", "four_rooms"),), (("distance", FAR),),
          episodes="end at the goal; far tasks in evaluation"),
)  # fmt: skip
