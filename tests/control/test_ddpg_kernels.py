"""The update with hand-written kernels learns what the autograd update learns."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from hierebm.control.config import DDPGConfig
from hierebm.control.ddpg import FULL_ACTION, DistanceDDPG
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.ddpg_kernels import FastDistanceDDPG, make_ddpg
from hierebm.control.features import WAVE_WEIGHT, FeatureWriter, GoalFeatures
from hierebm.replay import TransitionBatch
from hierebm.replay.scales import InputScales
from tests.toys import lying_at

OBS_DIM, GOAL_DIM, ACTION_DIM = 4, 2, 3

CONFIGS = {
    "categorical": DDPGConfig(hidden_sizes=(32, 24), max_distance=12, fourier_features=6),
    "scalar": DDPGConfig(
        hidden_sizes=(32, 24), critic="scalar", n_critics=1, max_distance=12, fourier_features=6
    ),
    "one layer, no features": DDPGConfig(
        hidden_sizes=(32,), n_critics=2, max_distance=5, fourier_features=0
    ),
    "linear": DDPGConfig(hidden_sizes=(), n_critics=2, max_distance=2, fourier_features=0),
}


def scales(*tensors: torch.Tensor) -> InputScales:
    """Shift and scale of observations, of goals, and the length of a step."""
    return InputScales(*(tensor.numpy() for tensor in tensors))


def make(config: DDPGConfig, kernels: bool | None, seed: int = 0) -> DistanceDDPG:
    generator = torch.Generator().manual_seed(seed)
    return make_ddpg(OBS_DIM, GOAL_DIM, ACTION_DIM, config, generator, kernels=kernels)


def batches(n: int, rows: int = 48, seed: int = 0) -> list[TransitionBatch]:
    rng = np.random.default_rng(seed)

    def normal(width: int) -> np.ndarray:
        return rng.normal(size=(rows, width)).astype(np.float32)

    return [
        TransitionBatch(
            observation=normal(OBS_DIM),
            achieved_goal=normal(GOAL_DIM),
            action=np.tanh(normal(ACTION_DIM)),
            next_observation=normal(OBS_DIM),
            next_achieved_goal=normal(GOAL_DIM),
            goal=normal(GOAL_DIM),
            # Some rows are both: reached wins.
            reached=rng.random(rows) < 0.2,
            failure=rng.random(rows) < 0.2,
        )
        for _ in range(n)
    ]


def parameters(agent: DistanceDDPG) -> torch.Tensor:
    networks = (agent.actor, agent.critics, agent.actor_target, agent.critics_target)
    return torch.cat([p.detach().reshape(-1) for n in networks for p in n.parameters()])


@pytest.mark.parametrize("name", CONFIGS)
def test_many_updates_equal_the_reference(name: str) -> None:
    reference, fast = make(CONFIGS[name], kernels=False), make(CONFIGS[name], kernels=True)
    start = parameters(reference)
    assert torch.equal(start, parameters(fast))
    for i, batch in enumerate(batches(60)):
        expected, metrics = reference.update(batch), fast.update(batch)
        assert metrics.keys() == expected.keys()
        for key in expected:
            assert metrics[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-4), (i, key)
    moved = (parameters(reference) - start).abs().max()
    difference = (parameters(reference) - parameters(fast)).abs().max()
    # Rounding differs and Adam divides by small roots; the learning itself is far larger.
    assert difference < 0.01 * moved


@pytest.mark.parametrize("name", CONFIGS)
def test_one_update_is_exact_to_rounding(name: str) -> None:
    reference, fast = make(CONFIGS[name], kernels=False), make(CONFIGS[name], kernels=True)
    (batch,) = batches(1)
    expected, metrics = reference.update(batch), fast.update(batch)
    assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for network in ("actor", "critics"):
        for p, q in zip(
            getattr(reference, network).parameters(),
            getattr(fast, network).parameters(),
            strict=True,
        ):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("still", [[True] * GOAL_DIM, [True] + [False] * (GOAL_DIM - 1)])
def test_axes_that_are_not_moved_at_will_have_no_fourier_features(still: list[bool]) -> None:
    rng, ones = np.random.default_rng(0), np.ones(GOAL_DIM, np.float32)
    zeros, size = np.zeros(OBS_DIM, np.float32), np.ones(OBS_DIM, np.float32)
    known = InputScales(zeros, size, 0.0 * ones, ones, ones, ~np.array(still))
    reference, fast = (make(CONFIGS["categorical"], kernels=k) for k in (False, True))
    (batch,) = batches(1)
    rows = batch.observation, batch.achieved_goal, batch.goal
    for agent in (reference, fast):
        # Acted and asked before: nothing may be remembered.
        agent.act(*rows), agent.distance(*rows)
        agent.fit_scale(known)
    waves = OBS_DIM + 2 * GOAL_DIM
    moved = batch.achieved_goal + np.where(still, rng.normal(size=GOAL_DIM), 0.0).astype("f")
    before, after = (
        reference.features(*map(torch.from_numpy, (rows[0], achieved, rows[2])))[:, waves:]
        for achieved in (batch.achieved_goal, moved)
    )
    torch.testing.assert_close(before, after)
    assert bool(before.any()) != all(still)
    for name in ("act", "distance"):
        expected, got = getattr(reference, name)(*rows), getattr(fast, name)(*rows)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert fast.update(batch) == pytest.approx(reference.update(batch), rel=1e-5, abs=1e-6)


def imitation(agent: DistanceDDPG, batch: TransitionBatch) -> float:
    """Mean squared difference between the actor's actions and the batch's."""
    chosen = agent.policy(batch.observation, batch.achieved_goal, batch.goal)
    return float(np.square(chosen - batch.action).sum(-1).mean())


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("weight", [0.3, 20.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_behaviour_term_has_the_gradient_of_float64_autograd(
    name: str, weight: float, kernels: bool
) -> None:
    with_term, without = make(CONFIGS[name], kernels), make(CONFIGS[name], kernels)
    (batch,) = batches(1)
    actor = copy.deepcopy(with_term.actor).double()
    arrays = (torch.as_tensor(x) for x in (batch.observation, batch.achieved_goal, batch.goal))
    chosen = torch.tanh(actor(with_term.features(*arrays).double()))
    error = (chosen - torch.as_tensor(batch.action).double()).square().sum(-1)
    metrics, plain = with_term.update(batch, behavior_weight=weight), without.update(batch)
    expected = error.mean()
    (weight * expected).backward()

    assert metrics.keys() - plain.keys() == {"train/behavior_loss"}
    assert metrics["train/behavior_loss"] == pytest.approx(expected.item(), rel=1e-5)
    added = metrics["train/actor_loss"] - plain["train/actor_loss"]
    assert added == pytest.approx(weight * expected.item(), rel=1e-4)
    for key in ("train/critic_loss", "train/distance_mean"):
        assert metrics[key] == plain[key]
    for p, q, r in zip(
        with_term.actor.parameters(), without.actor.parameters(), actor.parameters(), strict=True
    ):
        assert r.grad is not None and (r.grad != 0).any()
        torch.testing.assert_close((p.grad - q.grad).double(), r.grad, rtol=1e-3, atol=1e-5)
    # The term is the actor's alone.
    for p, q in zip(with_term.critics.parameters(), without.critics.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", CONFIGS)
def test_updates_with_behaviour_term_equal_the_reference(name: str) -> None:
    reference, fast = make(CONFIGS[name], kernels=False), make(CONFIGS[name], kernels=True)
    start = parameters(reference)
    for i, batch in enumerate(batches(30)):
        rows = dataclasses.asdict(batch)
        metrics = fast.update(batch, behavior_weight=2.0)
        for field, values in rows.items():
            np.testing.assert_array_equal(getattr(batch, field), values)
        expected = reference.update(batch, behavior_weight=2.0)
        assert metrics == pytest.approx(expected, rel=1e-3, abs=1e-4), i
    difference = (parameters(reference) - parameters(fast)).abs().max()
    assert difference < 0.01 * (parameters(reference) - start).abs().max()


@pytest.mark.parametrize("kernels", [True, False])
def test_no_weight_no_term(kernels: bool) -> None:
    plain, zero = (make(CONFIGS["categorical"], kernels) for _ in range(2))
    for batch in batches(5):
        metrics = plain.update(batch)
        assert zero.update(batch, behavior_weight=0.0) == metrics
        assert set(metrics) == {"train/critic_loss", "train/actor_loss", "train/distance_mean"}
    assert torch.equal(parameters(plain), parameters(zero))


@pytest.mark.parametrize("kernels", [True, False])
def test_a_large_weight_makes_the_actor_imitate(kernels: bool) -> None:
    held, free = (make(CONFIGS["categorical"], kernels) for _ in range(2))
    (batch,) = batches(1)
    before = imitation(held, batch)
    for _ in range(300):
        metrics = held.update(batch, behavior_weight=100.0)
        free.update(batch)
    after = imitation(held, batch)
    assert after < 0.1 * before
    assert metrics["train/behavior_loss"] == pytest.approx(after, rel=0.1)
    assert imitation(free, batch) > 0.5 * before


@pytest.mark.parametrize("n_fourier", [0, 5])
@pytest.mark.parametrize("rows", [1, 7])
def test_features_in_numpy_equal_those_of_the_module(n_fourier: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = GoalFeatures(OBS_DIM, GOAL_DIM, n_fourier, (0.5, 2.0), generator)
    writer = FeatureWriter(features)
    random = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    # Fitted, and then loaded, after the writer was made: it shares the scales.
    features.fit(scales(random(4), random(4).abs(), random(2), random(2).abs(), random(2).abs()))
    for _ in range(2):
        inputs = random(rows, OBS_DIM), random(rows, GOAL_DIM), random(rows, GOAL_DIM)
        # A window of a wider buffer, with something in it.
        buffer = np.full((rows, features.out_dim + 3), 7.0, np.float32)
        writer.write(*(x.numpy() for x in inputs), buffer[:, : features.out_dim])
        expected = features(*inputs).numpy()
        np.testing.assert_allclose(buffer[:, : features.out_dim], expected, rtol=1e-5, atol=1e-5)
        assert (buffer[:, features.out_dim :] == 7.0).all()
        features.load_state_dict({k: v + 0.5 for k, v in features.state_dict().items()})


@pytest.mark.parametrize("n_fourier", [3, 48])
def test_fourier_features_weigh_alike_however_many(n_fourier: int) -> None:
    features = GoalFeatures(OBS_DIM, GOAL_DIM, n_fourier, (0.5, 1.0, 2.0), torch.Generator())
    inputs = torch.randn(5, OBS_DIM), torch.randn(5, GOAL_DIM), torch.randn(5, GOAL_DIM)
    waves = features(*inputs)[:, OBS_DIM + 2 * GOAL_DIM :]
    torch.testing.assert_close(waves.square().sum(-1), torch.full((5,), WAVE_WEIGHT))


@pytest.mark.parametrize("kernels", [True, False])
def test_agents_of_older_files_keep_fourier_features_of_full_size(kernels: bool) -> None:
    low_level = make(CONFIGS["categorical"], kernels)
    (batch,) = batches(1)
    rows = batch.observation, batch.achieved_goal, batch.goal
    state = copy.deepcopy(low_level.state_dict())
    low_level.load_state_dict(
        state | {"features": state["features"] | {"wave_size": torch.ones(1)}}
    )
    expected = low_level.act(*rows), low_level.distance(*rows)
    del state["features"]["wave_size"]
    restored = make(CONFIGS["categorical"], kernels, seed=1)
    restored.load_state_dict(state)
    for got, wanted in zip((restored.act(*rows), restored.distance(*rows)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_scales_are_checked_and_set_on_any_device() -> None:
    features = GoalFeatures(2, 1, 0, (), torch.Generator())
    one, two = torch.ones(1), torch.ones(2)
    with pytest.raises(ValueError, match="scale of the observation must be positive"):
        features.fit(scales(torch.zeros(2), torch.tensor([1.0, 0.0]), one, one, one))
    with pytest.raises(ValueError, match="scale of the goal"):
        features.fit(scales(torch.zeros(2), two, one, -one, one))
    with pytest.raises(ValueError, match="length of a step must be positive"):
        features.fit(scales(torch.zeros(2), two, one, one, 0 * one))
    # A device that is not the CPU and that every machine has.
    features.to("meta").fit(scales(torch.zeros(2), two, one, one, one))


@pytest.mark.parametrize("name", CONFIGS)
def test_single_rows_and_windows_of_wider_arrays(name: str) -> None:
    reference, fast = make(CONFIGS[name], kernels=False), make(CONFIGS[name], kernels=True)
    for i, batch in enumerate(batches(3, rows=1)):
        assert fast.update(batch) == pytest.approx(reference.update(batch), rel=1e-4, abs=1e-5), i
    (batch,) = batches(1, rows=6, seed=1)
    rows = {
        field: np.repeat(np.repeat(value, 2, axis=0), 1 + (value.ndim > 1), axis=-1)[::2]
        for field, value in vars(batch).items()
    }
    windows = TransitionBatch(**{k: v[:, ::2] if v.ndim > 1 else v for k, v in rows.items()})
    assert not windows.observation.flags.c_contiguous
    query = windows.observation, windows.achieved_goal, windows.goal
    np.testing.assert_allclose(fast.act(*query), reference.act(*query), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(fast.distance(*query), reference.distance(*query), rtol=1e-4)
    expected, metrics = reference.update(batch), fast.update(windows)
    assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_seeded_updates_repeat_bit_for_bit() -> None:
    first, second = (make(CONFIGS["categorical"], kernels=True) for _ in range(2))
    for batch in batches(5):
        assert first.update(batch) == second.update(batch)
    assert torch.equal(parameters(first), parameters(second))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("offset", [1, 3, 4, 5, 16])
def test_neither_earlier_queries_nor_the_place_of_arrays_change_a_bit(
    name: str, offset: int, kernels: bool
) -> None:
    # Widths that fill no cache line: with others, all that is used begins at one by chance.
    widths = tuple(width - 1 for width in CONFIGS[name].hidden_sizes)
    config = dataclasses.replace(CONFIGS[name], hidden_sizes=widths)
    fresh, used = make(config, kernels), make(config, kernels)

    def query(agent: DistanceDDPG, batch: TransitionBatch) -> list[np.ndarray]:
        arrays = batch.observation, batch.achieved_goal, batch.goal
        return [agent.act(*arrays), agent.distance(*arrays, reduce="none")]

    for rows in (3, 301):
        query(used, batches(1, rows=rows)[0])
    for rows in (29, 2, 1, 33):
        (batch,) = batches(1, rows=rows, seed=rows)
        elsewhere = TransitionBatch(**{k: lying_at(v, offset) for k, v in vars(batch).items()})
        assert fresh.update(batch) == used.update(elsewhere), rows
        assert fresh.update(batch, 0.7) == used.update(elsewhere, 0.7), rows
        for expected, got in zip(query(fresh, batch), query(used, elsewhere), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert torch.equal(parameters(fresh), parameters(used))


def test_the_two_updates_may_take_turns_on_one_agent() -> None:
    mixed, fast = (make(CONFIGS["categorical"], kernels=True) for _ in range(2))
    for i, batch in enumerate(batches(6)):
        if i % 2:
            DistanceDDPG.update(mixed, batch)
        else:
            mixed.update(batch)
        fast.update(batch)
    torch.testing.assert_close(parameters(mixed), parameters(fast), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernels", [True, False])
def test_either_resumes_what_the_other_saved(kernels: bool) -> None:
    source, resumed = (
        make(CONFIGS["categorical"], not kernels),
        make(CONFIGS["categorical"], kernels, 1),
    )
    *before, last = batches(4)
    for batch in before:
        source.update(batch)
    resumed.load_state_dict(copy.deepcopy(source.state_dict()))
    expected, metrics = source.update(last), resumed.update(last)
    assert metrics == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(parameters(resumed), parameters(source), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("hidden", [(8, 8), (300, 300)])
@pytest.mark.parametrize("n_fourier", [0, 6])
def test_acting_follows_what_is_learnt_fitted_and_loaded(
    hidden: tuple[int, ...], n_fourier: int
) -> None:
    config = DDPGConfig(hidden_sizes=hidden, n_critics=1, fourier_features=n_fourier)
    reference, fast, other = make(config, False), make(config, True), make(config, True, seed=1)
    generator = torch.Generator().manual_seed(0)

    def same_actions() -> None:
        for rows in (1, 3, 40, 3):
            query = batches(1, rows=rows, seed=rows)[0]
            arrays = query.observation, query.achieved_goal, query.goal
            expected = reference.act(*arrays)
            np.testing.assert_allclose(fast.act(*arrays), expected, rtol=1e-4, atol=1e-6)

    same_actions()
    random = [torch.rand(width, generator=generator) + 0.2 for width in (4, 4, 2, 2, 2)]
    for agent in (reference, fast, other):
        agent.fit_scale(scales(*random))
    same_actions()
    for batch in batches(3):
        fast.update(batch)
        other.update(batch)
    reference.load_state_dict(fast.state_dict())
    same_actions()
    for agent in (reference, fast):
        agent.load_state_dict(other.state_dict())
    same_actions()


@pytest.mark.parametrize("reduce", ["max", "mean", "none"])
@pytest.mark.parametrize("rows", [0, 1, 256, 600])
def test_queries_equal_the_reference(reduce: str, rows: int) -> None:
    config = CONFIGS["categorical"]
    reference, fast = make(config, kernels=False), make(config, kernels=True)
    for batch in batches(3):
        reference.update(batch)
    fast.load_state_dict(reference.state_dict())
    query = batches(1, rows=max(rows, 1), seed=1)[0]
    arrays = [x[:rows] for x in (query.observation, query.achieved_goal, query.goal)]
    expected = reference.distance(*arrays, reduce=reduce)
    distance = fast.distance(*arrays, reduce=reduce)
    assert distance.shape == expected.shape
    np.testing.assert_allclose(distance, expected, rtol=1e-5)
    actions = fast.act(*arrays)
    np.testing.assert_allclose(actions, reference.act(*arrays), rtol=1e-4, atol=1e-6)
    # The answer is the caller's: later queries and updates leave it alone.
    kept, kept_actions = distance.copy(), actions.copy()
    fast.update(batches(1, seed=2)[0])
    flipped = [np.flip(x, 0).copy() for x in arrays]
    fast.distance(*flipped, reduce=reduce)
    fast.act(*flipped)
    np.testing.assert_array_equal(distance, kept)
    np.testing.assert_array_equal(actions, kept_actions)


def test_updates_of_changing_batch_size_and_queries_in_between() -> None:
    config = CONFIGS["scalar"]
    reference, fast = make(config, kernels=False), make(config, kernels=True)
    for rows in (8, 48, 3, 48):
        (batch,) = batches(1, rows=rows, seed=rows)
        assert fast.update(batch) == pytest.approx(reference.update(batch), rel=1e-4, abs=1e-5)
        fast.distance(batch.observation, batch.achieved_goal, batch.goal)
    torch.testing.assert_close(parameters(fast), parameters(reference), rtol=1e-3, atol=1e-5)


def test_the_flag_chooses() -> None:
    config = CONFIGS["categorical"]
    assert type(make(config, kernels=None)) is FastDistanceDDPG
    assert type(make(config, kernels=True)) is FastDistanceDDPG
    assert type(make(config, kernels=False)) is DistanceDDPG
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="CPU"):
        make_ddpg(OBS_DIM, GOAL_DIM, ACTION_DIM, config, generator, "meta", kernels=True)


def test_an_unknown_reduction_is_named() -> None:
    (batch,) = batches(1)
    for kernels in (True, False):
        agent = make(CONFIGS["categorical"], kernels)
        with pytest.raises(ValueError, match="median"):
            agent.distance(batch.observation, batch.achieved_goal, batch.goal, reduce="median")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_takes_graphs_and_learns_the_same() -> None:
    config = CONFIGS["categorical"]
    generator = torch.Generator().manual_seed(0)
    cuda = make_ddpg(OBS_DIM, GOAL_DIM, ACTION_DIM, config, generator, "cuda")
    assert type(cuda) is CapturedDDPG
    fast = make(config, kernels=True)
    for batch in batches(5):
        assert cuda.update(batch) == pytest.approx(fast.update(batch), rel=1e-2)


def _scales(*, shift: float, scale: float, first_only: bool = False) -> InputScales:
    """Of the first entry of observations and goals, or of all; the others at 0 and 1."""
    shifts, sizes = np.zeros(OBS_DIM, np.float32), np.ones(OBS_DIM, np.float32)
    changed = slice(1 if first_only else OBS_DIM)
    shifts[changed], sizes[changed] = shift, scale
    zero, step = np.zeros(GOAL_DIM, np.float32), np.full(GOAL_DIM, 0.3, np.float32)
    return InputScales(shifts, sizes, zero, sizes[:GOAL_DIM].copy(), step)


@pytest.mark.parametrize("kernels", [True, False])
def test_huge_inputs_are_cut_off_alike_wherever_features_are_made(kernels: bool) -> None:
    agent = make(CONFIGS["categorical"], kernels)
    reference = make(CONFIGS["categorical"], False)
    for each in (agent, reference):
        each.fit_scale(_scales(shift=0.5, scale=1e-6, first_only=True))
    (batch,) = batches(1)
    arrays = batch.observation, batch.achieved_goal, batch.goal
    features = agent.features(*map(torch.as_tensor, arrays))
    assert features.abs().max() <= 10.0 and (features.abs() == 10.0).any()
    np.testing.assert_allclose(agent.act(*arrays), reference.act(*arrays), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(agent.distance(*arrays), reference.distance(*arrays), rtol=1e-5)
    assert agent.update(batch) == pytest.approx(reference.update(batch), rel=1e-4)


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("first_only", [True, False])
def test_scales_that_are_measured_again_leave_what_was_learned(
    name: str, kernels: bool, first_only: bool
) -> None:
    agent, untouched = make(CONFIGS[name], kernels), make(CONFIGS[name], kernels)
    for each in (agent, untouched):
        each.fit_scale(_scales(shift=0.0, scale=1.0))
        for batch in batches(4):
            each.update(batch)
    agent.refit_scale(_scales(shift=0.4, scale=2.5, first_only=first_only))
    assert agent.features.observation_scale[0] == 2.5 and agent.features.goal_scale[0] == 2.5
    (query,) = batches(1, seed=5)
    arrays = query.observation, query.achieved_goal, query.goal
    np.testing.assert_allclose(agent.act(*arrays), untouched.act(*arrays), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(agent.distance(*arrays), untouched.distance(*arrays), rtol=1e-4)
    # The loss of the critics depends on the targets, too.
    loss, expected = (each.update(query)["train/critic_loss"] for each in (agent, untouched))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_inputs_that_were_cut_off_are_continued_by_a_line() -> None:
    agent = make(CONFIGS["categorical"], None)
    agent.fit_scale(_scales(shift=0.0, scale=0.01, first_only=True))
    (query,) = batches(1)
    observation, goal = query.observation.copy(), query.goal.copy()
    goal[:, 0] = 0.0
    actions = {}
    for end in (3.0, 5.0):
        observation[:, 0] = end
        actions[end] = agent.act(observation, query.achieved_goal, goal)
    np.testing.assert_array_equal(actions[3.0], actions[5.0])
    agent.refit_scale(_scales(shift=4.0, scale=1.0, first_only=True))
    for end in (3.0, 4.5, 5.0):
        observation[:, 0] = end
        later = agent.act(observation, query.achieved_goal, goal)
        np.testing.assert_allclose(later, actions[3.0], rtol=1e-4, atol=1e-5)


def test_networks_of_ones_own_keep_their_inputs() -> None:
    class Own(DistanceDDPG):
        def make_actor(self, in_dim, out_dim, generator):  # type: ignore
            return torch.nn.Sequential(super().make_actor(in_dim, out_dim, generator))

    config = CONFIGS["categorical"]
    agent = Own(OBS_DIM, GOAL_DIM, ACTION_DIM, config, torch.Generator().manual_seed(0))
    agent.fit_scale(_scales(shift=0.0, scale=1.0))
    (query,) = batches(1)
    arrays = query.observation, query.achieved_goal, query.goal
    before = agent.act(*arrays)
    agent.refit_scale(_scales(shift=0.4, scale=2.5))
    np.testing.assert_array_equal(agent.act(*arrays), before)


def test_actions_that_push_the_goal_s_own_axes_are_taken_in_full() -> None:
    config = CONFIGS["categorical"]
    hand = make(config, kernels=True)
    action = np.array([[0.3, -0.94], [FULL_ACTION, -0.1]], np.float32)
    assert GOAL_DIM != ACTION_DIM and hand.at_full(action) is action
    agent = make_ddpg(OBS_DIM, GOAL_DIM, GOAL_DIM, config, torch.Generator())
    full = agent.at_full(action)
    assert full.dtype == np.float32
    np.testing.assert_allclose(
        full, [[0.3 / FULL_ACTION, -1.0], [1.0, -0.1 / FULL_ACTION]], rtol=1e-6
    )
    agent.held_to_data = True
    assert agent.at_full(action) is action
