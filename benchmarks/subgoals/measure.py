"""How a trained agent fares with other subgoals: worlds, agents, samplers, far tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hierebm import HierarchicalEBMAgent
from hierebm.evaluation import wilson_interval
from hierebm.planning.context import PlanningContext
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph_plan import GraphPlan
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.samplers import LearnedSampler, SubgoalSampler, make_sampler
from hierebm.types import FloatArray

STEP = 0.2
"""World units per step at the top speed of one axis."""


@dataclass(frozen=True)
class World:
    """A layout at a scale, and how long agents learn there."""

    layout: str
    scale: int
    steps: int

    @property
    def name(self) -> str:
        """Short name, good for a file."""
        return self.layout + (f"_x{self.scale}" if self.scale > 1 else "")

    @property
    def kwargs(self) -> dict[str, Any]:
        """Arguments of the environment."""
        return {"layout": self.layout, "scale": self.scale}

    def make(self) -> Any:
        """The environment itself, without wrappers."""
        return gym.make("PointMassGoal-v0", **self.kwargs).unwrapped


# ------------------------------------------------------------------------------- agents


def trained(
    world: World,
    seed: int,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    label: str = "",
) -> HierarchicalEBMAgent:
    """The agent of this world and seed: read from ``folder`` where it is there, else trained.

    A file is used again only if world, steps, seed and all settings are those it was trained with.

    Args:
        settings: what differs from the default agent.
        label: tells files of different settings apart.
    """
    env = gym.make("PointMassGoal-v0", **world.kwargs)
    # Experience is kept whole (one more row for each episode), and files stay small.
    settings = {"buffer_size": 2 * world.steps, **(settings or {})}
    agent = HierarchicalEBMAgent(seed=seed, env=env, **settings)
    stem = "_".join([world.name, f"seed{seed}", *label.split()])
    agent_file, replay_file = folder / f"{stem}.zip", folder / f"{stem}.replay.zip"
    key_file = folder / f"{stem}.json"
    key = {"world": asdict(world), "seed": seed, "config": asdict(agent.config)}
    key = json.loads(json.dumps(key))
    if key_file.exists() and json.loads(key_file.read_text()) == key:
        agent = HierarchicalEBMAgent.load(agent_file, env=env)
        agent.load_replay_buffer(replay_file)
        return agent
    folder.mkdir(parents=True, exist_ok=True)
    key_file.unlink(missing_ok=True)
    agent.learn(total_timesteps=world.steps)
    agent.save(agent_file)
    agent.save_replay_buffer(replay_file)
    key_file.write_text(json.dumps(key))
    return agent


def fitted(agent: HierarchicalEBMAgent, name: str, seed: int, **settings: Any) -> SubgoalSampler:
    """The sampler called ``name`` on the agent's experience and finished distances.

    Those that learn are trained from scratch, all by the same rounds and gradient steps as the
    agent's own sampler had.

    Args:
        settings: of the sampler, where they differ from the agent's.
    """
    c, rng = replace(agent.config, **settings), np.random.default_rng(seed)
    context = replace(agent.high_level.context, config=c)
    sampler = make_sampler(name, context.goal_dim, c, torch.Generator().manual_seed(seed))
    if not isinstance(sampler, LearnedSampler):
        return sampler
    planner = GraphPlanner(context, sampler)
    planner.fit_scale()
    for _ in range((agent.num_timesteps - c.learning_starts) // c.energy_train_freq + 1):
        context.pool = NodePool.draw(agent.replay_buffer, c.pool_size, rng)
        planner.learn(agent.replay_buffer, rng, log=lambda metrics: None)
    return sampler


# -------------------------------------------------------------------------------- cells


class MeasuredPlanner(GraphPlanner):
    """Draws other nodes for every task: in ``predict``, an agent draws the same ones for all.

    Args:
        context, sampler: see :class:`GraphPlanner`.
        seed: of all draws.
    """

    def __init__(self, context: PlanningContext, sampler: SubgoalSampler, seed: int) -> None:
        super().__init__(context, sampler)
        self.seeds = np.random.SeedSequence(seed)

    def begin(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        rng: np.random.Generator,
        learning: bool = False,
    ) -> GraphPlan:
        """See :class:`GraphPlanner`; ``rng`` is not used."""
        rng = np.random.default_rng(self.seeds.spawn(1)[0])
        return super().begin(observation, achieved_goal, goal, rng, learning)


def context_with(agent: HierarchicalEBMAgent, **settings: Any) -> PlanningContext:
    """What the agent plans with, as a copy with other settings of the planner."""
    context = agent.high_level.context
    # The calibrated cutoff counts as the agent's setting, which can be another, too.
    config = replace(context.config, **{"safe_edge": context.safe_edge, **settings})
    verified = config.unverified_cost > 1.0
    return replace(
        context,
        config=config,
        edge_cutoff=None,
        transition_map=context.transition_map if verified else None,
    )


def equip(
    agent: HierarchicalEBMAgent,
    sampler: SubgoalSampler | None = None,
    planner: type[MeasuredPlanner] = MeasuredPlanner,
    seed: int = 0,
    **settings: Any,
) -> None:
    """Let the agent predict with another sampler, planner, or planner's settings.

    Args:
        sampler: None keeps the one it has.
        planner: its class.
        seed: of the draws of nodes.
        settings: of the planner, where they differ from the agent's.
    """
    sampler = agent.sampler if sampler is None else sampler
    assert sampler is not None
    agent.high_level.planner = planner(context_with(agent, **settings), sampler, seed)


def attempt(agent: HierarchicalEBMAgent, world: World, n_tasks: int, seed: int) -> dict[str, Any]:
    """Far tasks, all side by side; means over them.

    Returns:
        success, its Wilson interval ci95, plan_ms (of one plan), plans (made for a task, the first
        included), path_ratio (median over successes of the way travelled over the shortest way to
        within the success radius), no_path (share of tasks whose first plan found none),
        reached_rate (of subgoals).
    """
    env: Any = gym.make_vec(
        "PointMassGoal-v0", num_envs=n_tasks, distance=far(world), **world.kwargs
    ).unwrapped
    observation, _ = env.reset(seed=seed)
    shortest = env.shortest_path_distance(observation["achieved_goal"], observation["desired_goal"])
    plans: list[Any] = [None] * n_tasks
    active, success = np.ones(n_tasks, np.bool_), np.zeros(n_tasks, np.bool_)
    travelled, no_path = np.zeros(n_tasks), np.zeros(n_tasks, np.bool_)
    action = np.zeros((n_tasks, *env.single_action_space.shape), np.float32)
    first = True
    stats = agent.high_level.planner.stats_of_predict
    stats.pop()
    while active.any():
        rows = np.flatnonzero(active)
        batch = {key: value[rows] for key, value in observation.items()}
        # Only those under way: a task that is over would be planned for on and on.
        action[rows], states = agent.predict(
            batch, [plans[i] for i in rows], np.full(len(rows), first)
        )
        for i, plan in zip(rows, states, strict=True):
            plans[i] = plan
        if first:
            no_path, first = np.array([not plan.path for plan in states]), False
        after, _, terminated, truncated, _ = env.step(action)
        moved = after["achieved_goal"][rows] - observation["achieved_goal"][rows]
        travelled[rows] += np.linalg.norm(moved, axis=-1)
        success |= active & terminated
        active &= ~(terminated | truncated)
        observation = after
    _, plans_made = stats.sums["graph/plan_ms"]
    means = stats.pop()
    ratio = travelled[success] / (shortest[success] - env.success_radius)
    return {
        "success": float(success.mean()),
        "ci95": [round(bound, 3) for bound in wilson_interval(int(success.sum()), n_tasks)],
        "plan_ms": means["graph/plan_ms"],
        "plans": plans_made / n_tasks,
        "path_ratio": float(np.median(ratio)) if success.any() else math.nan,
        "no_path": float(no_path.mean()),
        "reached_rate": means.get("subgoal/reached_rate", math.nan),
    }


def far(world: World) -> tuple[float, float]:
    """Shortest-path distances of far tasks, world units: the upper half of the world's range."""
    diameter = world.make().layout.diameter
    return diameter / 2, diameter
