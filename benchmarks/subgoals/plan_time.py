"""What a plan costs: how many pairs the critics are asked about, and the time by their size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks.subgoals.measure import World, context_with, far
from hierebm import HierarchicalEBMAgent
from hierebm.control import DistanceDDPG
from hierebm.nn.layers import MLP
from hierebm.planning.graph.edges import DistanceModel
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.samplers import SubgoalSampler
from hierebm.types import FloatArray

UNITS = (256, 512, 1024)
"""Widths of the larger critics that times are measured with."""


class LargerCritics:
    """The agent's own distances at the price of larger networks.

    What subgoals are worth depends on what a distance costs. So that plans stay the same, whatever
    the size, an actor and critics as deep as the agent's but with more units are evaluated besides,
    for nothing but the time that it takes.

    Args:
        critics: whose answers count.
        low_level: whose networks are imitated.
        units: of each hidden layer; 0 for no other networks at all.
    """

    def __init__(self, critics: DistanceModel, low_level: DistanceDDPG, units: int) -> None:
        c, self.inputs = low_level.config, low_level.features.out_dim
        widths, generator = [units] * len(c.hidden_sizes), torch.Generator().manual_seed(0)
        self.networks = [
            MLP(self.inputs, widths, low_level.head.out_dim, generator=generator)
            for _ in range(c.n_critics + 1 if units else 0)
        ]
        self.critics, self.asked = critics, 0

    @torch.inference_mode()
    def distance(
        self, observation: FloatArray, achieved_goal: FloatArray, goal: FloatArray
    ) -> FloatArray:
        """See :class:`DistanceModel`."""
        self.asked += len(observation)
        if len(observation):
            rows = torch.zeros(len(observation), self.inputs)
            for network in self.networks:
                network(rows)
        return self.critics.distance(observation, achieved_goal, goal)


def plan_time(
    agent: HierarchicalEBMAgent,
    sampler: SubgoalSampler,
    world: World,
    n_tasks: int = 20,
    repeats: int = 3,
    units: Sequence[int] = UNITS,
    **settings: Any,
) -> dict[str, float]:
    """First plans of far tasks.

    Args:
        settings: of the planner, where they differ from the agent's.

    Returns:
        ``asked``: pairs a plan that the critics are asked about; ``plan_ms``: processor time of a
        plan, and ``plan_ms_UNITS`` with critics of so many units. Medians over the repeats, sizes
        interleaved.
    """
    context = context_with(agent, **settings)
    env = gym.make_vec("PointMassGoal-v0", num_envs=n_tasks, distance=far(world), **world.kwargs)
    assert agent.spaces is not None and isinstance(agent.low_level, DistanceDDPG)
    tasks = agent.spaces.flatten(env.reset(seed=0)[0])
    times: dict[int, list[float]] = {}
    asked = 0
    for _ in range(repeats):
        for n in (0, *units):
            model = LargerCritics(context.model, agent.low_level, n)
            planner = GraphPlanner(replace(context, model=model), sampler)
            started = time.process_time()
            for i in range(n_tasks):
                task = tasks[i]
                planner.begin(
                    task.observation,
                    task.achieved_goal,
                    task.desired_goal,
                    np.random.default_rng(i),
                )
            times.setdefault(n, []).append(1e3 * (time.process_time() - started) / n_tasks)
            asked = model.asked
    named = {f"plan_ms_{n}" if n else "plan_ms": median(ms) for n, ms in times.items()}
    return {"asked": asked / n_tasks, **named}
