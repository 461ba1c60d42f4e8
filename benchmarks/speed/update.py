"""Rows of the update: the whole training loop, the update alone, the critic ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import hierebm
from benchmarks.speed.measure import (
    Row,
    compare,
    floor_ms,
    gemm,
    interleave,
    row,
    update_flops,
)
from benchmarks.speed.peer import ENV, PlainDDPG, sb3_ddpg, sbx_ddpg
from hierebm.control import DDPGConfig, DistanceDDPG, FastDistanceDDPG
from hierebm.planning.samplers import BetweenEnergy, EnergyConfig
from hierebm.planning.samplers.between_kernels import FastBetweenEnergy
from hierebm.replay import BetweenTriplets, TransitionBatch, sample_transitions
from hierebm.types import FloatArray

HIDDEN, BATCH = (256, 256), 256
OBS_DIM, GOAL_DIM, ACTION_DIM = 4, 2, 2


def scalar_agent(**settings: Any) -> hierebm.DDPGHERAgent:
    """Our flat agent with networks and inputs as large as Stable-Baselines3's."""
    return hierebm.DDPGHERAgent(
        critic="scalar",
        n_critics=1,
        hidden_sizes=HIDDEN,
        fourier_features=0,
        batch_size=BATCH,
        **settings,
    )


def rows(quick: bool, sb3: bool, sbx: bool) -> Iterator[Row]:
    """Yield the rows, each as soon as it is measured."""
    if sb3:
        yield from _against_sb3(quick, sbx)
    yield from _ensemble(quick)
    yield _energy(quick)


def _against_sb3(quick: bool, sbx: bool) -> Iterator[Row]:
    agent, model = scalar_agent(seed=0), sb3_ddpg(seed=0)
    peers = [model, sbx_ddpg(seed=0)] if sbx else [model]
    agent.learn(gym.make(ENV), 1500)
    for peer in peers:
        peer.learn(1500)
    steps, blocks = (100, 7) if quick else (250, 21)
    products, gflop = gemm()
    assert isinstance(agent.low_level, DistanceDDPG)
    # The input of Stable-Baselines3's networks has 8 columns too: three keys, 4 + 2 + 2.
    flops = update_flops(BATCH, agent.low_level.features.out_dim, ACTION_DIM, HIDDEN, 1, 1)

    loops = [
        partial(learner.learn, total_timesteps=steps, reset_num_timesteps=False)
        for learner in (agent, *peers)
    ]
    times = interleave([*loops, products], [steps] * len(loops) + [1], blocks)
    rate = _rate(gflop, times.cpu[-1])
    yield row("products of 256x256 matrices", ours=rate, unit="Gflop/s")
    for k, against in enumerate(("SB3 DDPG+HER", "SBX TD3+HER as DDPG")[: len(peers)], start=1):
        yield compare(
            "training loop, 1 env, 1 update per step, scalar critic",
            against,
            times,
            unit="ms/step",
            target=2.0 if k == 1 else None,
            floor=floor_ms(flops, rate),
            peer=k,
        )

    times = interleave(
        [
            lambda: repeat(steps, lambda: update_of(agent)),
            lambda: repeat(steps, lambda: model.train(gradient_steps=1, batch_size=BATCH)),
            products,
        ],
        [steps, steps, 1],
        blocks,
    )
    yield compare(
        "update with its hindsight batch, scalar critic",
        "SB3 DDPG+HER",
        times,
        unit="ms/update",
        target=2.0,
        floor=floor_ms(flops, _rate(gflop, times.cpu[2])),
    )


def update_of(agent: hierebm.DDPGHERAgent) -> None:
    """One update as the agent's own training makes it: batch, gradient step, log."""
    assert agent.env is not None
    c = agent.config
    batch = sample_transitions(
        agent.replay_buffer,
        c.batch_size,
        agent.env.reached,
        agent.rng,
        future=c.her_future,
        random=c.her_random,
        horizon=c.her_horizon,
    )
    for key, value in agent.low_level.update(batch).items():
        agent.logger.record_mean(key, value)


