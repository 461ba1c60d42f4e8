"""What the high level asks of a planner: plans that are followed step by step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from hierebm.checkpoint.arrays import checked, plain
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.novelty_walk import Walk
from hierebm.planning.graph.plan import Plan
from hierebm.planning.samplers.base import SubgoalSampler
from hierebm.replay import EpisodeReplay
from hierebm.types import LARGEST, FloatArray

Self = TypeVar("Self", bound="Planner")
Log = Callable[[dict[str, float]], None]
"""Told of metrics."""

# A subgoal is missed after this many times its predicted steps, plus the slack.
BUDGET_FACTOR, BUDGET_SLACK = 2.0, 4
# And sooner where the predicted distance to it, asked for every ASK steps, has not fallen by
# PROGRESS for PATIENCE steps: pushing against a wall does not help for being done longer.
ASK, PATIENCE, PROGRESS = 2.0, 4.0, 0.5


@dataclass
class PlanState:
    """One environment's plan; the ``state`` that ``predict`` hands back and forth.

    Planners add what they need.
    """

    goal: FloatArray
    """(goal_dim,) the final goal that the plan leads to."""
    rng: np.random.Generator
    """Source of the draws if the plan has to be made again."""
    learning: bool
    """Whether the plan may explore, and what becomes of it is learned from and logged."""
    subgoal: FloatArray = field(init=False)
    """(goal_dim,) what the low level chases now."""
    random_walk: bool = field(default=False, init=False)
    """Take random actions instead of chasing the subgoal; heeded while learning only."""
    walk: Walk | None = field(default=None, init=False)
    """The novelty walk whose action to take then; None: a random one."""
    predicted: float = field(default=0.0, init=False)
    """Steps that the current subgoal should take."""
    budget: int = field(default=0, init=False)
    """Steps after which it counts as missed."""
    slowness: float = field(default=1.0, init=False)
    """How many times longer than elsewhere the ground up to it takes, as far as that is known."""
    elapsed: float = field(default=0.0, init=False)
    """Steps spent on it."""
    asked: float = field(default=-ASK, init=False)
    """Steps spent on it when its distance was last predicted."""
    nearest: tuple[float, float] = field(default=(float("inf"), 0.0), init=False)
    """The shortest distance that was predicted on the way to it, and the steps spent then."""
    arrived: bool = field(default=False, init=False)
    """The final goal was reached: from then on the plan is to stay there."""

    def state_dict(self) -> dict[str, Any]:
        """All of it but the source of draws, as nested dicts and lists of arrays and plain values.

        Plans with fields of their own say what becomes of those.
        """
        walk = None if self.walk is None else self.walk.state_dict()
        return {**{name: getattr(self, name) for name in _plain_fields()}, "walk": walk}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of other lengths, or damaged.
        """
        dim = len(self.goal)
        own: dict[str, Any] = {k: checked(state, k, (dim,), "floats") for k in ("goal", "subgoal")}
        for name in ("learning", "random_walk", "arrived"):
            own[name] = bool(plain(state, name, 0, 1))
        # Older files do not tell the slowness.
        told = {"slowness": 1.0, **state}
        for name in ("predicted", "budget", "elapsed", "asked", "slowness"):
            own[name] = plain(told, name, -ASK, LARGEST)
        nearest, at = state["nearest"]
        pair = {"nearest": nearest, "at": at}
        own["nearest"] = plain(pair, "nearest", 0, math.inf), plain(pair, "at", 0, LARGEST)
        own["walk"] = None if state["walk"] is None else Walk.restored(state["walk"], dim)
        vars(self).update(own)

    def chase(self, subgoal: FloatArray, predicted: float) -> None:
        """Chase another subgoal (goal_dim,) that should take ``predicted`` steps."""
        self.subgoal, self.predicted, self.elapsed = subgoal, predicted, 0.0
        self.slowness = 1.0
        self.budget = int(BUDGET_FACTOR * predicted) + BUDGET_SLACK
        self.asked, self.nearest = -ASK, (float("inf"), 0.0)

    def walk_at_random(self, steps: int) -> None:
        """Take random actions for that many steps."""
        self.random_walk, self.walk = True, None
        self.elapsed, self.budget = 0.0, steps

    def stay(self) -> None:
        """Chase the final goal, which is reached now; the budget begins when the agent leaves it.

        An environment may go on after success, and count it at its last step.
        """
        self.arrived, self.random_walk = True, False
        self.chase(self.goal, 1.0)


def _plain_fields() -> list[str]:
    """Names of the fields of every plan that hold arrays and plain values."""
    return [f.name for f in fields(PlanState) if f.name not in ("rng", "walk")]


@dataclass
class PlannerStats:
    """Means since the last :meth:`pop`, by TensorBoard key."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Sum and count by key: a planner may predict for ever without being asked."""

    def add(self, metrics: Mapping[str, float]) -> None:
        """Take one value of each metric into its mean."""
        for key, value in metrics.items():
            total, count = self.sums.get(key, (0.0, 0))
            self.sums[key] = (total + float(value), count + 1)

    def pop(self) -> dict[str, float]:
        """The means, and start over."""
        means = {key: total / count for key, (total, count) in self.sums.items()}
        self.sums.clear()
        return means


