"""Rows of the speed benchmark on a GPU: ``python -m benchmarks speed --device cuda``.

Wall-clock times, with the device waited for at the end of each block. Stable-Baselines3 runs on the
same device. ``floor`` is what the matrix products of an update would take at the rate that large
ones reach; the launch floor, in a row of its own, is a graph of as many operations that do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import hierebm
from benchmarks.speed import giant
from benchmarks.speed.loop import EPISODE, fill
from benchmarks.speed.measure import Row, Times, compare, interleave, limit, row, update_flops
from benchmarks.speed.peer import ENV, fill_sb3, sb3_ddpg, sbx_ddpg
from benchmarks.speed.update import ACTION_DIM, GOAL_DIM, HIDDEN, OBS_DIM, energy_works
from hierebm.control import DDPGConfig
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.side_by_side import SideBySide
from hierebm.nn.capture import Captured
from hierebm.planning.samplers.between_captured import CapturedBetweenEnergy
from hierebm.planning.samplers.between_energy import BetweenEnergy
from hierebm.replay import EpisodeReplay
from hierebm.replay.device_batches import HindsightBatches
from hierebm.replay.device_replay import DeviceReplay

CONFIG = DDPGConfig(hidden_sizes=HIDDEN, max_distance=20)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    batches: tuple[int, ...] = (256, 1024, 4096, 16384)
    stored: int = 1_000_000
    updates: int = 128
    peer_updates: int = 20
    blocks: int = 21
    n_envs: int = 64
    loop_steps: int = 6400
    seeds: int = 16
    giant_seeds: int = 3


QUICK = replace(Sizes(), batches=(256, 4096), stored=100_000, updates=64, blocks=7, giant_seeds=0)


def rows(sizes: Sizes, sb3: bool, sbx: bool, device: str) -> Iterator[Row]:
    """Yield the rows, each as soon as it is measured."""
    rate = _product_rate(device)
    yield row("products of 4096x4096 matrices, float32", ours=rate, unit="Gflop/s")
    yield from _start_up(sizes, device)
    for batch in sizes.batches:
        yield from _update(sizes, batch, sb3, sbx, device, rate)
    yield _launch_floor(sizes, device)
    yield from _loop(sizes, sb3, device)
    yield _seeds(sizes, device)
    yield _agents(sizes, device)
    yield _energy(sizes, device)
    if sizes.giant_seeds and giant.WORLD.is_there:
        yield from giant.rows(sizes.giant_seeds, device, partial(wait, device))


def check_device(device: str) -> None:
    """End with one sentence where there is no such device."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            f"speed --device {device} needs a GPU, and torch {torch.__version__} finds none here: "
            "run it where torch.cuda.is_available() is true, or without --device on the CPU"
        )


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(
    works: list[Callable[[], object]], units: list[int], blocks: int, device: str
) -> Times:
    """:func:`interleave`, waiting for the device; its times are wall-clock times."""

    def waiting(work: Callable[[], object]) -> Callable[[], None]:
        def whole() -> None:
            work()
            wait(device)

        return whole

    times = interleave([waiting(work) for work in works], units, blocks)
    return Times(times.wall, times.wall)


def _product_rate(device: str) -> float:
    """Gflop/s of large products."""
    size = 4096 if torch.device(device).type == "cuda" else 256
    a, b = torch.randn(2, size, size, device=device)
    times = in_turns([lambda: torch.mm(a, b)], [1], 10, device)
    return 2.0 * size**3 / 1e6 / float(np.median(times.wall))


def _low_level(device: str, seed: int = 0) -> CapturedDDPG:
    generator = torch.Generator().manual_seed(seed)
    return CapturedDDPG(OBS_DIM, GOAL_DIM, ACTION_DIM, CONFIG, generator, device)


