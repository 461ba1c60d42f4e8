"""Rings and batches on a device hold and draw what the host's do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierebm.replay import EpisodeReplay, sample_transitions
from hierebm.replay.device_batches import MOST_AT_ONCE, HindsightBatches, geometric
from hierebm.replay.device_replay import DeviceReplay
from tests.device_rules import GraphRules

SHARES = {"future": 0.4, "random": 0.25, "horizon": 3.0}


def step(replay: EpisodeReplay, rng: np.random.Generator, ends: float = 0.2) -> None:
    """A step with random contents; now and then an environment does nothing."""
    n = replay.n_envs

    def some(width: int) -> np.ndarray:
        return rng.normal(size=(n, width)).astype(np.float32)

    failure = rng.random(n) < 0.3
    parts = some(3), some(2), some(2), some(1), some(3), some(2)
    replay.add(*parts, failure, rng.random(n) < ends, rng.random(n) < 0.8)


def check_same(device: DeviceReplay, s: int = 0) -> None:
    """All that can be drawn from a ring is as on the host."""
    replay = device.replays[s]
    usable = np.flatnonzero(replay.has_action)
    shares = (np.arange(len(usable)) + 0.5) / len(usable)
    u = torch.zeros((len(device.replays), len(usable)), dtype=torch.float64)
    u[s] = torch.from_numpy(shares)
    rows = device.rows_at(u)
    assert rows[s].tolist() == usable.tolist()
    left = replay.steps_left(usable)
    assert device.steps_left(rows)[s].tolist() == left.tolist()
    here = replay.observation, replay.achieved_goal, replay.goal, replay.action
    here += (replay.failure[:, None].astype(np.float32),)
    for got, expected in zip(device.read(rows), here, strict=True):
        assert np.array_equal(got[s], expected[usable])
    steps = torch.ones_like(rows)
    steps[s] = torch.from_numpy(left)
    for ahead, host in ((1, 1), (steps, left)):
        later = device.later(rows, ahead)
        assert later[s].tolist() == replay.later(usable, host).tolist()
        for got, expected in zip(device.read(later)[:2], here, strict=False):
            assert np.array_equal(got[s], expected[later[s].numpy()])


@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_copy_follows_the_ring(n_envs: int) -> None:
    rng = np.random.default_rng(0)
    replay = EpisodeReplay(40 * n_envs, 3, 2, 1, n_envs)
    device = DeviceReplay([replay], "cpu")
    with pytest.raises(RuntimeError, match="no transitions yet"):
        device.sync()
    for i in range(150):
        # Long episodes at first, which the ring does not hold as a whole.
        step(replay, rng, ends=0.0 if i < 60 else 0.2)
        if i % 7 == 0:
            device.sync()
            check_same(device)
        if i == 70:
            replay.close_episodes()
        if i == 90:
            states = [rng.normal(size=(25, w)).astype(np.float32) for w in (3, 2, 2, 1)]
            replay.add_episodes(*states, np.arange(25) % 5 == 4)
    other = EpisodeReplay(40 * n_envs, 3, 2, 1, n_envs)
    step(other, rng)
    device.replays[0] = other
    device.sync()
    check_same(device)


def test_rings_side_by_side_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    replays = [EpisodeReplay(30, 3, 2, 1, 2) for _ in range(3)]
    device = DeviceReplay(replays, "cpu")
    for s, replay in enumerate(replays):
        for _ in range(5 + 9 * s):
            step(replay, rng)
    device.sync()
    for s in range(3):
        check_same(device, s)
    with pytest.raises(ValueError, match="of one size"):
        DeviceReplay([replays[0], EpisodeReplay(60, 3, 2, 1, 2)], "cpu")


def numbered(n_envs: int = 2) -> EpisodeReplay:
    """A ring that says in its observations and achieved goals which row each is of, and in the
    goals, 1000 later, which row they were chased in."""
    rng = np.random.default_rng(1)
    replay = EpisodeReplay(60, 3, 2, 1, n_envs)
    while replay.n_added < 100:
        step(replay, rng, ends=0.1)
    rows = np.arange(60, dtype=np.float32)
    replay.observation[:, 0] = rows
    replay.achieved_goal[:, 0] = replay.achieved_goal[:, 1] = rows
    replay.goal[:] = 1000.0 + rows[:, None]
    return replay


def reached(achieved_goal: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.linalg.norm(achieved_goal - goal, axis=-1) <= 3.0


def test_batches_are_drawn_as_on_the_host() -> None:
    replay, n = numbered(), 400
    tolerance = np.full((1, 2), 3.0, np.float32)
    source = HindsightBatches(
        DeviceReplay([replay], "cpu"), n, tolerance, [np.random.default_rng(0)], **SHARES
    )
    rng = np.random.default_rng(2)
    counts = np.zeros((2, 60)), np.zeros((2, 60)), np.zeros((2, 20))
    usable = np.flatnonzero(replay.has_action)
    for _ in range(6):
        source.draw(MOST_AT_ONCE)
        with GraphRules():
            together = source.batches(MOST_AT_ONCE)
        drawn = [type(together)._make(part) for part in zip(*(p[0] for p in together), strict=True)]
        for kind, batches in enumerate(
            ([type(b)._make(part.numpy() for part in b) for b in drawn],
             [sample_transitions(replay, n, reached, rng, **SHARES) for _ in drawn])
        ):  # fmt: skip
            for b in batches:
                rows = b.observation[:, 0].astype(int)
                assert np.isin(rows, usable).all()
                assert np.array_equal(b.action, replay.action[rows])
                after = replay.later(rows, 1)
                assert np.array_equal(b.next_observation, replay.observation[after])
                assert np.array_equal(b.next_achieved_goal, replay.achieved_goal[after])
                assert np.array_equal(b.reached, reached(b.next_achieved_goal, b.goal))
                assert np.array_equal(b.failure, replay.failure[rows])
                assert np.array_equal(b.goal[260:], replay.goal[rows[260:]])
                goals = b.goal[:260, 0].astype(int)
                assert np.isin(goals[160:], usable).all()
                ahead = (goals[:160] - rows[:160]) // replay.n_envs % replay.n_slots
                assert ((ahead >= 1) & (ahead <= replay.steps_left(rows[:160]))).all()
                counts[0][kind] += np.bincount(rows, minlength=60)
                counts[1][kind] += np.bincount(goals[160:], minlength=60)
                counts[2][kind] += np.bincount(ahead, minlength=20)[:20]
    for ours, theirs in counts:
        seen = theirs > 0
        assert (ours[~seen] <= 3).all()
        # Of equal means and variances: the difference of two Poisson numbers.
        off = (ours - theirs)[seen] / np.sqrt((ours + theirs)[seen])
        assert np.abs(off).max() < 4.0 and np.square(off).mean() < 2.0


def test_random_numbers_follow_from_the_agents_generator_alone() -> None:
    replay = numbered()

    def source(seeds: list[int]) -> HindsightBatches:
        rings = DeviceReplay([replay] * len(seeds), "cpu")
        tolerance = np.full((len(seeds), 2), 3.0, np.float32)
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return HindsightBatches(rings, 50, tolerance, rngs, **SHARES)

    together, alone = source([3, 4]), source([4])
    for n in (1, MOST_AT_ONCE):
        together.draw(n), alone.draw(n)
        for a, b in zip(together.batches(n), alone.batches(n), strict=True):
            assert torch.equal(a[1:], b)
            assert not torch.equal(a[0], a[1]) or a.dtype == torch.bool


def test_geometric_numbers_have_the_distribution_of_numpys() -> None:
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    share = np.bincount(geometric(u, 4.0), minlength=10)[:10] / 20_000
    expected = np.array([0.0, *(0.75 ** np.arange(9) * 0.25)])
    np.testing.assert_allclose(share, expected, atol=1e-4)
    assert geometric(u, 1.0).unique().tolist() == [1]
    edges = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    assert geometric(edges, 10.0)[0] == 1 and 300 < geometric(edges, 10.0)[1] < 400
