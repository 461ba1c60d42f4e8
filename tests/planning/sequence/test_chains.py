"""Operations on batches of sequences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.planning.sequence.chains import (
    bending,
    least_costs,
    resample,
    sample_sequences,
    stiffness_inverses,
)
from tests.planning.sequence.random_walk import seeded


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
    shares = torch.bincount(drawn[1, :, 0], minlength=m) / 20000
    torch.testing.assert_close(shares, p, atol=0.015, rtol=0)


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
