"""On a GPU: graphs are recorded, and what they replay is what the CPU does."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from hierebm import DDPGHERAgent, HierarchicalEBMAgent, learn_together
from hierebm.agents.batches import device_batches
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.side_by_side import SideBySide
from hierebm.nn.capture import Captured
from hierebm.planning.samplers.between_captured import CapturedBetweenEnergy
from hierebm.replay.device_batches import MOST_AT_ONCE, HindsightBatches
from hierebm.replay.device_replay import DeviceReplay
from tests.control.test_ddpg_captured import both, states_of
from tests.control.test_ddpg_kernels import CONFIGS, batches, parameters
from tests.planning.samplers.test_between_captured import CONFIG, batch
from tests.replay.test_device_batches import SHARES, numbered
from tests.toys import SMALL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    """Where no graph can be recorded, there is a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def on_cuda(name: str) -> CapturedDDPG:
    like, _ = both(CONFIGS[name])
    widths = like.features.observation_shift, like.features.goal_shift
    dims = *(len(part) for part in widths), like.actor.layers[-1].out_features
    return CapturedDDPG(*dims, CONFIGS[name], torch.Generator().manual_seed(0), "cuda")


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("name", CONFIGS)
def test_updates_and_queries_equal_the_reference_of_the_cpu(name: str, weight: float) -> None:
    reference, _ = both(CONFIGS[name])
    captured = on_cuda(name)
    start = parameters(reference)
    for given in batches(10):
        expected, metrics = (a.update(given, weight) for a in (reference, captured))
        assert metrics == pytest.approx(expected, rel=1e-3, abs=1e-3)
    moved = (parameters(reference) - start).abs().max()
    assert (parameters(captured).cpu() - parameters(reference)).abs().max() < 0.02 * moved
    for _ in range(25):
        states = states_of(given)
        np.testing.assert_allclose(captured.policy(*states), reference.policy(*states), atol=1e-2)
        np.testing.assert_allclose(
            captured.distance(*states), reference.distance(*states), rtol=1e-2
        )


def test_batches_and_updates_are_the_same_in_graphs_and_one_by_one() -> None:
    replay = numbered()
    outcomes = []
    for recorded in (True, False):
        low_level = on_cuda("categorical")
        dims = replay.observation.shape[1], replay.goal.shape[1], replay.action.shape[1]
        low_level = CapturedDDPG(*dims, low_level.config, torch.Generator().manual_seed(0), "cuda")
        source = HindsightBatches(
            DeviceReplay([replay], "cuda"),
            32,
            np.full((1, 2), 3.0, np.float32),
            [np.random.default_rng(0)],
            **SHARES,
        )
        if not recorded:
            low_level._learner._graphs = _OneByOne(low_level, source)
            low_level._learner._source = source
        low_level.update_from(source, MOST_AT_ONCE + 3)
        outcomes.append((parameters(low_level), low_level.take_metrics()))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], rtol=1e-4, atol=1e-5)
    assert outcomes[0][1] == pytest.approx(outcomes[1][1], rel=1e-4)


class _OneByOne(dict):
    """In place of graphs: the same work without one."""

    def __init__(self, low_level: CapturedDDPG, source: HindsightBatches) -> None:
        self.low_level, self.source = low_level, source

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: tuple) -> object:
        size, tau, weight, _ = key
        return lambda: self.low_level._learner._work(self.source, size, tau, weight)


