"""Behaviour of the sequence optimiser: its energy, its chains, its plans."""

from __future__ import annotations

import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierebm.planning.sequence import SequenceConfig, SequenceOptimizer
from hierebm.planning.sequence.chains import (
    bending,
    least_costs,
    resample,
    sample_sequences,
    stiffness_inverses,
)
from hierebm.planning.sequence.transition_energy import (
    NegativeProposal,
    TransitionEnergy,
    info_nce_transitions,
    squared_energy_loss,
)

WALL_HALF_WIDTH, WALL_TOP = 0.2, 0.6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def through_wall(a: Tensor, b: Tensor) -> Tensor:
    """Whether segments (..., 2) hit the wall |x| < 0.2, y < 0.6 of the box [-2, 2]^2."""
    points = torch.lerp(a.unsqueeze(-2), b.unsqueeze(-2), torch.linspace(0, 1, 41).unsqueeze(-1))
    inside = (points[..., 0].abs() < WALL_HALF_WIDTH) & (points[..., 1] < WALL_TOP)
    return inside.any(-1)


def random_transitions(n: int, wall: bool, g: torch.Generator) -> Tensor:
    """(n, 2, 2) transitions of a random walk in the box, of which none crosses the wall."""
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n:
        s = torch.rand(2 * n, 2, generator=g) * 4 - 2
        s_next = s + 0.35 * torch.randn(s.shape, generator=g)
        fine = (s_next.abs() < 2).all(-1)
        if wall:
            fine &= ~through_wall(s, s_next)
        kept.append(torch.stack([s, s_next], 1)[fine])
    return torch.cat(kept)[:n]


def trained(wall: bool, updates: int, **settings_: object) -> SequenceOptimizer:
    config = SequenceConfig(width=64, n_features=32, **settings_)  # type: ignore[arg-type]
    planner, g = SequenceOptimizer(2, config, seeded()), seeded(1)
    for _ in range(updates):
        planner.update(random_transitions(128, wall, g))
    return planner


@pytest.fixture(scope="module")
def open_planner() -> SequenceOptimizer:
    return trained(False, 250)


@pytest.fixture(scope="module")
def wall_planner() -> SequenceOptimizer:
    return trained(True, 500)


# ------------------------------------------------------------------ the energy


