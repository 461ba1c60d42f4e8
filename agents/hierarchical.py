"""HierarchicalEBMAgent: energy-based subgoals, a graph over them, a low level to chase them."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from hierebm.agents.base import GoalAgent
from hierebm.agents.config import HierarchicalEBMConfig
from hierebm.callbacks import BaseCallback, MaybeCallback, PlanFigureCallback
from hierebm.goal_env.spaces import GoalSpaces
from hierebm.parts import find_part
from hierebm.planning.graph.plan import Plan
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.high_level import PLANNERS, HighLevel
from hierebm.planning.planner import Planner
from hierebm.planning.samplers import SAMPLERS, BetweenEnergy, EBMSampler, SubgoalSampler

__all__ = ["HierarchicalEBMAgent", "HierarchicalEBMConfig"]


class HierarchicalEBMAgent(GoalAgent):
    """A distance-learning low level under a high level whose subgoals come from an energy.

    While it explores, the agent trains (1) actor and distance critics on relabelled transitions
    and (2) the energy E(w | s, g) on what its own trajectories, and shortest paths over its stored
    states, went through on the way from s to g. To act, it draws subgoals from the energy, joins
    them into a graph by the critics' distances, and chases the nodes of the shortest path. The
    arguments are those of :class:`~hierebm.agents.base.GoalAgent`; ``low_level``,
    ``subgoal_sampler`` and ``planner`` take a name, a class or an instance.
    """

    config_class: ClassVar[type[Any]] = HierarchicalEBMConfig
    default_log_name: ClassVar[str] = "HierarchicalEBM"
    parts: ClassVar[tuple[str, ...]] = ("low_level", "subgoal_sampler", "planner")
    config: HierarchicalEBMConfig
    high_level: HighLevel

    def _check_parts(self) -> None:
        super()._check_parts()
        find_part("subgoal_sampler", self.part("subgoal_sampler"), SubgoalSampler, SAMPLERS)
        find_part("planner", self.part("planner"), Planner, PLANNERS)

    def _make_high_level(self, spaces: GoalSpaces) -> HighLevel:
        return HighLevel(
            spaces.goal_dim,
            spaces.action_dim,
            self.config,
            self.low_level,
            self._reached,
            self.generator,
            self.device,
            planner=self.part("planner"),
            subgoal_sampler=self.part("subgoal_sampler"),
        )

    def _default_callbacks(self, callback: MaybeCallback) -> list[BaseCallback]:
        """Plans and energies as images, where there is a log to put them into."""
        given = callback if isinstance(callback, (list, tuple)) else [callback]
        drawn = any(isinstance(entry, PlanFigureCallback) for entry in given)
        copyable = self.env is not None and getattr(self.env.env, "spec", None) is not None
        if self.tensorboard_log is None or drawn or not copyable:
            return []
        return [PlanFigureCallback()]

    @property
    def sampler(self) -> SubgoalSampler | None:
        """Where the graph's subgoals come from; None where there is no graph."""
        planner = self.high_level.planner
        return planner.sampler if isinstance(planner, GraphPlanner) else None

    @property
    def energy(self) -> BetweenEnergy | None:
        """E(w | s, g), where subgoals come from one."""
        return self.sampler.energy if isinstance(self.sampler, EBMSampler) else None

    def plan(self, observation: dict[str, NDArray[Any]]) -> Plan:
        """The plan for one Dict observation: nodes, edges with distances, path, energies.

        Raises:
            RuntimeError: if the agent has not learned enough to plan yet.
            ValueError: if the observation is not of the environment's kind, or a batch of several.
        """
        if self.spaces is None or not self.high_level.can_plan:
            raise RuntimeError(
                f"the agent cannot plan yet: learn(env) for more than "
                f"{max(self.config.learning_starts, self.config.energy_train_freq)} steps first"
            )
        rows, _ = self._rows(self.spaces, observation)
        if len(rows.observation) != 1:
            raise ValueError(f"a plan is for one observation, not for {len(rows.observation)}")
        row = rows[0]
        return self.high_level.planner.show(
            row.observation, row.achieved_goal, row.desired_goal, self._plan_rng()
        )
