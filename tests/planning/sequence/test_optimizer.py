"""Plans of the sequence optimiser."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from hierebm.planning.sequence import SequenceConfig, SequenceOptimizer
from hierebm.planning.sequence.ground import Ground
from tests.planning.sequence.random_walk import (
    WALL_HALF_WIDTH,
    WALL_TOP,
    random_transitions,
    seeded,
    through_wall,
    trained,
)


def test_plans_on_the_open_plane_are_straight_and_even(open_optimizer: SequenceOptimizer) -> None:
    g = seeded(5)
    start, goal = torch.rand(2, 60, 2, generator=g) * 3.6 - 1.8
    far = (goal - start).norm(dim=-1) > 1.0
    start, goal = start[far], goal[far]
    plan = open_optimizer.plan(start, goal, generator=g)
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


def test_longer_paths_get_more_states(open_optimizer: SequenceOptimizer) -> None:
    start = torch.tensor([[-1.5, -1.5]]).repeat(8, 1)
    near, far = start + 0.4, start + 3.0
    n_near = open_optimizer.plan(start, near, generator=seeded()).n_states
    n_far = open_optimizer.plan(start, far, generator=seeded()).n_states
    assert int(n_near.max()) < int(n_far.min())


@pytest.mark.parametrize("n_states", [2, 3, 6, 40])
def test_the_plan_length_can_be_given(open_optimizer: SequenceOptimizer, n_states: int) -> None:
    start, goal = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    plan = open_optimizer.plan(start, goal, n_states=n_states, generator=seeded())
    assert plan.states.shape == (1, n_states, 2) and int(plan.n_states) == n_states
    assert torch.equal(plan.states[0, -1], goal[0])


def blocked_share(states: Tensor) -> float:
    """Share of planned steps straight through the wall, cutting the tips of its corners aside."""
    a, b = states[:, :-1], states[:, 1:]
    deep = through_wall(a, b) & through_wall(
        a + torch.tensor([0.0, 0.25]), b + torch.tensor([0.0, 0.25])
    )
    return float(deep.float().mean())


def test_plans_lead_around_the_wall(wall_optimizer: SequenceOptimizer) -> None:
    g = seeded(6)
    y = torch.rand(30, 2, generator=g) * 1.5 - 1.8
    start = torch.stack([torch.full((30,), -1.2), y[:, 0]], -1)
    goal = torch.stack([torch.full((30,), 1.2), y[:, 1]], -1)
    plan = wall_optimizer.plan(start, goal, generator=g)
    over = plan.states[..., 1].amax(1) > WALL_TOP - 0.15
    assert float(over.float().mean()) >= 0.95
    assert blocked_share(plan.states) < 0.02
    corners = torch.tensor([[-WALL_HALF_WIDTH, WALL_TOP], [WALL_HALF_WIDTH, WALL_TOP]])
    shortest = (
        (start - corners[0]).norm(dim=-1) + 2 * WALL_HALF_WIDTH + (goal - corners[1]).norm(dim=-1)
    )
    travelled = plan.states.diff(dim=1).norm(dim=-1).sum(1)
    assert float((travelled / shortest).median()) < 1.15


@pytest.mark.parametrize("two_ways", [False, True])
def test_ground_that_was_not_visited_is_gone_around_whatever_the_energy_says(
    open_optimizer: SequenceOptimizer, two_ways: bool
) -> None:
    # One chain begins along the cheapest way over the lattice, two along the given ways.
    config = SequenceConfig(chains=1 + two_ways, levels=1, langevin_steps=0)
    optimizer = SequenceOptimizer(2, config, seeded())
    optimizer.load_state_dict(open_optimizer.state_dict())
    start, goal = torch.tensor([[-1.2, -1.0]]), torch.tensor([[1.2, -1.0]])
    through, over = torch.cat([start, goal]), torch.tensor([[-1.2, -1.0], [0.0, 0.9], [1.2, -1.0]])
    ways = [[through, over]] if two_ways else None
    known = optimizer.plan(start, goal, generator=seeded(), ways=ways)
    replayed = optimizer.model.states.contents
    unvisited = (replayed[:, 0].abs() < 0.6) & (replayed[:, 1] < 0.5)
    optimizer.ground = Ground(replayed[~unvisited].numpy(), optimizer.model.unit.numpy())
    optimizer._lattice = None
    unknown = optimizer.plan(start, goal, generator=seeded(), ways=ways)
    assert float(known.states[..., 1].max()) < 0.0
    assert float(unknown.states[..., 1].max()) > 0.4


def test_a_warm_start_brings_its_detour_along(wall_optimizer: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.2, -1.2]]), torch.tensor([[1.2, -1.2]])
    good = wall_optimizer.plan(start, goal, generator=seeded())
    # Without a lattice, chains begin as straight lines.
    blind = SequenceOptimizer(
        2, SequenceConfig(lattice_states=0, chains=2, langevin_steps=3), seeded()
    )
    blind.model.load_state_dict(wall_optimizer.model.state_dict())
    cold = blind.plan(start, goal, generator=seeded())
    warm = blind.plan(start, goal, generator=seeded(), warm_start=good.states)
    assert float(cold.states[..., 1].max()) < 0.0
    assert float(warm.states[..., 1].max()) > WALL_TOP - 0.15


def test_planning_changes_nothing(open_optimizer: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    before = open_optimizer.generator.get_state()
    first = open_optimizer.plan(start, goal, generator=seeded(1))
    second = open_optimizer.plan(start, goal, generator=seeded(1))
    assert torch.equal(first.states, second.states)
    assert torch.equal(open_optimizer.generator.get_state(), before)


def test_a_restored_optimizer_goes_on_bit_for_bit() -> None:
    optimizer = trained(False, 20, lattice_states=32)
    optimizer.add_negatives(torch.randn(5, 2, 2, generator=seeded()))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copy = SequenceOptimizer(2, optimizer.config, seeded(77))
    copy.load_state_dict(torch.load(file, weights_only=True))
    copy.generator.set_state(optimizer.generator.get_state())
    pairs = random_transitions(64, False, seeded(8))
    assert optimizer.update(pairs) == copy.update(pairs)
    query = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    ours, theirs = (o.plan(*query, generator=seeded(2)) for o in (optimizer, copy))
    assert torch.equal(ours.states, theirs.states)


def test_an_untrained_optimizer_plans_straight_lines() -> None:
    optimizer = SequenceOptimizer(3, None, seeded())
    plan = optimizer.plan(torch.zeros(2, 3), torch.ones(2, 3), generator=seeded())
    assert torch.isfinite(plan.states).all() and plan.states.shape[0] == 2


def test_a_given_way_is_kept_to(wall_optimizer: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.2, -1.2]]), torch.tensor([[1.2, -1.2]])
    over = torch.tensor([[-1.2, -1.2], [-0.5, WALL_TOP + 0.3], [0.5, WALL_TOP + 0.3], [1.2, -1.2]])
    plan = wall_optimizer.plan(start, goal, generator=seeded(), ways=[[over]])
    assert float(plan.states[..., 1].max()) > WALL_TOP - 0.15
    travelled = plan.states.diff(dim=1).norm(dim=-1).sum()
    assert float(travelled) < float(over.diff(dim=0).norm(dim=-1).sum())
    assert torch.equal(plan.states[0, 0], start[0]) and torch.equal(plan.states[0, -1], goal[0])


def test_a_known_way_is_refined_by_one_chain(wall_optimizer: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.2, -1.2]]), torch.tensor([[1.2, -1.2]])
    over = torch.tensor([[-1.2, -1.2], [-0.5, WALL_TOP + 0.3], [0.5, WALL_TOP + 0.3], [1.2, -1.2]])
    told: list[tuple[int, ...]] = []
    plan = wall_optimizer.plan(
        start,
        goal,
        generator=seeded(),
        ways=[[over, torch.cat([start, goal])]],
        refine=True,
        watch=lambda x, *_: told.append(tuple(x.shape)),
    )
    assert all(n == 1 for n, *_ in told)
    assert len(told) == wall_optimizer.config.langevin_steps + 1
    assert float(plan.states[..., 1].max()) > WALL_TOP - 0.15
    travelled = plan.states.diff(dim=1).norm(dim=-1).sum()
    assert float(travelled) < float(over.diff(dim=0).norm(dim=-1).sum())
    given = wall_optimizer.plan(start, goal, 9, seeded(), ways=[[over]], refine=True)
    assert given.states.shape == (1, 9, 2) and torch.equal(given.states[0, -1], goal[0])


def test_several_plans_come_the_cheapest_first(wall_optimizer: SequenceOptimizer) -> None:
    start, goal = torch.tensor([[-1.2, -1.2], [0.0, 1.5]]), torch.tensor([[1.2, -1.2], [1.0, 1.5]])
    several = wall_optimizer.plan(start, goal, 12, generator=seeded(), n_plans=3)
    assert several.states.shape == (6, 12, 2)
    for plans, a, b in zip(several.states.split(3), start, goal, strict=True):
        assert (plans[:, 0] == a).all() and (plans[:, -1] == b).all()
        assert not torch.equal(plans[0], plans[1])
    with pytest.raises(ValueError, match="n_plans"):
        wall_optimizer.plan(start, goal, n_plans=wall_optimizer.config.chains + 1)


def test_bad_input_is_named(open_optimizer: SequenceOptimizer) -> None:
    with pytest.raises(ValueError, match="start and goal"):
        open_optimizer.plan(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="n_states"):
        open_optimizer.plan(torch.zeros(1, 2), torch.ones(1, 2), n_states=1)
