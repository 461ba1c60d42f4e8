"""The high level: what plans are made of, and how it is learnt from the replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.agents.hierarchical_config import HierarchicalEBMConfig
from hierebm.control.ddpg_kernels import DistanceDDPG
from hierebm.planning.graph.diagnostics import edge_calibration, edges_between
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.stitching import stitched_between
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.planning.graph_planner import ClosedLoopPlanner, SubgoalPlanner
from hierebm.planning.samplers import LearntSampler, SubgoalSampler, make_sampler
from hierebm.planning.samplers.training_data import BetweenData, newest_triplets
from hierebm.planning.sequence import SequencePlanner
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.replay import BetweenTriplets, EpisodeReplay, sample_pairs
from hierebm.types import FloatArray, ReachedFn, StepsFn

Log = Callable[[dict[str, float]], None]


class HighLevel:
    """Places, what trajectories joined, how far a subgoal may be, and where subgoals come from.

    Args:
        goal_dim: of the goal space.
        config: says which parts there are, and their sizes.
        low_level: whose distances join places.
        reached: whether an achieved goal counts as a goal.
        generator: random numbers of the models.
        device: where the models live.

    Attributes:
        sampler, sequences: what the chosen planner draws from; the other one is None.
        pool: stored states that places are made of; None until there is enough experience.
        experience, reliability: None where the settings do without.
        stitched: triplets from the last shortest paths over pools.
        experienced: transitions that ``experience`` has seen.
    """

    def __init__(
        self,
        goal_dim: int,
        config: HierarchicalEBMConfig,
        low_level: DistanceDDPG,
        reached: ReachedFn,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._low_level, self._reached = low_level, reached
        self.sampler: SubgoalSampler | None = None
        self.sequences: SequencePlanner | None = None
        if config.planner == "sequence":
            self.sequences = SequencePlanner(goal_dim, config.sequence, generator)
        else:
            self.sampler = make_sampler(config.subgoal_sampler, goal_dim, config, generator, device)
        self.pool: NodePool | None = None
        self._maps = config.planner == "graph" and config.unverified_cost > 1.0
        self.transition_map: TransitionMap | None = None
        self.edge_cutoff: EdgeCutoff | None = None
        if config.planner == "graph" and config.calibrate:
            self.edge_cutoff = EdgeCutoff(config.safe_edge)
        self.stitched = BetweenTriplets.none(goal_dim)
        self.experienced = 0

    def calibrated(self, config: HierarchicalEBMConfig) -> HierarchicalEBMConfig:
        """The settings with ``safe_edge`` as learnt so far."""
        if self.edge_cutoff is None:
            return config
        return replace(config, safe_edge=self.edge_cutoff.safe_edge)

    def set_step_scale(self, step_scale: FloatArray) -> None:
        """What :meth:`fit_scale` was given; tell it again before :meth:`load_arrays`."""
        self._step_scale = step_scale
        if self.transition_map is None and self._maps:
            self.transition_map = TransitionMap(step_scale)

    def fit_scale(self, goal_range: tuple[FloatArray, FloatArray], step_scale: FloatArray) -> None:
        """Fit the inputs' scaling, once, before training.

        Args:
            goal_range: (goal_dim,) middle and half range of the goal space.
            step_scale: (goal_dim,) how far one step at full speed goes.
        """
        self.set_step_scale(step_scale)
        if isinstance(self.sampler, LearntSampler):
            shift, scale, step = map(torch.from_numpy, (*goal_range, step_scale))
            self.sampler.fit_scale(shift, scale, step)

    def edges(self, config: GraphConfig) -> EdgeRules:
        """How places are joined, by these settings and the experience of now.

        To be asked for anew after :meth:`load_arrays`, and not before the step's scale is known.
        """
        return EdgeRules(
            self._low_level, config, self._step_scale, self._reached, self.transition_map
        )

    def make_planner(self, config: HierarchicalEBMConfig, learning: bool) -> ClosedLoopPlanner:
        """A planner that draws from what is learnt here; one that is ``learning`` explores."""
        if self.sequences is not None:
            return SequenceSubgoalPlanner(
                self._low_level, self.sequences, config, self._reached, learning
            )
        assert self.sampler is not None
        edge_cutoff = self.edge_cutoff if learning else None
        return SubgoalPlanner(self.edges(config), self.sampler, config, learning, edge_cutoff)

    # ------------------------------------------------------------------- learning

    def learn(
        self,
        config: HierarchicalEBMConfig,
        replay: EpisodeReplay,
        stored: int,
        rng: np.random.Generator,
        log: Log,
        true_steps: StepsFn | None = None,
    ) -> None:
        """Redraw the pool, and train what plans with it.

        Args:
            config: settings of now.
            replay: all experience.
            stored: transitions that were ever put into it.
            rng: source of the draws.
            log: told of every metric.
            true_steps: the world's own distances, only to measure by.
        """
        self.pool = NodePool.draw(replay, config.pool_size, rng)
        if self.edge_cutoff is not None:
            # Never inwards: what is missed early on is missed at any distance.
            self.edge_cutoff.refit(config.safe_edge, config.max_edge)
            log({"graph/safe_edge": self.edge_cutoff.safe_edge})
        config = self.calibrated(config)
        if self.transition_map is not None:
            # A little more than what is new, for the trajectories that had not gone on yet.
            new = stored - self.experienced + 16 * replay.n_envs
            self.transition_map.add(replay, replay.newest_rows(new))
            self.experienced = stored
        if self.sequences is not None:
            self._train_sequences(config, self.sequences, replay, rng, log)
        if isinstance(self.sampler, LearntSampler):
            self._train_sampler(config, self.sampler, replay, self.pool, rng, log)
        if self.sampler is not None:
            # Nothing that is learnt may depend on what is measured.
            measuring = np.random.default_rng(stored)
            edges = edges_between(self.edges(config), self.pool, measuring, true_steps=true_steps)
            log(edge_calibration(edges, config))

    def _train_sequences(
        self,
        config: HierarchicalEBMConfig,
        sequences: SequencePlanner,
        replay: EpisodeReplay,
        rng: np.random.Generator,
        log: Log,
    ) -> None:
        """Fit E(s_t, s_t+1) to transitions of the replay and to what was planned and missed."""
        for _ in range(config.energy_gradient_steps):
            pairs = sample_pairs(
                replay, config.energy_batch_size, rng, max_steps=config.sequence.transition_steps
            )
            log(sequences.update(torch.from_numpy(pairs)))

    def _train_sampler(
        self,
        config: HierarchicalEBMConfig,
        sampler: LearntSampler,
        replay: EpisodeReplay,
        pool: NodePool,
        rng: np.random.Generator,
        log: Log,
    ) -> None:
        """Stitch new paths over the pool, and fit the sampler to what lies between."""
        if sampler.learns_from_triplets:
            fresh = stitched_between(pool, self.edges(config), rng)
            self.stitched = newest_triplets(self.stitched, fresh, config.stitched_buffer)
        data = BetweenData(replay, pool, self.stitched, config.stitched_share, rng)
        for _ in range(config.energy_gradient_steps):
            log(sampler.train(data))

    # ---------------------------------------------------------------- persistence

    def tensors(self) -> dict[str, Any]:
        """The models as nested dicts of tensors."""
        # The name of the sampler's state is that of the first sampler that learnt.
        states = {}
        if isinstance(self.sampler, LearntSampler):
            states["energy"] = self.sampler.state_dict()
        if self.sequences is not None:
            states["sequences"] = self.sequences.state_dict()
        return states

    def load_tensors(self, tensors: dict[str, Any]) -> None:
        """Restore what :meth:`tensors` gave."""
        if isinstance(self.sampler, LearntSampler):
            self.sampler.load_state_dict(tensors["energy"])
        if self.sequences is not None:
            self.sequences.load_state_dict(tensors["sequences"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What else planning needs, as arrays by name."""
        arrays = {}
        if self.pool is not None:
            arrays["pool/observation"] = self.pool.observation
            arrays["pool/achieved_goal"] = self.pool.achieved_goal
        if self.transition_map is not None:
            arrays.update({f"map/{k}": v for k, v in self.transition_map.state_dict().items()})
        if self.edge_cutoff is not None:
            arrays.update({f"chased/{k}": v for k, v in self.edge_cutoff.state_dict().items()})
        return arrays

    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore what :meth:`arrays` gave."""
        if "pool/achieved_goal" in arrays:
            self.pool = NodePool(arrays["pool/observation"], arrays["pool/achieved_goal"])
        if "map/landmarks" in arrays:
            self.transition_map = TransitionMap(self._step_scale)
            self.transition_map.load_state_dict(_below("map/", arrays))
        if self.edge_cutoff is not None and "chased/outcomes" in arrays:
            self.edge_cutoff.load_state_dict(_below("chased/", arrays))


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
