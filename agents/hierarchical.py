"""HierarchicalEBMAgent: energy-based subgoals, a graph over them, a low level to chase them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hierebm.agents.ddpg_her import DDPGHERAgent
from hierebm.agents.hierarchical_config import HierarchicalEBMConfig
from hierebm.callbacks import BaseCallback, MaybeCallback, PlanFigureCallback
from hierebm.goal_env.adapter import GoalEnv, GoalSpaces, StepResult
from hierebm.goal_env.spaces import KEYS
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.planning.high_level import HighLevel
from hierebm.planning.samplers import EBMSampler, SubgoalSampler
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray, GoalObservation

__all__ = ["HierarchicalEBMAgent", "HierarchicalEBMConfig"]


class HierarchicalEBMAgent(DDPGHERAgent):
    """A distance-learning low level under a planner whose subgoals come from an energy.

    While it explores, the agent trains (1) actor and distance critics on relabelled transitions
    and (2) the energy E(w | s, g) on what its own trajectories, and shortest paths over its stored
    states, went through on the way from s to g. To act, it draws subgoals from the energy, joins
    them into a graph by the critics' distances, and chases the nodes of the shortest path. The
    arguments are those of :class:`~hierebm.agents.base.GoalAgent`.
    """

    config_class: ClassVar[type[Any]] = HierarchicalEBMConfig
    default_log_name: ClassVar[str] = "HierarchicalEBM"
    config: HierarchicalEBMConfig

    def _build(self, spaces: GoalSpaces) -> None:
        super()._build(spaces)
        self.high_level = HighLevel(
            spaces.goal_dim,
            self.config,
            self.low_level,
            self._reached,
            self.generator,
            self.device,
        )
        self._energy_trained_at = 0

    @property
    def planner_config(self) -> HierarchicalEBMConfig:
        """The settings with ``safe_edge`` as calibrated so far."""
        return self.high_level.calibrated(self.config)

    @property
    def sampler(self) -> SubgoalSampler | None:
        """Where the graph's subgoals come from."""
        return self.high_level.sampler

    @property
    def energy(self) -> BetweenEnergy | None:
        """E(w | s, g), where subgoals come from one."""
        return self.sampler.energy if isinstance(self.sampler, EBMSampler) else None

    @property
    def transition_map(self) -> TransitionMap | None:
        """What trajectories joined, where the planner asks for it."""
        return self.high_level.transition_map

    @property
    def edge_cutoff(self) -> EdgeCutoff | None:
        """How far a subgoal may be, where that is learnt."""
        return self.high_level.edge_cutoff

    def _attach(self, env: GoalEnv) -> None:
        super()._attach(env)
        self._energy_trained_at = min(self._energy_trained_at, self._stored)
        self.high_level.experienced = min(self.high_level.experienced, self._stored)
        if self._ready:
            self._make_planners()

    def _begin(self, env: GoalEnv) -> None:
        super()._begin(env)
        self._plans: list[Any] = [None] * env.n_envs
        self._direct = self.rng.random(env.n_envs) < self.config.direct_episodes

    def _make_planners(self) -> None:
        # Predicting has a planner of its own: it must not disturb what learning counts and logs.
        self.planner = self.high_level.make_planner(self.config, learning=True)
        self._predictor = self.high_level.make_planner(self.config, learning=False)
        self._share()

    def _share(self) -> None:
        """Give both planners the pool and the cutoff of now."""
        self.planner.pool = self._predictor.pool = self.high_level.pool
        self.planner.config = self._predictor.config = self.planner_config

    def _reached(self, achieved_goal: FloatArray, goal: FloatArray) -> NDArray[np.bool_]:
        if self.env is not None:
            return self.env.reached(achieved_goal, goal)
        # A loaded agent without environment: the ellipsoid that was measured when it was saved.
        success_tolerance = np.maximum(self._tolerance, np.finfo(np.float32).tiny)
        return np.square((achieved_goal - goal) / success_tolerance).sum(-1) <= 1.0

    # ------------------------------------------------------------------- learning

    def _own_callbacks(self, callback: MaybeCallback) -> list[BaseCallback]:
        """Plans and energies as images, where there is a log to put them into."""
        given = callback if isinstance(callback, (list, tuple)) else [callback]
        drawn = any(isinstance(entry, PlanFigureCallback) for entry in given)
        copyable = getattr(self.get_env(), "spec", None) is not None
        if self.tensorboard_log is None or drawn or not copyable:
            return []
        return [PlanFigureCallback()]

    def _chased_goal(self, observation: GoalObservation) -> FloatArray:
        if self.high_level.pool is None:
            return observation.desired_goal
        goals = observation.desired_goal.copy()
        for env in np.flatnonzero(~self._direct):
            plan = self._plans[env]
            if plan is None or not np.array_equal(plan.goal, observation.desired_goal[env]):
                plan = self.planner.begin(*_row(observation, int(env)), self.rng)
                self._plans[env] = plan
            goals[env] = plan.subgoal
        return goals

    def _act(self, observation: GoalObservation) -> FloatArray:
        action = super()._act(observation)
        random_walk = [
            plan is not None and getattr(plan, "random_walk", False) for plan in self._plans
        ]
        if any(random_walk):
            action[random_walk] = self._random_walk_action()[random_walk]
        return action

    def _store(self, before: GoalObservation, action: FloatArray, step: StepResult) -> None:
        super()._store(before, action, step)
        after = step.next_state
        for env in np.flatnonzero(step.valid):
            if step.ended[env]:
                self._plans[env] = None
                self._direct[env] = self.rng.random() < self.config.direct_episodes
            elif (plan := self._plans[env]) is not None:
                self._plans[env] = self.planner.step(
                    plan, after.observation[env], after.achieved_goal[env]
                )

    def _train(self) -> None:
        super()._train()
        due = self._stored - self._energy_trained_at >= self.config.energy_train_freq
        if due and self._stored >= self.config.learning_starts:
            assert self.env is not None
            self._energy_trained_at = self._stored
            self.high_level.learn(
                self.config,
                self.replay_buffer,
                self._stored,
                self.rng,
                log=self._log_means,
                true_steps=getattr(self.env.env.unwrapped, "shortest_path_steps", None),
            )
            self._share()
            self._log_means(self.planner.stats.pop())

    def _fit_scales(self) -> None:
        super()._fit_scales()
        self.high_level.fit_scale(self.goal_range, self.step_scale)
        self._make_planners()

    # ----------------------------------------------------------------- predicting

    def _predict(
        self,
        observation: GoalObservation,
        state: Any,
        episode_start: NDArray[np.bool_],
        deterministic: bool,
    ) -> tuple[FloatArray, Any]:
        if self.high_level.pool is None:
            return super()._predict(observation, state, episode_start, deterministic)
        n = len(observation.observation)
        plans: list[Any] = [None] * n if state is None else list(state)
        if len(plans) != n:
            raise ValueError(
                f"the state is that of {len(plans)} environment(s), the observation of {n}: hand "
                "back what the last predict on these environments returned, or None"
            )
        goals = np.empty_like(observation.desired_goal)
        for i in range(n):
            plan = plans[i]
            if (
                plan is None
                or episode_start[i]
                or not np.array_equal(plan.goal, observation.desired_goal[i])
            ):
                plan = self._predictor.begin(*_row(observation, i), self._plan_rng())
            else:
                plan = self._predictor.step(
                    plan, observation.observation[i], observation.achieved_goal[i]
                )
            plans[i] = plan
            goals[i] = plan.subgoal
        action = self.low_level.act(observation.observation, observation.achieved_goal, goals)
        return (action if deterministic else self._with_noise(action)), plans

    def _plan_rng(self) -> np.random.Generator:
        # A stream of its own for every plan: predicting neither depends on nor disturbs learning.
        return np.random.default_rng(self.seed)

    def plan(self, observation: dict[str, NDArray[Any]]) -> Plan:
        """The plan for one Dict observation: nodes, edges with distances, path, energies.

        Raises:
            RuntimeError: if the agent has not learnt enough to plan yet.
            ValueError: if the observation is not of the environment's kind, or a batch of several.
        """
        if self.spaces is None or self.high_level.pool is None:
            raise RuntimeError("the agent cannot plan yet: learn(env) first")
        if self.spaces.is_single(observation):
            observation = {key: np.asarray(observation[key])[None] for key in KEYS}
        batch = self.spaces.flatten(observation)
        if len(batch.observation) != 1:
            raise ValueError(f"a plan is for one observation, not for {len(batch.observation)}")
        return self._predictor.show(*_row(batch, 0), self._plan_rng())

    # ---------------------------------------------------------------- persistence

    def _tensors(self) -> dict[str, Any]:
        return {**super()._tensors(), **self.high_level.tensors()}

    def _load_tensors(self, tensors: dict[str, Any]) -> None:
        super()._load_tensors(tensors)
        self.high_level.load_tensors(tensors)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {**super()._arrays(), **self.high_level.arrays()}
        if self._ready:
            if self.env is not None:
                middle, half = self.goal_range
                self._tolerance = self.env.success_tolerance(middle, 2.0 * half)
            arrays["reach"] = self._tolerance
        return arrays

    def _load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        super()._load_arrays(arrays)
        if self._ready:
            self._tolerance = arrays.get("reach", 1.5 * self.step_scale)
            self.high_level.set_step_scale(self.step_scale)
        self.high_level.load_arrays(arrays)
        if self._ready:
            self._make_planners()

    def _experience(self) -> dict[str, NDArray[Any]]:
        arrays = super()._experience()
        high = self.high_level
        arrays["high_level_counters"] = np.array([self._energy_trained_at, high.experienced])
        arrays.update({f"stitched/{k}": v for k, v in vars(high.stitched).items()})
        return arrays

    def _load_experience(self, arrays: dict[str, NDArray[Any]]) -> None:
        super()._load_experience(arrays)
        self._energy_trained_at, self.high_level.experienced = (
            int(count) for count in arrays["high_level_counters"]
        )
        self.high_level.stitched = BetweenTriplets(
            *(arrays[f"stitched/{name}"] for name in ("start", "goal", "between", "half"))
        )


def _row(observation: GoalObservation, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    return observation.observation[i], observation.achieved_goal[i], observation.desired_goal[i]
