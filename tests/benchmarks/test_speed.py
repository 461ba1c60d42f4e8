"""What the speed benchmark counts and compares is right; how long things take is not tested."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.speed import device
from benchmarks.speed import run as speed
from benchmarks.speed import time_to_success as timing
from benchmarks.speed.loop import fill, sb3_bytes
from benchmarks.speed.measure import (
    COLUMNS,
    Times,
    compare,
    fitted_exponent,
    floor_ms,
    growth,
    interleave,
    limit,
    ratio_statistics,
    row,
    update_flops,
)
from benchmarks.speed.peer import PlainDDPG, fill_sb3, sb3_ddpg
from benchmarks.speed.update import (
    ACTION_DIM,
    BATCH,
    GOAL_DIM,
    OBS_DIM,
    random_batch,
    update_of,
)
from hierebm import DDPGHERAgent
from hierebm.control import DDPGConfig, DistanceDDPG, FastDistanceDDPG
from hierebm.replay import EpisodeReplay


class CountProducts(TorchDispatchMode):
    """Adds up the flops of all products of two matrices; a sum over rows (1, B) (B, n) is none."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            a, b = args[-2:]
            if a.shape[0] > 1:
                self.flops += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "config",
    [
        DDPGConfig(hidden_sizes=(32, 16), max_distance=7, fourier_features=0),
        DDPGConfig(hidden_sizes=(24,), critic="scalar", n_critics=1, fourier_features=0),
        DDPGConfig(hidden_sizes=(8, 12, 20), n_critics=2, max_distance=4, fourier_features=0),
    ],
)
def test_the_floor_counts_the_products_that_the_update_makes(config: DDPGConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    low_level = FastDistanceDDPG(OBS_DIM, GOAL_DIM, ACTION_DIM, config, generator)
    batch = random_batch(np.random.default_rng(0))
    low_level.update(batch)
    with CountProducts() as counted:
        low_level.update(batch)
    expected = update_flops(
        BATCH,
        low_level.features.out_dim,
        ACTION_DIM,
        config.hidden_sizes,
        config.n_critics,
        low_level.head.out_dim,
    )
    assert counted.flops == expected > 0


def test_the_floor_is_flops_over_rate() -> None:
    assert floor_ms(2e9, 100.0) == pytest.approx(20.0)


def test_plain_modules_do_the_same_maths() -> None:
    config = DDPGConfig(hidden_sizes=(16, 16), n_critics=2, max_distance=6, fourier_features=4)
    reference, plain = (
        kind(OBS_DIM, GOAL_DIM, ACTION_DIM, config, torch.Generator().manual_seed(0))
        for kind in (DistanceDDPG, PlainDDPG)
    )
    plain.features.load_state_dict(reference.features.state_dict())
    with torch.no_grad():
        for name in ("actor", "actor_target"):
            linears = [m for m in getattr(plain, name) if isinstance(m, torch.nn.Linear)]
            for mine, theirs in zip(linears, getattr(reference, name).layers, strict=True):
                mine.load_state_dict(theirs.state_dict())
        for name in ("critics", "critics_target"):
            for e, critic in enumerate(getattr(plain, name)):
                linears = [m for m in critic if isinstance(m, torch.nn.Linear)]
                for mine, theirs in zip(linears, getattr(reference, name).layers, strict=True):
                    mine.weight.copy_(theirs.weight[e].t())
                    mine.bias.copy_(theirs.bias[e, 0])
    rng = np.random.default_rng(0)
    for _ in range(5):
        batch = random_batch(rng)
        assert plain.update(batch) == pytest.approx(reference.update(batch), rel=1e-4, abs=1e-5)


def test_the_timed_update_is_one_of_the_agents_own() -> None:
    agent = DDPGHERAgent(seed=0, hidden_sizes=(8,), batch_size=16, learning_starts=50)
    agent.learn(gym.make("PointMassGoal-v0"), 60)
    low_level = agent.low_level
    assert isinstance(low_level, DistanceDDPG)
    parameters = list(low_level.actor.parameters())
    before = [p.detach().clone() for p in parameters]
    update_of(agent)
    moved = [float((p.detach() - q).abs().max()) for p, q in zip(parameters, before, strict=True)]
    # Adam moves a parameter by its learning rate at most, or a little more.
    assert 0.0 < max(moved) < 4.0 * agent.config.actor_lr


# ------------------------------------------------------------------------------ statistics


def test_ratios_are_taken_block_by_block() -> None:
    ours, peer = np.array([1.0, 2.0, 10.0]), np.array([3.0, 4.0, 40.0])
    assert ratio_statistics(ours, peer) == (3.0, 2.0, 4.0)


@pytest.mark.parametrize(("target", "met"), [(2.5, True), (3.5, False), (None, None)])
def test_a_comparison_says_whether_its_target_is_met(target: float | None, met: bool) -> None:
    times = Times(np.array([[1.0, 2.0, 10.0], [3.0, 4.0, 40.0]]), np.ones((2, 3)))
    values = compare("x", "y", times, unit="ms", target=target, floor=0.5)
    assert (values["ours"], values["peer"], values["ratio"]) == (2.0, 4.0, 3.0)
    assert (values["ratio_min"], values["ratio_max"]) == (2.0, 4.0)
    assert (values["of_floor"], values["wall_ratio"]) == (4.0, 1.0)
    assert values["met"] is met
    assert set(values) == set(COLUMNS)


def test_growth_is_how_much_more_the_first_costs() -> None:
    times = Times(np.array([[1.2, 2.4], [1.0, 2.0]]), np.ones((2, 2)))
    values = growth("full", "empty", times, 1.1, "ms")
    assert values["ratio"] == pytest.approx(1.2)
    assert values["met"] is False
    assert growth("full", "empty", times, 1.3, "ms")["met"] is True


def test_a_limit_is_met_up_to_its_value() -> None:
    assert limit("x", 1.5, 1.5, "ms")["met"] is True
    assert limit("x", 1.6, 1.5, "ms")["met"] is False


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(ValueError, match="speedup"):
        row("x", speedup=3.0)


def test_blocks_take_turns_in_changing_order() -> None:
    calls: list[str] = []
    works = [lambda name=name: calls.append(name) for name in "ab"]
    times = interleave(works, [1, 10], 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert times.cpu.shape == times.wall.shape == (2, 3)
    assert (times.wall >= 0.0).all()


@settings(max_examples=50, deadline=None)
@given(
    exponent=st.floats(-3.0, 3.0),
    factor=st.floats(0.1, 100.0),
    x=st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True),
)
def test_a_power_law_has_its_exponent(exponent: float, factor: float, x: list[int]) -> None:
    assert fitted_exponent(x, [factor * v**exponent for v in x]) == pytest.approx(
        exponent, abs=1e-6
    )


@pytest.mark.parametrize("y", [[1.0, 0.0], [1.0, math.nan], [1.0, math.inf]])
def test_no_exponent_without_positive_numbers(y: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        fitted_exponent([1.0, 2.0], y)


# ------------------------------------------------------------------------ time to success


@pytest.mark.parametrize(
    ("rates", "steps", "success"),
    [
        ([0.2, 0.96, 0.97], 2000, True),
        ([0.96, 0.5, 0.95, 0.99], 3000, True),
        ([0.1, 0.2, 0.3, 0.4], 4000, False),
        # The last evaluation within the cap may still be confirmed or not.
        ([0.1, 0.2, 0.3, 0.96, 0.96], 4000, True),
        ([0.1, 0.2, 0.3, 0.96, 0.5], 5000, False),
    ],
)
def test_success_must_be_confirmed(
    rates: list[float], steps: int, success: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "EVERY", 1000)
    learned: list[int] = []
    given: Iterator[float] = iter(rates)
    reached = timing.time_to_success(learned.append, lambda: next(given), cap=4000)
    assert (reached.steps, reached.success) == (steps, success)
    assert next(given, None) is None
    assert set(learned) == {1000}


def test_tuning_takes_the_fastest_success_and_gives_up_on_slow_ones() -> None:
    seen: list[tuple[str, int, int]] = []
    outcomes = {
        "fails fast": timing.Reached(0.5, 100, False),
        "slow": timing.Reached(9.0, 3000, True),
        "fast": timing.Reached(2.0, 1000, True),
        "middling": timing.Reached(4.0, 800, True),
    }

    def run(settings: dict[str, Any], seed: int, cap: int) -> timing.Reached:
        seen.append((settings["name"], seed, cap))
        return outcomes[settings["name"]]

    best = timing.tuned("x", run, tuple({"name": name} for name in outcomes))
    assert best == {"name": "fast"}
    seed, cap = timing.TUNING_SEED, timing.CAP
    assert seen == [
        ("fails fast", seed, cap),
        ("slow", seed, cap),
        ("fast", seed, 12_000),
        ("middling", seed, 4000),
    ]


# ------------------------------------------------------------------------------ buffers


@pytest.mark.parametrize(("capacity", "stored"), [(100, 36), (100, 40), (36, 1000)])
def test_a_filled_buffer_is_as_if_episodes_had_been_added(capacity: int, stored: int) -> None:
    length = 8
    filled, added = (EpisodeReplay(capacity, 3, 2, 1) for _ in range(2))
    fill(filled, stored, length, np.random.default_rng(0))
    episodes = min(stored, capacity - 1) // (length + 1)
    for episode in range(episodes):
        for step in range(length):
            i = episode * (length + 1) + step
            added.add(
                *(
                    array[i : i + 1]
                    for array in (
                        filled.observation,
                        filled.achieved_goal,
                        filled.goal,
                        filled.action,
                        filled.observation[1:],
                        filled.achieved_goal[1:],
                        filled.failure,
                    )
                ),
                np.array([step == length - 1]),
            )
    assert filled.n_transitions == added.n_transitions == episodes * length
    np.testing.assert_array_equal(filled.time, added.time)
    np.testing.assert_array_equal(filled.episode_start, added.episode_start)
    np.testing.assert_array_equal(filled.episode_end, added.episode_end)
    np.testing.assert_array_equal(filled.has_action, added.has_action)
    np.testing.assert_allclose(filled.arc_length, added.arc_length, atol=1e-4)
    rows = np.flatnonzero(added.has_action)
    np.testing.assert_array_equal(filled.steps_left(rows), added.steps_left(rows))


def test_only_a_buffer_of_one_environment_is_filled() -> None:
    with pytest.raises(ValueError, match="one environment"):
        fill(EpisodeReplay(100, 3, 2, 1, n_envs=2), 50, 8, np.random.default_rng(0))


def test_the_peers_filled_buffer_relabels_within_episodes() -> None:
    pytest.importorskip("stable_baselines3")
    buffer = sb3_ddpg(gym.make("PointMassGoal-v0"), buffer_size=55, hidden=(8,)).replay_buffer
    fill_sb3(buffer, 10, np.random.default_rng(0))
    batch = buffer.sample(200)
    achieved = buffer.next_observations["achieved_goal"][:, 0]
    nodes = {tuple(point): i for i, point in enumerate(achieved)}
    virtual = batch.next_observations["desired_goal"].numpy()[-int(0.8 * 200) :]
    from_ = batch.next_observations["achieved_goal"].numpy()[-int(0.8 * 200) :]
    at, goal = ([nodes[tuple(point)] for point in points] for points in (from_, virtual))
    assert all(i // 10 == j // 10 and i <= j for i, j in zip(at, goal, strict=True))
    assert sb3_bytes(buffer) > 55 * 4 * (2 * 8 + 2 + 1)


# ------------------------------------------------------------------------------ picture


def test_the_picture_takes_rows_of_every_kind(tmp_path: Any) -> None:
    times = Times(np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2)))
    rows = [
        compare("update", "SB3 (x)", times, unit="ms/update", target=2.0),
        compare("update", "reference", times, unit="ms/update"),
        growth("full", "empty", times, 1.1, "ms/step"),
        limit("replan", 20.0, 25.0, "ms/plan", nodes=64),
        row("planning time", ours=1.0, unit="ms/plan", nodes=16),
        row("planning time", ours=2.0, unit="ms/plan", nodes=32),
        row("power", ours=1.0, unit="exponent"),
        row("memory", ours=54.0, peer=108.0, unit="bytes/transition"),
    ]
    speed.draw(rows, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_the_rows_of_a_gpu_run_on_the_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = device.Sizes((256,), 2000, 9, 1, 1, 4, 20, 2, 0)
    monkeypatch.setattr(device, "CONFIG", DDPGConfig(hidden_sizes=(8,), max_distance=20))
    monkeypatch.setattr(device, "HIDDEN", (8,))
    rows = list(device.rows(sizes, sb3=False, sbx=False, device="cpu"))
    whats = " ".join(r["what"] for r in rows)
    for part in ("start-up", "batch of 256", "launch floor", "training loop", "side by side"):
        assert part in whats
    assert all(r["ours"] > 0.0 for r in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_benchmark_says_so(tmp_path: Any) -> None:
    with pytest.raises(SystemExit, match="needs a GPU, and torch"):
        benchmarks_main(["speed", "--device", "cuda", "--out", str(tmp_path)])