def test_nothing_waits_between_updates() -> None:
    agent = DDPGHERAgent(seed=0, device="cuda", batch_size=64).learn("PointMassGoal-v0", 1100)
    source = device_batches(agent)
    assert isinstance(source, HindsightBatches)
    agent.low_level.update_from(source, MOST_AT_ONCE + 1)
    agent.low_level.take_metrics()
    torch.cuda.set_sync_debug_mode("error")
    try:
        agent.low_level.update_from(source, MOST_AT_ONCE + 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_energy_is_trained_as_on_the_cpu() -> None:
    ways = [
        CapturedBetweenEnergy(2, CONFIG, torch.Generator().manual_seed(0), device)
        for device in ("cpu", "cuda")
    ]
    rng = np.random.default_rng(0)
    for _ in range(10):
        given = batch(rng)
        for energy in ways:
            energy.update(*given)
    cpu, cuda = (energy.look() for energy in ways)
    assert cuda == pytest.approx(cpu, rel=1e-3, abs=1e-3)


def test_low_levels_side_by_side_learn() -> None:
    replay = numbered()
    dims = replay.observation.shape[1], replay.goal.shape[1], replay.action.shape[1]
    low_levels = [
        CapturedDDPG(*dims, CONFIGS["categorical"], torch.Generator().manual_seed(s), "cuda")
        for s in range(3)
    ]
    source = HindsightBatches(
        DeviceReplay([replay] * 3, "cuda"),
        32,
        np.full((3, 2), 3.0, np.float32),
        [np.random.default_rng(s) for s in range(3)],
        **SHARES,
    )
    seeds = SideBySide(low_levels)
    seeds.learn(source, MOST_AT_ONCE + 1)
    seeds.give_back()
    assert all(np.isfinite(list(metrics.values())).all() for metrics in seeds.take_metrics())


@pytest.mark.parametrize("kind", [DDPGHERAgent, HierarchicalEBMAgent])
def test_an_agent_learns_goes_on_and_is_loaded_elsewhere(kind: type, tmp_path: Path) -> None:
    settings = SMALL
    if kind is DDPGHERAgent:
        settings = {k: v for k, v in SMALL.items() if k in kind.config_class().to_dict()}
    agent = kind(seed=0, device="cuda", **settings)
    agent.learn(gym.make_vec("PointMassGoal-v0", num_envs=4), 1500)
    observation = gym.make("PointMassGoal-v0").reset(seed=0)[0]
    agent.save(tmp_path / "agent.zip")
    low_level = agent.low_level
    rows = [observation[key][None] for key in ("observation", "achieved_goal", "desired_goal")]
    for device in ("cpu", "cuda"):
        again = kind.load(tmp_path / "agent.zip", device=device)
        # Where to go first is one of many subgoals, which rounding may decide.
        assert again.predict(observation)[0].shape == (2,)
        for ask in ("policy", "distance"):
            expected, got = (getattr(a, ask)(*rows) for a in (low_level, again.low_level))
            np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-2)


def test_agents_learn_together() -> None:
    agents = [DDPGHERAgent(seed=seed, device="cuda", batch_size=64) for seed in range(3)]
    envs = [gym.make_vec("PointMassGoal-v0", num_envs=4) for _ in agents]
    learn_together(agents, envs, total_timesteps=1400)
    alone = DDPGHERAgent(seed=1, device="cuda", batch_size=64)
    alone.learn(gym.make_vec("PointMassGoal-v0", num_envs=4), 1400)
    assert agents[1].n_updates == alone.n_updates > 0
    metrics = [agent.logger.latest["train/critic_loss"] for agent in (agents[1], alone)]
    assert metrics[0] == pytest.approx(metrics[1], rel=0.1)


def test_a_graph_that_is_garbage_does_not_disturb_a_recording() -> None:
    for seed in range(3):
        agent = DDPGHERAgent(seed=seed, device="cuda", batch_size=64)
        # A cycle of objects, which only the collector frees.
        agent.itself = agent  # type: ignore[attr-defined]
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            agent.learn("PointMassGoal-v0", 1100)
        finally:
            gc.set_threshold(*threshold)


def test_work_that_cannot_be_recorded_runs_all_the_same() -> None:
    number = torch.zeros((), device="cuda")

    def work() -> None:
        number.add_(1.0)
        number.item()

    captured = Captured(work, [number], number.device)
    with pytest.warns(RuntimeWarning, match="no CUDA graph could be recorded"):
        captured()
    captured()
    assert float(number) == 2.0
