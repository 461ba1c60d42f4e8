"""How a trained agent fares with other subgoals: worlds, tasks, cells, soundness of its edges."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hierebm import HierarchicalEBMAgent
from hierebm.evaluation import wilson_interval
from hierebm.planning.graph.diagnostics import EdgeSample, edges_between
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.graph.stitching import stitched_between
from hierebm.planning.graph_planner import PlanState, SubgoalPlanner
from hierebm.planning.samplers import LearntSampler, SubgoalSampler, make_sampler
from hierebm.planning.samplers.training_data import BetweenData, newest_triplets
from hierebm.replay import BetweenTriplets
from hierebm.types import FloatArray

STEP = 0.2
"""World units per step at the top speed of one axis."""
BANDS = ((1.0, 3.0), (3.0, 6.0), (6.0, 9.0), (9.0, 14.0), (14.0, 20.0))
"""Bands of predicted steps that errors are reported by."""


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
    sampler = make_sampler(name, len(agent.step_scale), c, torch.Generator().manual_seed(seed))
    if not isinstance(sampler, LearntSampler):
        return sampler
    shift, scale = (torch.from_numpy(x) for x in agent.goal_range)
    sampler.fit_scale(shift, scale, torch.from_numpy(agent.step_scale))
    stitched = BetweenTriplets.none(len(agent.step_scale))
    for _ in range((agent.num_timesteps - c.learning_starts) // c.energy_train_freq + 1):
        pool = NodePool.draw(agent.replay_buffer, c.pool_size, rng)
        if sampler.learns_from_triplets:
            fresh = stitched_between(pool, agent.high_level.edges(c), rng)
            stitched = newest_triplets(stitched, fresh, c.stitched_buffer)
        data = BetweenData(agent.replay_buffer, pool, stitched, c.stitched_share, rng)
        for _ in range(c.energy_gradient_steps):
            sampler.train(data)
    return sampler


# -------------------------------------------------------------------------------- cells


class ChoosingAnew(SubgoalPlanner):
    """Without commitment: the best subgoal is chosen anew at every step."""

    def step(
        self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> PlanState:
        """See :class:`SubgoalPlanner`."""
        self._find_path(plan, observation, achieved_goal)
        return plan


class Forgetting(SubgoalPlanner):
    """Without barred edges: what was tried and missed is as good as it was before."""

    def _replan(
        self, plan: PlanState, observation: FloatArray, achieved_goal: FloatArray
    ) -> PlanState:
        return self.begin(observation, achieved_goal, plan.goal, plan.rng)


def equip(
    agent: HierarchicalEBMAgent,
    sampler: SubgoalSampler | None = None,
    planner: type[SubgoalPlanner] = SubgoalPlanner,
    seed: int = 0,
    **settings: Any,
) -> None:
    """Let the agent predict with another sampler (None: its own), planner, or planner's settings.

    Every plan draws its nodes anew: the agent itself would draw the same ones for every task.
    """
    config = replace(agent.planner_config, **settings)
    edges = agent.high_level.edges(config)
    if config.unverified_cost <= 1.0:
        edges = replace(edges, transition_map=None)
    sampler = sampler or agent.sampler
    assert sampler is not None
    agent._predictor = planner(edges, sampler, config, learning=False)
    agent._predictor.pool = agent.planner.pool
    seeds = np.random.SeedSequence(seed)
    agent._plan_rng = lambda: np.random.default_rng(  # type: ignore[method-assign]
        seeds.spawn(1)[0]
    )


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
    agent._predictor.stats.pop()
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
    _, plans_made = agent._predictor.stats.sums["graph/plan_ms"]
    stats = agent._predictor.stats.pop()
    ratio = travelled[success] / (shortest[success] - env.success_radius)
    return {
        "success": float(success.mean()),
        "ci95": [round(bound, 3) for bound in wilson_interval(int(success.sum()), n_tasks)],
        "plan_ms": stats["graph/plan_ms"],
        "plans": plans_made / n_tasks,
        "path_ratio": float(np.median(ratio)) if success.any() else math.nan,
        "no_path": float(no_path.mean()),
        "reached_rate": stats.get("subgoal/reached_rate", math.nan),
    }


def far(world: World) -> tuple[float, float]:
    """Shortest-path distances of far tasks, world units: the upper half of the world's range."""
    diameter = world.make().layout.diameter
    return diameter / 2, diameter


# ---------------------------------------------------------------------------- soundness


def soundness(
    agent: HierarchicalEBMAgent, world: World, draws: int = 8, n_nodes: int = 300
) -> list[dict[str, Any]]:
    """The pairs that graphs over replay states ask about, against the true shortest paths.

    A wormhole is an edge whose true distance exceeds twice the predicted one by more than 6 steps.

    Returns:
        One row for all edges up to ``safe_edge`` and up to ``max_edge`` predicted steps, and one
        for each band of predictions: share of wormholes by the critics' word alone, share of
        edges that experience supports, share of wormholes among those; median error and the 99th
        percentile of the true steps.
    """
    c, rng = agent.config, np.random.default_rng(0)
    env = world.make()
    parts = [
        edges_between(
            agent.high_level.edges(c),
            NodePool.draw(agent.replay_buffer, n_nodes, rng),
            rng,
            true_steps=env.shortest_path_steps,
            n_nodes=n_nodes,
        )
        for _ in range(draws)
    ]
    edges = EdgeSample(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(EdgeSample))
    )
    critics, used = edges.predicted, edges.used
    assert edges.true is not None
    bands = [(0.0, c.safe_edge), (0.0, c.max_edge), *BANDS]
    rows = []
    for low, high in bands:
        by_critics = (critics > low) & (critics <= high)
        by_graph = (used > low) & (used <= high) & edges.verified
        believed, error = by_critics.sum(), (edges.true - critics)[by_critics]
        worst = float(np.quantile(edges.true[by_critics], 0.99)) if believed else math.nan
        rows.append(
            {
                "edges": f"{low:g} to {high:g}",
                "n": int(believed),
                "wormholes": _share(edges.underestimated(critics)[by_critics]),
                "supported": _share(edges.verified[by_critics]),
                "wormholes_supported": _share(edges.underestimated(used)[by_graph]),
                "error_median": float(np.median(error)) if believed else math.nan,
                "true_p99": worst,
            }
        )
    return rows


def _share(flags: np.ndarray) -> float:
    return float(np.mean(flags)) if len(flags) else math.nan
