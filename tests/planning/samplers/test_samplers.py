"""Subgoal samplers: one interface, each does what its name says, and survives save and load."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm import HierarchicalEBMAgent
from hierebm.energy.point_selection import kmeans_medoids
from hierebm.planning.graph.edges import EdgeRules, GraphConfig
from hierebm.planning.graph.nodes import NodePool
from hierebm.planning.samplers import (
    SAMPLERS,
    EnergyConfig,
    LearnedSampler,
    TrainingData,
    make_sampler,
)
from hierebm.replay import BetweenTriplets, EpisodeReplay
from hierebm.replay.scales import InputScales
from tests.toys import SMALL

TINY = EnergyConfig(energy_width=32, energy_depth=2, energy_lr=3e-3, energy_batch_size=128)
STEP = np.array([0.1, 0.1], np.float32)
ZERO, TWO = np.zeros(2, np.float32), np.full(2, 2.0, np.float32)
SCALES = InputScales(ZERO, TWO, ZERO, TWO, STEP)


class Euclidean:
    """Euclidean distances, in steps."""

    def distance(self, observation: Any, achieved_goal: Any, goal: Any, reduce: str = "max") -> Any:
        return np.maximum(np.linalg.norm(goal - achieved_goal, axis=-1) / 0.1, 1.0)


def _near(achieved_goal: Any, goal: Any) -> Any:
    return np.linalg.norm(achieved_goal - goal, axis=-1) <= 0.1


RULES = EdgeRules(Euclidean(), GraphConfig(), STEP, _near)


@cache
def _walks(n_walks: int = 300, length: int = 40) -> EpisodeReplay:
    """Straight walks in random directions on the square [-2, 2]^2, reflected at its sides.

    No test adds to them.
    """
    rng = np.random.default_rng(0)
    replay = EpisodeReplay(n_walks * (length + 1), 2, 2, 2)
    for _ in range(n_walks):
        at = rng.uniform(-2, 2, 2)
        angle = rng.uniform(0, 2 * np.pi)
        move = 0.1 * np.array([np.cos(angle), np.sin(angle)])
        for t in range(length):
            move = np.where(np.abs(at + move) > 2, -move, move)
            a, b = at[None].astype(np.float32), (at + move)[None].astype(np.float32)
            no, end = np.zeros(1, np.bool_), np.array([t == length - 1])
            replay.add(a, a, b, np.zeros((1, 2), np.float32), b, b, no, end)
            at = at + move
    return replay


def _data() -> TrainingData:
    replay, rng = _walks(), np.random.default_rng(1)
    pool = NodePool.draw(replay, 1000, rng)
    return TrainingData(replay, pool, BetweenTriplets.none(2), 0.8, rng)


def _trained(name: str, steps: int, config: EnergyConfig = TINY) -> tuple[Any, TrainingData]:
    data = _data()
    sampler = make_sampler(name, 2, config, torch.Generator().manual_seed(0))
    if isinstance(sampler, LearnedSampler):
        sampler.fit_scale(SCALES)
        for _ in range(steps):
            assert np.isfinite(list(sampler.train(data).values())).all()
    return sampler, data


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_answer_depends_on_the_query_and_its_generator_alone(name: str) -> None:
    sampler, data = _trained(name, 3)
    ends = np.random.default_rng(2).uniform(-2, 2, (2, 5, 2)).astype(np.float32)

    def answers(order: list[int]) -> dict[int, Any]:
        return {
            i: sampler.sample(*ends[:, i], 12, data.pool, np.random.default_rng(i), RULES)
            for i in order
        }

    first, second = answers([0, 1, 2, 3, 4]), answers([3, 0, 4, 2, 1])
    for i, nodes in first.items():
        assert nodes.achieved_goal.shape == (12, 2) and nodes.observation.shape == (12, 2)
        np.testing.assert_array_equal(second[i].achieved_goal, nodes.achieved_goal)
        np.testing.assert_array_equal(second[i].energy, nodes.energy)
    ours = first[0].achieved_goal
    if name == "uniform" or name == "cvae":
        return  # points of their own
    gap = np.linalg.norm(ours[:, None] - data.pool.achieved_goal, axis=-1).min(1)
    assert gap.max() == 0.0, "stored states"


@pytest.mark.parametrize(("name", "steps"), [("ebm", 120), ("cvae", 400), ("contrastive", 200)])
def test_learned_samplers_draw_subgoals_on_the_way(name: str, steps: int) -> None:
    sampler, data = _trained(name, steps)
    ends = np.random.default_rng(3).uniform(-1.8, 1.8, (2, 300, 2)).astype(np.float32)
    far = np.linalg.norm(ends[0] - ends[1], axis=-1)
    # Walks are 4 long: longer ways are for stitching.
    ends = ends[:, (far > 1.2) & (far < 3)][:, :40]
    w = np.stack(
        [
            sampler.sample(s, g, 16, data.pool, np.random.default_rng(i), RULES).achieved_goal
            for i, (s, g) in enumerate(zip(*ends, strict=True))
        ]
    )
    through = np.linalg.norm(w - ends[0][:, None], axis=-1)
    through += np.linalg.norm(w - ends[1][:, None], axis=-1)
    ratio = np.median(through / np.linalg.norm(ends[0] - ends[1], axis=-1)[:, None])
    anywhere = np.linalg.norm(w[:, None] - ends[0][None, :, None], axis=-1)
    anywhere += np.linalg.norm(w[:, None] - ends[1][None, :, None], axis=-1)
    elsewhere = np.median(anywhere / np.linalg.norm(ends[0] - ends[1], axis=-1)[None, :, None])
    assert ratio < 1.6 and elsewhere > 1.15 * ratio, (ratio, elsewhere)
    way = (ends[1] - ends[0])[:, None]
    along = ((w - ends[0][:, None]) * way).sum(-1) / np.square(way).sum(-1)
    assert np.median(along.std(1)) > 0.08, "all along the way, not in one place"


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_agent_with_any_sampler_is_saved_loaded_and_resumed_bit_for_bit(
    name: str, tmp_path: Path
) -> None:
    agent = HierarchicalEBMAgent(seed=0, subgoal_sampler=name, **SMALL)
    agent.learn("PointMassGoal-v0", 620)
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.zip")
    other = HierarchicalEBMAgent.load(tmp_path / "agent.zip", env="PointMassGoal-v0")
    other.load_replay_buffer(tmp_path / "replay.zip")
    assert other.config.subgoal_sampler == name
    observation, _ = gym.make_vec("PointMassGoal-v0", num_envs=4).reset(seed=0)
    one = {key: value[0] for key, value in observation.items()}
    for learned in (False, True):
        if learned:
            for a in (agent, other):
                a.learn(gym.make("PointMassGoal-v0"), 410, reset_num_timesteps=False)
        (ours, plans), (theirs, others) = (a.predict(observation) for a in (agent, other))
        assert np.array_equal(ours, theirs)
        for plan, again in zip(plans, others, strict=True):
            assert np.array_equal(plan.subgoal, again.subgoal)
        assert np.array_equal(agent.plan(one).nodes, other.plan(one).nodes)


def test_k_means_nodes_are_the_same_whatever_is_asked_until_the_pool_changes() -> None:
    sampler, data = _trained("kmeans", 0)
    ask = np.random.default_rng(0).uniform(-2, 2, (4, 2)).astype(np.float32)
    first = sampler.sample(ask[0], ask[1], 20, data.pool, np.random.default_rng(0))
    assert sampler.sample(ask[2], ask[3], 20, data.pool, np.random.default_rng(1)) is first
    redrawn = NodePool.draw(data.replay, 500, np.random.default_rng(9))
    second = sampler.sample(ask[0], ask[1], 20, redrawn, np.random.default_rng(0))
    assert not np.array_equal(first.achieved_goal, second.achieved_goal)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 60))
def test_medoids_are_points_and_lloyd_does_not_spread_worse_than_its_start(
    seed: int, n: int, m: int
) -> None:
    points = np.random.default_rng(seed).normal(size=(m, 2)).astype(np.float32)

    def spread(iterations: int) -> float:
        rows = kmeans_medoids(points, n, iterations, np.random.default_rng(seed))
        assert len(np.unique(rows)) == len(rows) <= min(n, m) and (rows < m).all()
        gaps = np.square(points[:, None] - points[rows][None]).sum(-1).min(1)
        return float(gaps.sum())

    # Snapping to stored points may cost a little again.
    assert spread(30) <= 1.5 * spread(0) + 1e-5


def test_k_means_centres_find_the_clusters() -> None:
    rng = np.random.default_rng(0)
    middles = np.array([[0, 0], [5, 0], [0, 5], [5, 5]], np.float32)
    points = (middles[:, None] + 0.3 * rng.normal(size=(4, 100, 2))).reshape(-1, 2)
    rows = kmeans_medoids(points.astype(np.float32), 4, 20, rng)
    gaps = np.linalg.norm(points[rows][:, None] - middles, axis=-1)
    assert sorted(gaps.argmin(1).tolist()) == [0, 1, 2, 3] and gaps.min(1).max() < 0.25


def test_connectivity_tells_neighbours_from_strangers() -> None:
    sampler, data = _trained("cvae", 250)
    near = data.futures(500, 4.0)
    _, verified = sampler.connectivity.verify(*near, np.ones(500, np.float32))
    far = near[0], data.states(500)
    _, believed = sampler.connectivity.verify(*far, np.ones(500, np.float32))
    assert verified.mean() > 0.85 and believed.mean() < 0.35