@settings(max_examples=25, deadline=None)
@given(
    dim=st.integers(1, 5),
    depth=st.integers(1, 3),
    parabola=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_gradients_by_hand_equal_autograd(dim: int, depth: int, parabola: float, seed: int) -> None:
    g = seeded(seed)
    net = TransitionEnergy(dim, width=16, depth=depth, n_features=6, parabola=parabola, generator=g)
    net = net.double()
    net.set_normalisation(torch.randn(50, 2, dim, generator=g).double() * 3 + 1)
    s, s_next = torch.randn(2, 9, dim, generator=g).double().requires_grad_().unbind(0)
    expected = net(s, s_next)
    grads = torch.autograd.grad(expected.sum(), (s, s_next))
    energy, *ours = net.energy_and_grad(s.detach(), s_next.detach())
    torch.testing.assert_close(energy, expected.detach())
    torch.testing.assert_close(tuple(ours), grads)


def test_a_state_that_never_moves_does_not_break_the_units() -> None:
    net = TransitionEnergy(3, generator=seeded())
    pairs = torch.randn(64, 2, 3, generator=seeded())
    pairs[..., 2] = 5.0
    net.set_normalisation(pairs)
    assert torch.isfinite(net(pairs[:, 0], pairs[:, 1])).all()
    net.set_normalisation(torch.zeros(8, 2, 3))
    assert torch.isfinite(net(pairs[:, 0], pairs[:, 1])).all()


def test_the_proposal_density_integrates_to_one_and_matches_its_samples() -> None:
    proposal = NegativeProposal((0.5, 2.0), global_share=0.25)
    states, unit = torch.tensor([[-3.0], [4.0]]), torch.tensor([0.5])
    s = torch.tensor([[1.0]])
    grid = torch.linspace(-12, 14, 20001).unsqueeze(-1)
    density = proposal.log_prob(s, grid, unit, states).exp()
    # The density is per unit of a typical transition, which is half as long as the axis' unit.
    assert float(torch.trapezoid(density, grid[:, 0]) / unit) == pytest.approx(1.0, abs=2e-3)
    drawn = proposal.sample(s.expand(4000, 1), 8, unit, states, seeded()).flatten()
    for low, high in ((-3.0, 0.0), (0.5, 1.5), (2.0, 4.0)):
        inside = (grid[:, 0] >= low) & (grid[:, 0] <= high)
        mass = float(torch.trapezoid(density[inside], grid[inside, 0]) / unit)
        share = float(((drawn >= low) & (drawn <= high)).float().mean())
        assert share == pytest.approx(mass, abs=0.015)


def test_the_objectives_prefer_low_energy_for_transitions() -> None:
    low, high = torch.full((4,), -0.3), torch.full((4, 6), 0.3)
    flat_p, flat_n = torch.zeros(4), torch.zeros(4, 6)
    right = info_nce_transitions(low, high, flat_p, flat_n, 0.0)[0]
    wrong = info_nce_transitions(-low, -high, flat_p, flat_n, 0.0)[0]
    assert right < math.log(7) < wrong
    assert squared_energy_loss(low, high) < 0 < squared_energy_loss(-low, -high)
    # A constant added to all energies only moves the normaliser.
    loss, log_z = info_nce_transitions(low + 2, high + 2, flat_p, flat_n, 0.0)
    assert float(loss) == pytest.approx(float(right), abs=1e-5)
    before = info_nce_transitions(low, high, flat_p, flat_n, 0.0)[1]
    torch.testing.assert_close(log_z, before - 2)


def test_info_nce_learns_the_log_density_of_a_random_walk(open_planner: SequenceOptimizer) -> None:
    g, unit = seeded(3), open_planner.model.unit
    s = torch.rand(500, 2, generator=g) * 2 - 1
    step = 0.35 * torch.randn(500, 2, generator=g)
    with torch.no_grad():
        energy = open_planner.model.energy(s, s + step)
    sigma = 0.35 / unit
    exact = 0.5 * (step / unit / sigma).square().sum(-1) + (
        sigma.log().sum() + math.log(2 * math.pi)
    )
    assert float((energy - exact).abs().mean()) < 0.3
    assert float(torch.corrcoef(torch.stack([energy, exact]))[0, 1]) > 0.9


def test_the_wall_has_high_energy(wall_planner: SequenceOptimizer) -> None:
    y = torch.linspace(-1.5, 0.0, 20)
    left, right = (torch.stack([torch.full_like(y, x), y], -1) for x in (-0.35, 0.35))
    with torch.no_grad():
        across = wall_planner.model.energy(left, right)
        along = wall_planner.model.energy(left, left + torch.tensor([0.0, 0.7]))
    assert float(across.min()) > float(along.max())
    assert float(across.mean() - along.mean()) > 3.0


def test_missed_transitions_become_expensive() -> None:
    planner, g = trained(False, 80), seeded(9)
    start = torch.tensor([[-1.0, -1.0]]) + 0.1 * torch.randn(64, 2, generator=g)
    missed = torch.stack([start, start + torch.tensor([0.5, 0.0])], 1)

    def energy_of_missed() -> float:
        with torch.no_grad():
            return float(planner.model.energy(missed[:, 0], missed[:, 1]).mean())

    before = energy_of_missed()
    planner.add_negatives(missed)
    metrics = {}
    for _ in range(100):
        metrics = planner.update(random_transitions(128, False, g))
    assert energy_of_missed() > before + 0.5
    assert "energy/missed" in metrics


# ------------------------------------------------------------------ chains


@settings(max_examples=30, deadline=None)
@given(m=st.integers(1, 4), longest=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_least_costs_equal_enumeration(m: int, longest: int, seed: int) -> None:
    g = seeded(seed)
    direct, first, table, last = (
        torch.rand(shape, generator=g) for shape in ((2,), (2, m), (m, m), (2, m))
    )
    ours = least_costs(direct, first, table, last, longest)
    for b, n in itertools.product(range(2), range(1, longest + 1)):
        costs = [float(direct[b])] if n == 1 else []
        for path in itertools.product(range(m), repeat=n - 1) if n > 1 else ():
            inner = sum(float(table[i, j]) for i, j in itertools.pairwise(path))
            costs.append(float(first[b, path[0]]) + inner + float(last[b, path[-1]]))
        assert float(ours[b, n - 1]) == pytest.approx(min(costs), abs=1e-5)


def test_sampled_sequences_have_the_probability_of_their_energy() -> None:
    g, m, temperature = seeded(4), 3, 0.7
    first, table, last = (torch.rand(s, generator=g) * 2 for s in ((2, m), (m, m), (2, m)))
    drawn = sample_sequences(first, table, last, torch.tensor([3, 2]), 20000, temperature, g)
    assert drawn.shape == (2, 20000, 2)
    weights = {
        (i, j): math.exp(-float(first[0, i] + table[i, j] + last[0, j]) / temperature)
        for i, j in itertools.product(range(m), repeat=2)
    }
    for (i, j), weight in weights.items():
        share = float(((drawn[0, :, 0] == i) & (drawn[0, :, 1] == j)).float().mean())
        assert share == pytest.approx(weight / sum(weights.values()), abs=0.015)
    # The shorter query is padded, and its single inner state drawn by both its costs.
    assert (drawn[1, :, 1] == -1).all()
    p = torch.softmax(-(first[1] + last[1]) / temperature, 0)
    share = torch.bincount(drawn[1, :, 0], minlength=m) / 20000
    torch.testing.assert_close(share, p, atol=0.015, rtol=0)


def test_sequences_that_do_not_exist_are_not_invented() -> None:
    table = torch.full((2, 2), math.inf)
    first, last = torch.tensor([[1.0, math.inf]]), torch.tensor([[math.inf, 1.0]])
    assert math.isinf(least_costs(torch.tensor([math.inf]), first, table, last, 4).min())
    drawn = sample_sequences(first, table, last, torch.tensor([3]), 5, 1.0, seeded())
    assert (drawn == -1).all()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 6), finer=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_resampling_keeps_the_ends_and_the_line(n: int, finer: int, seed: int) -> None:
    x = torch.randn(3, n + 1, 2, generator=seeded(seed))
    length, new = torch.full((3,), n), torch.tensor([finer, 1, finer])
    out = resample(x, length, new)
    assert out.shape == (3, finer + 1, 2)
    assert torch.equal(out[:, 0], x[:, 0])
    assert torch.equal(out[torch.arange(3), new], x[:, n])
    straight = torch.lerp(x[:, :1], x[:, -1:], torch.linspace(0, 1, n + 1).view(1, -1, 1))
    line = resample(straight, length, new)[0]
    torch.testing.assert_close(line.diff(dim=0), (line[-1] - line[0]).expand(finer, 2) / finer)


def test_bending_has_its_gradient_and_ignores_the_padding() -> None:
    x = torch.randn(4, 7, 2, dtype=torch.float64, generator=seeded()).requires_grad_()
    length = torch.tensor([6, 3, 1, 2])
    value, ours = bending(x, length)
    (expected,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(ours, expected)
    assert float(value[2].detach()) == 0.0
    by_hand = 0.5 * (x[1, 2:4] - 2 * x[1, 1:3] + x[1, :2]).square().sum()
    torch.testing.assert_close(value[1], by_hand)


def test_the_preconditioner_inverts_the_stiffness() -> None:
    covariance, root = stiffness_inverses(6, 0.5)
    torch.testing.assert_close(root @ root.mT, covariance)
    # Three transitions: two inner states, each with two neighbours, and two accelerations.
    second = torch.tensor([[1.0, -2.0, 1.0, 0.0], [0.0, 1.0, -2.0, 1.0]])[:, 1:-1]
    hessian = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]) + 0.5 * second.T @ second
    torch.testing.assert_close(covariance[2, :2, :2], torch.linalg.inv(hessian))
    assert covariance[2, 2:].abs().max() == 0 and covariance[0].abs().max() == 0