def _source(stored: int, batch: int, device: str, seeds: int = 1) -> HindsightBatches:
    replays = []
    for seed in range(seeds):
        replay = EpisodeReplay(stored, OBS_DIM, GOAL_DIM, ACTION_DIM)
        fill(replay, stored, EPISODE, np.random.default_rng(seed))
        replay.n_added = stored
        replays.append(replay)
    return HindsightBatches(
        DeviceReplay(replays, device),
        batch,
        np.full((seeds, GOAL_DIM), 0.1, np.float32),
        [np.random.default_rng(seed) for seed in range(seeds)],
        future=0.4,
        random=0.25,
        horizon=10.0,
    )


def _start_up(sizes: Sizes, device: str) -> Iterator[Row]:
    """From nothing to the first update, and to the first launch of several."""
    source = _source(sizes.stored, 256, device)
    wait(device)
    low_level = _low_level(device)
    for what, n in (("first update", 1), ("first eight updates in one launch, after it", 8)):
        started = time.perf_counter()
        low_level.update_from(source, n)
        wait(device)
        ms = 1e3 * (time.perf_counter() - started)
        yield row(f"start-up: {what}, recording included", ours=ms, unit="ms")


def _update(
    sizes: Sizes, batch: int, sb3: bool, sbx: bool, device: str, rate: float
) -> Iterator[Row]:
    low_level, source = _low_level(device), _source(sizes.stored, batch, device)
    n = sizes.updates

    def one_by_one() -> None:
        for _ in range(n):
            low_level.update_from(source, 1)

    works: list[Callable[[], object]] = [lambda: low_level.update_from(source, n), one_by_one]
    units, peers = [n, n], {}
    if sb3:
        peers["SB3 DDPG+HER"] = sb3_ddpg(seed=0, buffer_size=sizes.stored, device=device)
    if sbx:
        peers["SBX TD3+HER as DDPG"] = sbx_ddpg(seed=0, buffer_size=sizes.stored)
    for model in peers.values():
        model.learn(1100)
        fill_sb3(model.replay_buffer, EPISODE, np.random.default_rng(0))
        train = partial(model.train, gradient_steps=sizes.peer_updates, batch_size=batch)
        # What is compiled for this batch is compiled here.
        train()
        works.append(train)
        units.append(sizes.peer_updates)
    times = in_turns(works, units, sizes.blocks, device)
    n_features = low_level.features.out_dim
    flops = update_flops(batch, n_features, ACTION_DIM, HIDDEN, CONFIG.n_critics, 20)
    what = f"update with its batch of {batch}, 3 critics of 20 bins"
    floor = 1e-6 * flops / rate
    yield compare(what, "ours, one a launch", times, unit="ms/update", floor=floor)
    for k, against in enumerate(peers, start=2):
        target = 8.0 if against.startswith("SB3") else None
        yield compare(what, against, times, unit="ms/update", floor=floor, target=target, peer=k)
    most = {256: 0.5, 4096: 1.0}
    if batch in most:
        ours = float(np.median(times.wall[0]))
        yield limit(what, ours, most[batch], "ms/update", floor=floor)


