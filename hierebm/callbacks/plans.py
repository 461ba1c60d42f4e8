"""A callback that draws what the agent plans while it learns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from hierebm.callbacks.base import BaseCallback
from hierebm.checkpoint.state import single_env_kwargs
from hierebm.goal_env.vec_env import as_gymnasium


class PlanFigureCallback(BaseCallback):
    """Draw the plans of a few fixed tasks every ``freq`` env steps, as images for TensorBoard.

    For every task ``plan/path_I`` shows the subgoal graph with its shortest path and
    ``plan/energy_I`` the energy between state and goal, where the agent offers one; none is drawn
    before the agent can plan. At the end comes ``rollout/success_over_time``, the success rate
    beside the reached rate, where that is another one.

    Args:
        freq: env steps between two pictures.
        n_plans: number of tasks.
        env: where the tasks come from, an id or an env; None makes a copy of the training env.
        seed: of the tasks.
        options: given to ``env.reset``, e.g. ``{"distance": (4.0, 8.0)}``.
    """

    def __init__(
        self,
        freq: int = 5000,
        n_plans: int = 2,
        env: str | gym.Env | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.freq, self.n_plans, self.env, self.seed = freq, n_plans, env, seed
        self.options = options
        self.observations: list[Any] = []
        self.world: Any = None
        self._last = 0
        self._drawn_at: int | None = None
        self._failed = False
        self._not_ready: RuntimeError | None = None
        # Env steps -> success rate and reached rate.
        self._rates: dict[int, tuple[float, float]] = {}

    def _on_training_start(self) -> None:
        from hierebm.plotting.world import World

        if self.env is None and as_gymnasium(self.model.get_env()).spec is None:
            raise ValueError("the training env has no spec to copy it by; pass env=")
        try:
            made = self._tasks_env()
        # Gymnasium cannot make every wrapper again, and a picture is not worth a training run.
        except Exception as error:
            if self.env is not None:
                raise
            warnings.warn(
                f"plans are not drawn: the training env cannot be copied ({error}); pass "
                "PlanFigureCallback(env=...) as a callback",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        try:
            self.world = World.of(made)
        except ValueError as error:
            self.world = World()
            warnings.warn(f"walls are not drawn: {error}", RuntimeWarning, stacklevel=2)
        options = None if self.options is None else dict(self.options)
        self.observations = [
            made.reset(seed=self.seed + i, options=options)[0] for i in range(self.n_plans)
        ]
        if made is not self.env:
            made.close()
        self._last = self.num_timesteps

    def _tasks_env(self) -> gym.Env:
        """The env given or made by the id given, else one like those that the agent learns in."""
        if isinstance(self.env, gym.Env):
            return self.env
        if self.env is not None:
            return gym.make(self.env)
        training = as_gymnasium(self.model.get_env())
        spec = training.spec
        if isinstance(training, VectorEnv):
            return gym.make(spec.id, **single_env_kwargs(spec))
        return gym.make(spec, **({"render_mode": None} if "render_mode" in spec.kwargs else {}))

    def _on_step(self) -> bool:
        if self.num_timesteps - self._last >= self.freq:
            self._last = self.num_timesteps
            self._draw()
        return True

    def _on_training_end(self) -> None:
        from hierebm.plotting.curves import plot_success, success_curves

        # One that was drawn in the last step is still to be written.
        if self._drawn_at != self.num_timesteps:
            self._draw()
        self._on_rollout_start()
        if self._rates:
            figure = plot_success(success_curves(self._rates))
            self.logger.record_figure("rollout/success_over_time", figure)
        if self._drawn_at is not None or self._rates:
            self.logger.dump(self.num_timesteps)
        if self._drawn_at is None and self._not_ready is not None:
            self.logger.log(f"No plan was drawn: {self._not_ready}")

    def _on_rollout_start(self) -> None:
        latest = self.logger.latest
        if (success := latest.get("rollout/success_rate")) is None:
            return
        rates = success, latest.get("rollout/reached_rate", success)
        if rates != next(reversed(self._rates.values()), None):
            self._rates[self.num_timesteps] = rates

    def _draw(self) -> None:
        from hierebm.plotting.plots import plan_figures

        try:
            for i, observation in enumerate(self.observations):
                for name, figure in plan_figures(self.model, observation, self.world).items():
                    self.logger.record_figure(f"plan/{name}_{i}", figure)
                    self._drawn_at = self.num_timesteps
        except RuntimeError as error:
            # The agent has not learned enough to plan yet.
            self._not_ready = error
        # A picture is not worth a training run.
        except Exception as error:
            if not self._failed:
                warnings.warn(f"plans are not drawn: {error!r}", RuntimeWarning, stacklevel=2)
            self._failed = True