# ------------------------------------------------------------------ plans


def test_plans_on_the_open_plane_are_straight_and_even(open_planner: SequenceOptimizer) -> None:
    g = seeded(5)
    start, goal = torch.rand(2, 60, 2, generator=g) * 3.6 - 1.8
    far = (goal - start).norm(dim=-1) > 1.0
    start, goal = start[far], goal[far]
    plan = open_planner.plan(start, goal, generator=g)
    rows = torch.arange(len(start))
    assert torch.equal(plan.states[:, 0], start)
    assert torch.equal(plan.states[rows, plan.n_states - 1], goal)
    assert plan.energies.shape == (len(start), plan.states.shape[1] - 1)
    torch.testing.assert_close(plan.energies.sum(1), plan.total_energy)
    steps = plan.states.diff(dim=1).norm(dim=-1)
    ratio = steps.sum(1) / (goal - start).norm(dim=-1)
    assert float(ratio.median()) <= 1.05
    used = torch.arange(steps.shape[1]) < (plan.n_states - 1).unsqueeze(1)
    assert (steps[~used] == 0).all() and (plan.energies[~used] == 0).all()
    mean = steps.sum(1) / used.sum(1)
    spread = ((steps - mean.unsqueeze(1)).square() * used).sum(1) / used.sum(1)
    assert float((spread.sqrt() / mean).median()) < 0.3