class _CountOperations(TorchDispatchMode):
    """Counts the operations that do more than look at the same memory otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_view = isinstance(result, torch.Tensor) and result._is_view()
        self.n += not (is_view and func._schema.name.rpartition("::")[2][-1] != "_")
        return result


def operations() -> int:
    """Operations of one update with its batch, counted on the CPU."""
    low_level, source = _low_level("cpu"), _source(1000, 32, "cpu")
    low_level.update_from(source, 1)
    (graph,) = low_level._learner._graphs.values()
    with _CountOperations() as counted:
        graph()
    return counted.n


def _launch_floor(sizes: Sizes, device: str) -> Row:
    number, n = torch.zeros(1, device=device), operations()

    def work() -> None:
        for _ in range(n):
            number.add_(1.0)

    graph = Captured(work, [number], torch.device(device))
    times = in_turns([graph], [1], sizes.blocks, device)
    what = f"launch floor: a graph of {n} operations on one number"
    return row(what, ours=float(np.median(times.wall)), unit="ms")


def _loop(sizes: Sizes, sb3: bool, device: str) -> Iterator[Row]:
    """The whole loop with native environments, one update for each of their steps."""
    n_envs, steps = sizes.n_envs, sizes.loop_steps
    agent = _agent(device)
    agent.learn(gym.make_vec(ENV, num_envs=n_envs), agent.config.learning_starts + 10 * n_envs)
    works: list[Callable[[], object]] = [
        lambda: agent.learn(total_timesteps=steps, reset_num_timesteps=False)
    ]
    units = [steps]
    if sb3:
        from stable_baselines3.common.env_util import make_vec_env

        model = sb3_ddpg(make_vec_env(ENV, n_envs), gradient_steps=n_envs, seed=0, device=device)
        # An episode lasts 100 steps, and the peer needs a finished one.
        model.learn(110 * n_envs)
        works.append(lambda: model.learn(n_envs, reset_num_timesteps=False))
        units.append(n_envs)
    times = in_turns(works, units, max(3, sizes.blocks // 3), device)
    what = f"training loop, {n_envs} native envs, 1 update per step"
    if sb3:
        yield compare(what, "SB3, DummyVecEnv", times, unit="ms/update", target=8.0)
    a_second = 1e3 / float(np.median(times.wall[0]))
    yield row(what, ours=a_second, unit="updates/s", target=">= 1500", met=a_second >= 1500)


def _agent(device: str, seed: int = 0) -> hierebm.DDPGHERAgent:
    return hierebm.DDPGHERAgent(
        seed=seed,
        device=device,
        hidden_sizes=HIDDEN,
        max_distance=20,
        action_repeat=1,
        buffer_size=100_000,
    )


def _agents(sizes: Sizes, device: str) -> Row:
    """The whole loop of many agents together, against that of one."""
    n_envs, steps = sizes.n_envs, sizes.loop_steps
    agents = [_agent(device, seed) for seed in range(sizes.seeds + 1)]
    envs = [gym.make_vec(ENV, num_envs=n_envs) for _ in agents]
    begin = agents[0].config.learning_starts + 10 * n_envs
    learn: dict[str, Any] = {"total_timesteps": steps, "reset_num_timesteps": False}
    one, *many = agents
    one.learn(envs[0], begin)
    hierebm.learn_together(many, envs[1:], total_timesteps=begin)
    times = in_turns(
        [
            lambda: hierebm.learn_together(many, [None] * len(many), **learn),
            lambda: one.learn(**learn),
        ],
        [steps, steps],
        max(3, sizes.blocks // 3),
        device,
    )
    what = f"training loop of {len(many)} agents together, {n_envs} native envs each"
    return _against_one(what, times, "ms/update")


def _seeds(sizes: Sizes, device: str) -> Row:
    """Updates of many agents in one launch, against those of one."""
    s, n, stored = sizes.seeds, sizes.updates, min(sizes.stored, 100_000)
    one, of_one = _low_level(device), _source(stored, 256, device)
    many = SideBySide([_low_level(device, seed) for seed in range(s)])
    of_many = _source(stored, 256, device, s)
    times = in_turns(
        [lambda: many.learn(of_many, n), lambda: one.update_from(of_one, n)],
        [n, n],
        sizes.blocks,
        device,
    )
    return _against_one(f"update of {s} agents side by side, batch 256", times, "ms")


def _against_one(what: str, times: Times, unit: str) -> Row:
    """What many take, the first of the times, against what one takes."""
    ours, peer = (float(np.median(some)) for some in times.wall)
    return row(
        what,
        against="one agent",
        ours=ours,
        peer=peer,
        ratio=ours / peer,
        unit=unit,
        target="<= 2x",
        met=ours <= 2.0 * peer,
    )


def _energy(sizes: Sizes, device: str) -> Row:
    steps = sizes.peer_updates
    works = energy_works((CapturedBetweenEnergy, BetweenEnergy), device, steps)
    times = in_turns(works, [steps] * 2, sizes.blocks, device)
    return compare("gradient step of the energy", "one operation after the other", times, unit="ms")
