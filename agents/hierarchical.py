"""HierarchicalEBMAgent: energy-based subgoals, a graph over them, a low level to chase them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.ddpg_her import DDPGHERAgent, DDPGHERConfig
from hierebm.callbacks import BaseCallback, MaybeCallback, PlanFigureCallback
from hierebm.goal_env import GoalEnv, GoalObservation, GoalSpaces, StepResult
from hierebm.planning.between_data import BetweenData, newest_triplets
from hierebm.planning.between_energy import BetweenEnergy, EnergyConfig
from hierebm.planning.calibration import edge_calibration, edges_between
from hierebm.planning.experience import ExperienceMap
from hierebm.planning.places import PlacePool
from hierebm.planning.plan import Plan
from hierebm.planning.planner import ClosedLoopPlanner, PlannerConfig, SubgoalPlanner
from hierebm.planning.reliability import Reliability
from hierebm.planning.samplers import (
    SAMPLERS,
    EBMSampler,
    LearntSampler,
    SubgoalSampler,
    make_sampler,
)
from hierebm.planning.sequence import SequenceConfig, SequencePlanner
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.planning.stitching import stitched_between
from hierebm.replay import BetweenTriplets, sample_pairs
from hierebm.replay.episodes import FloatArray

PLANNERS = ("graph", "sequence")


@dataclass
class HierarchicalEBMConfig(PlannerConfig, EnergyConfig, DDPGHERConfig):
    """Settings of :class:`HierarchicalEBMAgent`: those of all its parts, by plain name."""

    planner: str = "graph"
    """"graph" (shortest path over subgoals) or "sequence" (most likely sequence of states)."""
    subgoal_sampler: str = "ebm"
    """Where subgoals come from. Learnt, between state and goal: "ebm" (energy), "contrastive"
    (follows the state and is followed by the goal), "cvae" (as in HTM). Anywhere: "replay" (SORB),
    "farthest" (spread out evenly), "kmeans", "uniform" (walls or not)."""
    pool_size: int = 4000
    """Stored states, redrawn before each round of energy training, that subgoals are made of."""
    direct_episodes: float = 0.2
    """Share of training episodes in which the low level chases the final goal all the way."""
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    """Settings of the sequence optimiser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sequence, dict):
            self.sequence = SequenceConfig(**self.sequence)
        for name, choices in (("planner", PLANNERS), ("subgoal_sampler", SAMPLERS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )


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
        c = self.config
        # What the chosen planner draws from; the parts that it does not use are None.
        self.sampler: SubgoalSampler | None = None
        self.sequences: SequencePlanner | None = None
        if c.planner == "sequence":
            self.sequences = SequencePlanner(spaces.goal_dim, c.sequence, self.generator)
        else:
            self.sampler = make_sampler(
                c.subgoal_sampler,
                spaces.goal_dim,
                c,
                self.generator,
                self.device,
                model=self.low_level,
            )
        empty = np.zeros((0, spaces.goal_dim), np.float32)
        self._stitched = BetweenTriplets(empty, empty, empty)
        self._pool: PlacePool | None = None
        self.experience: ExperienceMap | None = None
        self.reliability: Reliability | None = None
        if c.planner == "graph" and c.calibrate:
            self.reliability = Reliability(c.safe_edge)
        self._energy_trained_at = self._experienced = 0

    @property
    def energy(self) -> BetweenEnergy | None:
        """E(w | s, g), where subgoals come from one."""
        return self.sampler.energy if isinstance(self.sampler, EBMSampler) else None

    @property
    def planner_config(self) -> HierarchicalEBMConfig:
        """The settings with ``safe_edge`` as calibrated so far."""
        if self.reliability is None:
            return self.config
        return replace(self.config, safe_edge=self.reliability.safe_edge)

    def _attach(self, env: GoalEnv) -> None:
        super()._attach(env)
        self._energy_trained_at = min(self._energy_trained_at, self._stored)
        self._experienced = min(self._experienced, self._stored)
        if self._ready:
            self._make_planners()

    def _begin(self, env: GoalEnv) -> None:
        super()._begin(env)
        self._plans: list[Any] = [None] * env.n_envs
        self._direct = self.rng.random(env.n_envs) < self.config.direct_episodes

    def _make_planners(self) -> None:
        if self.config.planner == "graph" and self.config.unsupported_cost > 1.0:
            self.experience = self.experience or ExperienceMap(self.step_scale)
        # Predicting has a planner of its own: it must not disturb what learning counts and logs.
        self.planner, self._predictor = self._make_planner(True), self._make_planner(False)
        self._share()

    def _make_planner(self, learning: bool) -> ClosedLoopPlanner:
        if self.sequences is not None:
            return SequenceSubgoalPlanner(
                self.low_level, self.sequences, self.config, self._reached, learning
            )
        assert self.sampler is not None
        return SubgoalPlanner(
            self.low_level,
            self.sampler,
            self.config,
            self.step_scale,
            self._reached,
            self.experience,
            learning,
            self.reliability if learning else None,
        )

    def _share(self) -> None:
        """Give both planners the pool and the cutoff of now."""
        self.planner.pool = self._predictor.pool = self._pool
        self.planner.config = self._predictor.config = self.planner_config

    def _reached(self, achieved_goal: FloatArray, goal: FloatArray) -> NDArray[np.bool_]:
        if self.env is not None:
            return self.env.reached(achieved_goal, goal)
        # A loaded agent without environment: within a step and a half counts as there.
        return (np.abs(achieved_goal - goal) <= 1.5 * self.step_scale).all(-1)

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
        if self._pool is None:
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
        wander = [plan is not None and getattr(plan, "wander", False) for plan in self._plans]
        if any(wander):
            action[wander] = self._random_walk()[wander]
        return action

    def _store(self, before: GoalObservation, action: FloatArray, step: StepResult) -> None:
        super()._store(before, action, step)
        after = step.reached_state
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
            self._energy_trained_at = self._stored
            self._train_energy()
            self._log_means(self.planner.stats.pop())

    def _fit_scales(self) -> None:
        super()._fit_scales()
        shift, scale = (torch.from_numpy(x) for x in self.goal_range)
        if isinstance(self.sampler, LearntSampler):
            self.sampler.fit_scale(shift, scale, torch.from_numpy(self.step_scale))
        self._make_planners()

    def _train_energy(self) -> None:
        """Redraw the pool, and train what plans with it."""
        self._pool = PlacePool.draw(self.replay_buffer, self.config.pool_size, self.rng)
        if self.reliability is not None:
            self.reliability.refit(0.5 * self.config.safe_edge, self.config.max_edge)
            self._log_means({"graph/safe_edge": self.reliability.safe_edge})
        self._share()
        if self.experience is not None:
            # A little more than what is new, for the trajectories that had not gone on yet.
            new = self._stored - self._experienced + 16 * self.replay_buffer.n_envs
            self.experience.add(self.replay_buffer, self.replay_buffer.newest_rows(new))
            self._experienced = self._stored
        if self.sequences is not None:
            self._train_sequences(self.sequences)
        if isinstance(self.sampler, LearntSampler):
            self._train_sampler(self.sampler, self._pool)
        if self.sampler is not None:
            self._log_means(self._calibration(self._pool))

    def _calibration(self, pool: PlacePool) -> dict[str, float]:
        """How good the critics' edges are; measured against the world's truth where it tells."""
        assert self.env is not None
        config = self.planner_config
        edges = edges_between(
            self.low_level,
            pool,
            config,
            self.step_scale,
            # Nothing that is learnt may depend on what is measured.
            np.random.default_rng(self._stored),
            experience=self.experience,
            true_steps=getattr(self.env.env.unwrapped, "shortest_path_steps", None),
        )
        return edge_calibration(edges, config)

    def _train_sampler(self, sampler: LearntSampler, pool: PlacePool) -> None:
        """Stitch new paths over the pool, and fit the sampler to what lies between."""
        c = self.planner_config
        if sampler.learns_from_triplets:
            fresh = stitched_between(
                pool,
                self.low_level,
                c,
                self.step_scale,
                self._reached,
                self.rng,
                experience=self.experience,
            )
            self._stitched = newest_triplets(self._stitched, fresh, c.stitched_buffer)
        data = BetweenData(self.replay_buffer, pool, self._stitched, c.stitched_share, self.rng)
        for _ in range(c.energy_gradient_steps):
            self._log_means(sampler.train(data))

    def _train_sequences(self, sequences: SequencePlanner) -> None:
        """Fit E(s_t, s_t+1) to transitions of the replay and to what was planned and missed."""
        c = self.config
        for _ in range(c.energy_gradient_steps):
            pairs = sample_pairs(
                self.replay_buffer,
                c.energy_batch_size,
                self.rng,
                max_steps=c.sequence.transition_steps,
            )
            self._log_means(sequences.update(torch.from_numpy(pairs)))

    # ----------------------------------------------------------------- predicting

    def _predict(
        self,
        observation: GoalObservation,
        state: Any,
        episode_start: NDArray[np.bool_],
        deterministic: bool,
    ) -> tuple[FloatArray, Any]:
        if self._pool is None:
            return super()._predict(observation, state, episode_start, deterministic)
        n = len(observation.observation)
        plans: list[Any] = [None] * n if state is None else list(state)
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
        """
        if self.spaces is None or self._pool is None:
            raise RuntimeError("the agent cannot plan yet: learn(env) first")
        batch = self.spaces.flatten({k: np.asarray(v)[None] for k, v in observation.items()})
        return self._predictor.show(*_row(batch, 0), self._plan_rng())

    # ---------------------------------------------------------------- persistence

    def _tensors(self) -> dict[str, Any]:
        # The name of the sampler's state is that of the first sampler that learnt.
        states = {}
        if isinstance(self.sampler, LearntSampler):
            states["energy"] = self.sampler.state_dict()
        if self.sequences is not None:
            states["sequences"] = self.sequences.state_dict()
        return {**super()._tensors(), **states}

    def _load_tensors(self, tensors: dict[str, Any]) -> None:
        super()._load_tensors(tensors)
        if isinstance(self.sampler, LearntSampler):
            self.sampler.load_state_dict(tensors["energy"])
        if self.sequences is not None:
            self.sequences.load_state_dict(tensors["sequences"])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = super()._arrays()
        if self._pool is not None:
            arrays["pool/observation"] = self._pool.observation
            arrays["pool/achieved_goal"] = self._pool.achieved_goal
        if self.experience is not None:
            arrays.update({f"map/{k}": v for k, v in self.experience.state_dict().items()})
        if self.reliability is not None:
            arrays.update({f"chased/{k}": v for k, v in self.reliability.state_dict().items()})
        return arrays

    def _load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        super()._load_arrays(arrays)
        if "pool/achieved_goal" in arrays:
            self._pool = PlacePool(arrays["pool/observation"], arrays["pool/achieved_goal"])
        if "map/landmarks" in arrays:
            self.experience = ExperienceMap(self.step_scale)
            self.experience.load_state_dict(_below("map/", arrays))
        if self.reliability is not None and "chased/outcomes" in arrays:
            self.reliability.load_state_dict(_below("chased/", arrays))
        if self._ready:
            self._make_planners()

    def _experience(self) -> dict[str, NDArray[Any]]:
        arrays = super()._experience()
        arrays["high_level_counters"] = np.array([self._energy_trained_at, self._experienced])
        arrays.update({f"stitched/{k}": v for k, v in vars(self._stitched).items()})
        return arrays

    def _load_experience(self, arrays: dict[str, NDArray[Any]]) -> None:
        super()._load_experience(arrays)
        self._energy_trained_at, self._experienced = (
            int(count) for count in arrays["high_level_counters"]
        )
        self._stitched = BetweenTriplets(
            *(arrays[f"stitched/{name}"] for name in ("start", "goal", "between"))
        )


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _row(observation: GoalObservation, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    return observation.observation[i], observation.achieved_goal[i], observation.desired_goal[i]