def test_longer_ways_get_more_states(open_planner: SequenceOptimizer) -> None:
    start = torch.tensor([[-1.5, -1.5]]).repeat(8, 1)
    near, far = start + 0.4, start + 3.0
    n_near = open_planner.plan(start, near, generator=seeded()).n_states
    n_far = open_planner.plan(start, far, generator=seeded()).n_states
    assert int(n_near.max()) < int(n_far.min())


@pytest.mark.parametrize("n_states", [2, 3, 6, 40])
def test_the_number_of_states_can_be_given(open_planner: SequenceOptimizer, n_states: int) -> None:
    start, goal = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    plan = open_planner.plan(start, goal, n_states=n_states, generator=seeded())
    assert plan.states.shape == (1, n_states, 2) and int(plan.n_states) == n_states
    assert torch.equal(plan.states[0, -1], goal[0])


def blocked_share(states: Tensor) -> float:
    """Share of planned steps straight through the wall, cutting the tips of its corners aside."""
    a, b = states[:, :-1], states[:, 1:]
    deep = through_wall(a, b) & through_wall(
        a + torch.tensor([0.0, 0.25]), b + torch.tensor([0.0, 0.25])
    )
    return float(deep.float().mean())


def test_plans_go_round_the_wall(wall_planner: SequenceOptimizer) -> None:
    g = seeded(6)
    y = torch.rand(30, 2, generator=g) * 1.5 - 1.8
    start = torch.stack([torch.full((30,), -1.2), y[:, 0]], -1)
    goal = torch.stack([torch.full((30,), 1.2), y[:, 1]], -1)
    plan = wall_planner.plan(start, goal, generator=g)
    over = plan.states[..., 1].amax(1) > WALL_TOP - 0.15
    assert float(over.float().mean()) >= 0.95
    assert blocked_share(plan.states) < 0.02
    corners = torch.tensor([[-WALL_HALF_WIDTH, WALL_TOP], [WALL_HALF_WIDTH, WALL_TOP]])
    shortest = (
        (start - corners[0]).norm(dim=-1) + 2 * WALL_HALF_WIDTH + (goal - corners[1]).norm(dim=-1)
    )
    travelled = plan.states.diff(dim=1).norm(dim=-1).sum(1)
    assert float((travelled / shortest).median()) < 1.15


