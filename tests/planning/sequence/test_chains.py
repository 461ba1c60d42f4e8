"""Operations on batches of sequences."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.planning.sequence.chains import (
    along,
    bending,
    resample,
    stiffness_inverses,
)
from tests.planning.sequence.random_walk import seeded


@settings(max_examples=30, deadline=None)
@given(points=st.integers(2, 5), n=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_states_along_a_way_are_even_and_on_it(points: int, n: int, seed: int) -> None:
    way = torch.rand(2, points, 2, generator=seeded(seed)).cumsum(1)
    # One way is shorter: its last point is repeated.
    way[1, points // 2 + 1 :] = way[1, points // 2]
    length = torch.tensor([n, 1])
    x = along(way, length, n + 2)
    assert x.shape == (2, n + 2, 2)
    assert torch.equal(x[:, 0], way[:, 0])
    assert torch.equal(x[0, n:], way[0, -1:].expand(2, 2)) and torch.equal(x[1, 1], way[1, -1])
    pieces = way[0].diff(dim=0).norm(dim=-1)
    assert float(x[0].diff(dim=0).norm(dim=-1).max()) <= float(pieces.sum()) / n + 1e-4
    # Every state is on one of the pieces.
    to_ends = torch.cdist(x[0], way[0])
    detour = (to_ends[:, :-1] + to_ends[:, 1:] - pieces).amin(1)
    assert float(detour.max()) < 1e-3


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


def test_bending_ignores_the_padding() -> None:
    x = torch.randn(4, 7, 2, dtype=torch.float64, generator=seeded())
    value = bending(x, torch.tensor([6, 3, 1, 2]))
    assert float(value[2]) == 0.0
    by_hand = 0.5 * (x[1, 2:4] - 2 * x[1, 1:3] + x[1, :2]).square().sum()
    torch.testing.assert_close(value[1], by_hand)


def test_the_preconditioner_inverts_the_stiffness() -> None:
    length = torch.tensor([3, 1, 3, 5])
    covariance, root, bends = stiffness_inverses(length, 6, 0.5)
    torch.testing.assert_close(root @ root.mT, covariance)
    # Three transitions: two inner states, each with two neighbours, and two accelerations.
    second = torch.tensor([[1.0, -2.0, 1.0, 0.0], [0.0, 1.0, -2.0, 1.0]])[:, 1:-1]
    hessian = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]) + 0.5 * second.T @ second
    for row in (0, 2):
        torch.testing.assert_close(covariance[row, :2, :2], torch.linalg.inv(hessian))
    assert covariance[0, 2:].abs().max() == 0 and covariance[1].abs().max() == 0
    x = torch.randn(4, 6, 2, generator=seeded()).requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * bending(x, length).sum(), x)
    torch.testing.assert_close(bends @ x, covariance @ gradient[:, 1:-1])
