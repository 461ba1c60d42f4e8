"""The high level: what plans are made of, how it is learned from the replay, and the planner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierebm.checkpoint.arrays import checked
from hierebm.parts import find_part
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.diagnostics import edge_calibration, edges_between
from hierebm.planning.graph.edge_cutoff import EdgeCutoff
from hierebm.planning.graph.edges import DistanceModel
from hierebm.planning.graph.many_axes import make_transition_map
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.novelty_walk import NoveltyWalk
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.planner import Log, Planner
from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.planning.samplers.registry import make_sampler
from hierebm.planning.sequence_planner import SequenceSubgoalPlanner
from hierebm.replay import CoveredGround, EpisodeReplay
from hierebm.replay.scales import InputScales
from hierebm.types import IntArray, ReachedFn, StepsFn

PLANNERS: dict[str, type[Planner]] = {"graph": GraphPlanner, "sequence": SequenceSubgoalPlanner}

# Rows of whole episodes that the transition map takes in together.
MAPPED_AT_ONCE = 10_000


class HighLevel:
    """Owns the node pool, the transition map, the edge cutoff, the sampler and the planner.

    Args:
        goal_dim, action_dim: lengths of a point of goal space and of an action.
        config: all settings of the agent.
        model: the low level, whose distances join nodes.
        reached: whether an achieved goal counts as a goal.
        generator: random numbers of the models.
        device: where the models live.
        planner, subgoal_sampler: a name, a class or an instance.

    Raises:
        ValueError, TypeError: for a planner or a sampler that is none.
    """

    def __init__(
        self,
        goal_dim: int,
        action_dim: int,
        config: Any,
        model: DistanceModel,
        reached: ReachedFn,
        generator: torch.Generator,
        device: torch.device,
        *,
        planner: Any,
        subgoal_sampler: Any,
    ) -> None:
        self._action_dim = action_dim
        self.context = PlanningContext(config, goal_dim, model, reached, generator, device)
        self.context.action_repeat = config.action_repeat or 1

        def sampler() -> SubgoalSampler:
            return make_sampler(subgoal_sampler, goal_dim, config, generator, device)

        part = find_part("planner", planner, Planner, PLANNERS)
        self.planner = part if isinstance(part, Planner) else part.build(self.context, sampler)
        if getattr(self.planner, "context", self.context) is not self.context:
            raise ValueError(
                "this planner belongs to another agent: give the class, or another one"
            )
        self.planner.context = self.context
        # Transitions that the transition map has seen; the others are new to it.
        self.mapped = 0
        if self.planner.uses_graph and config.calibrate_cutoff:
            self.context.edge_cutoff = EdgeCutoff(config.safe_edge)

    @property
    def can_plan(self) -> bool:
        """Whether there is enough experience to plan with."""
        return self.context.pool is not None

    def fit_scale(self, scales: InputScales) -> None:
        """Take the scales of goals and the length of a step; called once, before training."""
        self._set_scales(scales)
        self.planner.fit_scale()

    def _set_scales(self, scales: InputScales) -> None:
        self.context.scales = scales
        if self.planner.uses_graph and self.context.config.unverified_cost > 1.0:
            self.context.transition_map = make_transition_map(scales.step)
            known = self.context.transition_map
            self.context.novelty_walk = NoveltyWalk(known, self._action_dim)

    # ------------------------------------------------------------------- learning

    def map(self, replay: EpisodeReplay, stored: int) -> None:
        """Take what is new in the replay into the transition map: the frontier moves on.

        Args:
            replay: all experience.
            stored: transitions that were ever put into it.
        """
        if self.context.transition_map is not None:
            # A little more than what is new, for the trajectories that had not gone on yet.
            new = max(stored - self.mapped, 0)
            rows = replay.newest_rows(new + 16 * replay.n_envs)
            self._map_rows(replay, rows, min(new, len(rows)))
        self.mapped = stored

    def map_all(self, replay: EpisodeReplay, stored: int) -> None:
        """Take whole episodes that were put into the replay into the transition map, as
        :meth:`map`, in time proportional to their number.
        """
        if self.context.transition_map is not None:
            rows = replay.newest_rows(replay.capacity)
            is_new = np.arange(len(rows)) >= len(rows) - (stored - self.mapped)
            self.mapped = stored - int(np.count_nonzero(is_new))
            # Each new landmark is compared with all rows that are looked at together.
            for start in range(0, len(rows), MAPPED_AT_ONCE):
                part = slice(start, start + MAPPED_AT_ONCE)
                n_new = int(np.count_nonzero(is_new[part]))
                self._map_rows(replay, rows[part], n_new)
                self.mapped += n_new
        self.mapped = stored

    def _map_rows(self, replay: EpisodeReplay, rows: IntArray, n_new: int) -> None:
        """Trajectories from these rows, of which the last ``n_new`` were not seen before."""
        assert self.context.transition_map is not None and self.context.novelty_walk is not None
        self.context.transition_map.add(replay, rows, n_new)
        new = rows[len(rows) - n_new :]
        self.context.novelty_walk.learn(replay, new)
        commanded = self.context.novelty_walk.displacement.commanded(replay.action[new])
        self.context.transition_map.learn_pace(replay, new, commanded)

    def learn(
        self,
        replay: EpisodeReplay,
        stored: int,
        rng: np.random.Generator,
        log: Log,
        true_steps: StepsFn | None = None,
        covered: CoveredGround | None = None,
    ) -> None:
        """Draw the pool again, and train what plans with it.

        Args:
            replay: all experience.
            stored: transitions that were ever put into it.
            rng: source of the draws.
            log: told of every metric.
            true_steps: the environment's own distances, only to measure by.
            covered: of the same buffer; None: states for the pool as they come.
        """
        context = self.context
        context.pool = NodePool.draw(replay, context.config.pool_size, rng, covered)
        if context.edge_cutoff is not None:
            # Never inwards: what is missed early on is missed at any distance.
            context.edge_cutoff.refit(context.config.safe_edge, context.config.max_edge)
            share = context.edge_cutoff.expected_share
            log({"graph/safe_edge": context.safe_edge, "graph/expected_share": share})
        self.map(replay, stored)
        if context.transition_map is not None:
            self._trust_tries()
            context.transition_map.search()
        self.planner.learn(replay, rng, log)
        if self.planner.uses_graph:
            # Nothing that is learned may depend on what is measured.
            measuring = np.random.default_rng(stored)
            sample = edges_between(
                context.edges,
                context.pool,
                measuring,
                true_steps=true_steps,
                action_repeat=context.action_repeat,
            )
            log(edge_calibration(sample, context.edges.config))
        log(self.planner.stats.pop())

    def _trust_tries(self) -> None:
        known, cutoff = self.context.transition_map, self.context.edge_cutoff
        if known is not None and cutoff is not None:
            known.expected_share = cutoff.expected_share

    # ---------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any]:
        """The planner's models as nested dicts of tensors."""
        return self.planner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in place."""
        self.planner.load_state_dict(state)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What else planning needs, as arrays by name."""
        context, arrays = self.context, {}
        if context.pool is not None:
            arrays["pool/observation"] = context.pool.observation
            arrays["pool/achieved_goal"] = context.pool.achieved_goal
        if context.transition_map is not None:
            arrays |= _under("transition_map", context.transition_map.state_dict())
            arrays |= _under("gates", context.transition_map.gates.state_dict())
        if context.novelty_walk is not None:
            arrays |= _under("novelty_walk", context.novelty_walk.state_dict())
        if context.edge_cutoff is not None:
            arrays |= _under("edge_cutoff", context.edge_cutoff.state_dict())
        return arrays

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]], scales: InputScales | None) -> None:
        """Restore what :meth:`arrays` gave, and the scales if they were measured.

        Raises:
            ValueError: an array is of another shape or kind than what :meth:`arrays` gives.
        """
        context = self.context
        if scales is not None:
            self._set_scales(scales)
        if "pool/achieved_goal" in arrays:
            if scales is None:
                raise ValueError("there is a pool of states, and no scale of them")
            achieved = checked(arrays, "pool/achieved_goal", (None, context.goal_dim), "floats")
            shape = len(achieved), len(scales.observation_scale)
            observation = checked(arrays, "pool/observation", shape, "floats")
            if not len(achieved):
                raise ValueError("the pool of states is empty")
            context.pool = NodePool(observation, achieved)
        # Settings may do without what the file has, or with what it has not.
        if context.transition_map is not None and "transition_map/landmarks" in arrays:
            # Older files have no gates.
            if gates := _below("gates", arrays):
                context.transition_map.gates.load_state_dict(gates)
            context.transition_map.load_state_dict(_below("transition_map", arrays))
        if context.novelty_walk is not None and "novelty_walk/tried" in arrays:
            context.novelty_walk.load_state_dict(_below("novelty_walk", arrays))
        if context.edge_cutoff is not None and "edge_cutoff/outcomes" in arrays:
            context.edge_cutoff.load_state_dict(_below("edge_cutoff", arrays))
            self._trust_tries()

    def replay_arrays(self) -> dict[str, NDArray[Any]]:
        """What belongs into the file of the replay buffer, as arrays by name."""
        return {"mapped": np.array(self.mapped), **self.planner.replay_arrays()}

    def load_replay_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`replay_arrays` gave."""
        # An agent without a map of its own has seen nothing of the buffer.
        known = self.context.transition_map
        mapped = int(checked(arrays, "mapped", (), "whole numbers", low=0))
        self.planner.load_replay_arrays(arrays)
        self.mapped = mapped if known is not None and len(known.landmarks) else 0


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