def _energy(quick: bool) -> Row:
    """The gradient step of the energy, by hand and by autograd."""
    steps, blocks = (3, 7) if quick else (10, 21)
    works = energy_works((FastBetweenEnergy, BetweenEnergy), "cpu", steps)
    times = interleave(works, [steps] * 2, blocks)
    return compare("gradient step of the energy", "our autograd reference", times, unit="ms")


def energy_works(
    kinds: tuple[type[BetweenEnergy], ...], device: str, steps: int
) -> list[Callable[[], object]]:
    """For each kind of energy, so many gradient steps on batches of the default size."""
    config, rng = EnergyConfig(), np.random.default_rng(0)
    # On one batch alone, the losses would vanish, and take their time with tiny numbers.
    batches = [_energy_batch(rng, config) for _ in range(20)]
    ways = [kind(GOAL_DIM, config, torch.Generator().manual_seed(0), device) for kind in kinds]
    turns = [cycle(batches) for _ in kinds]
    return [
        lambda way=way, turn=turn: repeat(steps, lambda: way.update(*next(turn)))  # type: ignore[misc]
        for way, turn in zip(ways, turns, strict=True)
    ]


def _energy_batch(
    rng: np.random.Generator, config: EnergyConfig
) -> tuple[BetweenTriplets, FloatArray]:
    n, k = config.energy_batch_size, config.energy_negatives
    start, goal, between = rng.normal(size=(3, n, GOAL_DIM)).astype(np.float32)
    negatives = rng.normal(size=(n, k, GOAL_DIM)).astype(np.float32)
    return BetweenTriplets(start, goal, between, rng.random(n) < 0.5), negatives


def _ensemble(quick: bool) -> Iterator[Row]:
    """Three critics of twenty bins on the same batches, in three ways of writing it."""
    config = DDPGConfig(hidden_sizes=HIDDEN, max_distance=20)

    def build(kind: Callable[..., Any]) -> Any:
        generator = torch.Generator().manual_seed(0)
        return kind(OBS_DIM, GOAL_DIM, ACTION_DIM, config, generator)

    ways = [build(kind) for kind in (FastDistanceDDPG, PlainDDPG, DistanceDDPG)]
    rng = np.random.default_rng(0)
    batches = [cycle([random_batch(rng) for _ in range(20)]) for _ in ways]
    updates, blocks = (20, 7) if quick else (40, 21)
    products, gflop = gemm()
    works = [
        lambda way=way, turn=turn: repeat(updates, lambda: way.update(next(turn)))
        for way, turn in zip(ways, batches, strict=True)
    ]
    times = interleave([*works, products], [updates] * 3 + [1], blocks)
    flops = update_flops(
        BATCH, ways[0].features.out_dim, ACTION_DIM, HIDDEN, config.n_critics, config.max_distance
    )
    floor = floor_ms(flops, _rate(gflop, times.cpu[3]))
    what = "update, 3 critics of 20 bins"
    yield compare(what, "plain modules", times, unit="ms/update", target=1.6, floor=floor)
    yield compare(what, "our autograd reference", times, unit="ms/update", floor=floor, peer=2)


def random_batch(rng: np.random.Generator) -> TransitionBatch:
    """A batch of random transitions: for timing, their values do not matter."""

    def normal(width: int) -> np.ndarray:
        return rng.normal(size=(BATCH, width)).astype(np.float32)

    return TransitionBatch(
        observation=normal(OBS_DIM),
        achieved_goal=normal(GOAL_DIM),
        action=np.tanh(normal(ACTION_DIM)),
        next_observation=normal(OBS_DIM),
        next_achieved_goal=normal(GOAL_DIM),
        goal=normal(GOAL_DIM),
        reached=rng.random(BATCH) < 0.1,
        failure=rng.random(BATCH) < 0.02,
    )


def repeat(n: int, work: Callable[[], object]) -> None:
    """Call ``work`` n times."""
    for _ in range(n):
        work()


def _rate(gflop: float, ms: np.ndarray) -> float:
    return gflop / (1e-3 * float(np.median(ms)))