class Planner(ABC):
    """Finds subgoals on the way to a goal, and decides when to plan again.

    To bring your own, define :meth:`begin` and :meth:`step` and hand the agent the class (it is
    made by :meth:`build`) or an instance: ``planner=MyPlanner``. A planner that learns defines
    :meth:`learn` and the two ``state_dict`` methods, too.

    Args:
        context: what plans are made of; the high level sets it where an instance comes without.
    """

    uses_graph: ClassVar[bool] = True
    """Whether the high level keeps a transition map and an edge cutoff for it."""
    context: PlanningContext
    """What plans are made of; its fields change while the agent learns."""

    def __init__(self, context: PlanningContext | None = None) -> None:
        if context is not None:
            self.context = context

    @cached_property
    def stats(self) -> PlannerStats:
        """Of plans made while learning."""
        return PlannerStats()

    @cached_property
    def stats_of_predict(self) -> PlannerStats:
        """Of the others; read by benchmarks."""
        return PlannerStats()

    @classmethod
    def build(
        cls: type[Self], context: PlanningContext, make_sampler: Callable[[], SubgoalSampler]
    ) -> Self:
        """Make one when the spaces are known.

        Args:
            context: see the class.
            make_sampler: makes the subgoal sampler that the agent was given. A planner that uses
                it fits, trains and saves it in its own methods, as the graph planner does.
        """
        return cls(context)

    @abstractmethod
    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
    ) -> Any:
        """A plan, usually a :class:`PlanState`, with its ``goal`` and first ``subgoal``.

        Args:
            observation, achieved_goal: (obs_dim,), (goal_dim,) the current state.
            goal: (goal_dim,) the final goal.
            rng: source of the draws; the plan keeps it.
            learning: see :class:`PlanState`.
        """

    @abstractmethod
    def step(self, plan: Any, observation: FloatArray, achieved_goal: FloatArray) -> Any:
        """The plan one environment step later: its subgoal is kept, advanced, or replaced."""

    def move_goal(self, plan: Any, goal: FloatArray) -> bool:
        """The final goal is at (goal_dim,) now: change the plan in place, if it still serves.

        Returns:
            whether it does; by default never, and another plan is made.
        """
        return False

    def show(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
    ) -> Plan:
        """A fresh plan for a person to look at; by default start, subgoal and goal."""
        plan = self.begin(observation, achieved_goal, goal, rng)
        nodes = np.stack([achieved_goal, plan.subgoal, goal])
        nothing = np.full(3, np.nan, np.float32)
        edges = np.array([[0, 1], [1, 2]])
        return Plan(nodes, edges, np.full(2, np.nan, np.float32), [0, 1, 2], nothing)

    def plan_state(self, plan: Any) -> dict[str, Any] | None:
        """A plan as nested dicts and lists of arrays and plain values, for a file.

        None, the default: an agent that goes on from a file makes the plan again.
        """
        return None

    def restored_plan(self, state: Mapping[str, Any], rng: np.random.Generator) -> Any:
        """The plan of which :meth:`plan_state` told, which draws from ``rng``."""
        raise NotImplementedError(f"{type(self).__name__} gives a plan_state, but no restored_plan")

    def is_missed(self, plan: Any, observation: FloatArray, achieved_goal: FloatArray) -> bool:
        """Whether the plan's subgoal is to be given up: its budget is spent, or it gets no nearer.

        Until it was predicted to be within ``max_edge``, only its budget counts.

        Args:
            plan: a :class:`PlanState`.
            observation, achieved_goal: (obs_dim,), (goal_dim,) the current state.
        """
        if plan.elapsed >= plan.budget:
            return True
        if plan.random_walk or plan.elapsed < plan.asked + ASK:
            return False
        plan.asked = plan.elapsed
        steps = self.context.model.distance(
            observation[None], achieved_goal[None], plan.subgoal[None]
        )
        nearest, at = plan.nearest
        # Farther than any edge, predictions are near the critics' largest distance, and do not fall
        # while the agent gets nearer.
        if not np.isfinite(nearest) and steps[0] > self.context.config.max_edge:
            return False
        if steps[0] <= nearest - PROGRESS:
            plan.nearest = float(steps[0]), plan.elapsed
            return False
        return bool(plan.elapsed >= at + PATIENCE * plan.slowness)

    # ------------------------------------------------- for planners that learn

    def learn(self, replay: EpisodeReplay, rng: np.random.Generator, log: Log) -> None:  # noqa: B027
        """Train what plans are drawn from; called once a round, after the context was renewed."""

    def fit_scale(self) -> None:  # noqa: B027
        """Take ``context.scales``; called once, before the first round."""

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`learn` and :meth:`begin` depend on, as nested dicts of tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore what :meth:`state_dict` gave, in place."""

    def replay_arrays(self) -> dict[str, NDArray[Any]]:
        """What belongs into the file of the replay buffer, as arrays by name."""
        return {}

    def load_replay_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:  # noqa: B027
        """Restore what :meth:`replay_arrays` gave."""