def test_a_warm_start_brings_its_way_round_along(wall_planner: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.2, -1.2]]), torch.tensor([[1.2, -1.2]])
    good = wall_planner.plan(start, goal, generator=seeded())
    blind = SequenceOptimizer(
        2,
        SequenceConfig(width=64, n_features=32, lattice_states=0, noise=0.0, langevin_steps=3),
        seeded(),
    )
    blind.model.load_state_dict(wall_planner.model.state_dict())
    cold = blind.plan(start, goal, generator=seeded())
    warm = blind.plan(start, goal, generator=seeded(), warm_start=good.states)
    assert float(cold.states[..., 1].max()) < 0.0
    assert float(warm.states[..., 1].max()) > WALL_TOP - 0.15


def test_planning_changes_nothing(open_planner: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    before = open_planner.generator.get_state()
    first = open_planner.plan(start, goal, generator=seeded(1))
    second = open_planner.plan(start, goal, generator=seeded(1))
    assert torch.equal(first.states, second.states)
    assert torch.equal(open_planner.generator.get_state(), before)
    assert open_planner.model.imagined.size == 0
    open_planner.plan(start, goal, generator=seeded(1), remember=True)
    assert open_planner.model.imagined.size == int(first.n_states) - 1


def test_a_restored_planner_goes_on_bit_for_bit() -> None:
    planner = trained(False, 20, lattice_states=32)
    planner.add_negatives(torch.randn(5, 2, 2, generator=seeded()))
    file = io.BytesIO()
    torch.save(planner.state_dict(), file)
    file.seek(0)
    copy = SequenceOptimizer(2, planner.config, seeded(77))
    copy.load_state_dict(torch.load(file, weights_only=True))
    copy.generator.set_state(planner.generator.get_state())
    pairs = random_transitions(64, False, seeded(8))
    assert planner.update(pairs) == copy.update(pairs)
    query = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    ours, theirs = (p.plan(*query, generator=seeded(2)) for p in (planner, copy))
    assert torch.equal(ours.states, theirs.states)


def test_an_untrained_planner_plans_straight_lines() -> None:
    planner = SequenceOptimizer(3, None, seeded())
    plan = planner.plan(torch.zeros(2, 3), torch.ones(2, 3), generator=seeded())
    assert torch.isfinite(plan.states).all() and plan.states.shape[0] == 2


def test_both_objectives_train(open_planner: SequenceOptimizer) -> None:
    planner = trained(False, 120, objective="squared")
    s = torch.zeros(64, 2)
    near, far = s + 0.2, s + 1.6
    with torch.no_grad():
        assert planner.model.energy(s, near).mean() < planner.model.energy(s, far).mean() - 0.3


def test_leaving_the_planned_way_is_noticed(open_planner: SequenceOptimizer) -> None:
    unit = float(open_planner.model.unit.mean())
    before, subgoal = torch.zeros(3, 2), torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    position = torch.tensor([[0.5, 0.1 * unit], [0.5, 2.0 * unit], [-2.0 * unit, 0.0]])
    assert open_planner.has_deviated(position, before, subgoal).tolist() == [False, True, True]


# ------------------------------------------------------------------ errors


def test_configuration_survives_json() -> None:
    config = SequenceConfig(chains=5, octaves=(1.0, 3.0))
    assert SequenceConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "value"), [("objective", "mse"), ("chains", 0), ("levels", 0), ("n_negatives", 0)]
)
def test_bad_settings_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SequenceConfig(**{field: value})  # type: ignore[arg-type]


def test_bad_input_is_named(open_planner: SequenceOptimizer) -> None:
    with pytest.raises(ValueError, match="start and goal"):
        open_planner.plan(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="n_states"):
        open_planner.plan(torch.zeros(1, 2), torch.ones(1, 2), n_states=1)
    planner = SequenceOptimizer(2, None, seeded())
    pairs = random_transitions(16, False, seeded())
    planner.update(pairs)
    with pytest.raises(FloatingPointError, match=r"infonce.*update 1"):
        planner.update(torch.full_like(pairs, np.nan))
