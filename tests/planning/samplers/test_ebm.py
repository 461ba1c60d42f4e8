"""The energy's sampler: subgoals on the way, bisection, half the way."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch

from hierebm.energy.point_selection import farthest_points
from hierebm.planning.graph.edges import GraphConfig
from hierebm.planning.graph.nodes import NodePool, Nodes
from hierebm.planning.graph.stitching import stitched_between
from hierebm.planning.samplers import (
    EBMSampler,
    EnergyConfig,
    ReplaySampler,
)
from hierebm.replay import BetweenTriplets
from hierebm.types import BoolArray, FloatArray
from tests.planning.world import (
    GOAL,
    RULES,
    SCALES,
    START,
    WallWorld,
    make_pool,
    steps_between,
)


def test_farthest_points_spread() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (500, 2)).astype(np.float32)
    chosen = points[farthest_points(points, 20, first=3)]
    gaps = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1) + 9 * np.eye(20)
    assert gaps.min() > 0.15
    assert (chosen[0] == points[3]).all()


def _trained(pool: NodePool, steps: int = 150, bisection: bool = False) -> EBMSampler:
    rng = np.random.default_rng(0)
    config = EnergyConfig(energy_width=32, energy_lr=3e-3, bisection=bisection)
    sampler = EBMSampler(2, config, torch.Generator().manual_seed(0))
    sampler.fit_scale(SCALES)
    triplets = stitched_between(pool, RULES, rng, n_sources=200, n_nodes=300)
    for _ in range(steps):
        rows = rng.integers(len(triplets.start), size=128)
        batch = BetweenTriplets(*(getattr(triplets, f.name)[rows] for f in fields(triplets)))
        negatives = pool.achieved_goal[rng.integers(len(pool), size=(128, 16))]
        sampler.energy.update(batch, negatives)
    return sampler


def test_the_energys_sampler_bisects_first_and_spreads_the_rest() -> None:
    pool = make_pool()
    sampler, rules = (
        _trained(pool, bisection=True),
        replace(RULES, config=GraphConfig(safe_edge=4.0)),
    )
    few = sampler.sample(START, GOAL, 3, pool, np.random.default_rng(0), rules)
    assert len(few) == few.in_order == 3
    lengths = []
    for seed in range(10):
        many = sampler.sample(START, GOAL, 32, pool, np.random.default_rng(seed), rules)
        assert len(many) == 32 > many.in_order > 3
        assert np.isfinite(many.energy).all()
        way = np.stack([START, *many.achieved_goal[: many.in_order], GOAL])
        hops = steps_between(way[:-1], way[1:])
        assert hops.max() <= 6.0
        lengths.append(hops.sum())
    assert np.median(lengths) < 1.3 * steps_between(START[None], GOAL[None])[0]


class _KnownGround:
    """Experience of the pool's ground and of no other."""

    def __init__(self, pool: NodePool) -> None:
        self._pool = pool

    def _knows(self, points: FloatArray) -> BoolArray:
        gap = np.linalg.norm(self._pool.nearest(points, 1)[:, 0] - points, axis=-1)
        return gap < 0.5

    def least_steps(self, source: FloatArray, target: FloatArray) -> FloatArray:
        known = self._knows(source)[:, None] & self._knows(target)
        n, m = known.shape
        steps = steps_between(np.repeat(source, m, 0), np.tile(target, (n, 1))).reshape(n, m)
        return np.where(known, steps, np.float32(np.inf))

    def verify(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        return predicted, self._knows(source) & self._knows(target)

    def may_lead(self, source: FloatArray, target: FloatArray) -> bool:
        return bool(self._knows(np.stack([source, target])).all())


def test_a_bisected_way_from_unknown_ground_begins_at_the_nearest_known_state() -> None:
    pool = make_pool()
    sampler = _trained(pool)
    rules = replace(RULES, config=GraphConfig(safe_edge=4.0), verifier=_KnownGround(pool))
    start, goal = np.array([[-0.6, -0.6], [4.6, -0.6]], np.float32)
    for n in (1, 2, 16):
        nodes = sampler.lay_out(start, goal, n, pool, np.random.default_rng(0), rules)
        way, near = nodes.achieved_goal[: nodes.in_order], pool.nearest(np.stack([start, goal]), 1)
        assert len(nodes) == n and (way[0] == near[0, 0]).all()
        assert n == 1 or (way[-1] == near[1, 0]).all()
    drawn = sampler.sample(start, goal, 16, pool, np.random.default_rng(0), rules)
    assert drawn.in_order == 0, "by the setting, it is laid out on demand only"
    # No nodes are spent on the segments between known and unknown ground.
    assert nodes.in_order < 16
    hops = steps_between(way[:-1], way[1:])
    assert hops.max() <= 6.0


def test_the_energy_tells_half_the_way_from_anywhere_on_it() -> None:
    pool = make_pool()
    energy = _trained(pool, steps=400).energy
    w = pool.achieved_goal
    start, goal = np.tile(START, (len(w), 1)), np.tile(GOAL, (len(w), 1))
    done = steps_between(start, w) / (steps_between(start, w) + steps_between(w, goal))
    spread = []
    for half in (False, True):
        chance = np.exp(-energy.energy(w, START, GOAL, half).astype(np.float64))
        spread.append(np.sqrt(np.average((done - 0.5) ** 2, weights=chance)))
    assert spread[1] < 0.8 * spread[0], spread


def test_the_energy_draws_subgoals_on_the_way_and_replay_does_not() -> None:
    pool = make_pool()
    ebm = _trained(pool)
    d = WallWorld().distance
    detours = {}
    for name, sampler in (("ebm", ebm), ("replay", ReplaySampler())):
        nodes = sampler.sample(START, GOAL, 32, pool, np.random.default_rng(0))
        assert isinstance(nodes, Nodes) and len(nodes) == 32
        zeros = np.zeros((32, 4), np.float32)
        start, goal = np.tile(START, (32, 1)), np.tile(GOAL, (32, 1))
        w = nodes.achieved_goal
        detours[name] = np.median(d(zeros, start, w) + d(zeros, w, goal)) / float(
            d(zeros[:1], START[None], GOAL[None])[0]
        )
    assert detours["ebm"] < 1.06 < 1.12 < detours["replay"], detours
