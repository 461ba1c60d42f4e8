"""Distance heads: the backup is distributional RL's projection, its fixed point the distance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.control.heads import CategoricalHead, make_head


def projected_backup(p: torch.Tensor, reached: bool, failure: bool) -> torch.Tensor:
    """Bellemare et al. 2017, algorithm 1, atom by atom, with cost 1 and atoms 1..N."""
    n = len(p)
    m = torch.zeros(n)
    for j in range(n):
        value = 1.0 if reached else n if failure else min(max(j + 2.0, 1.0), float(n))
        b = value - 1.0
        low, high = int(b), min(int(b) + 1, n - 1)
        m[low] += p[j] * (1.0 - (b - low))
        m[high] += p[j] * (b - low)
    return m


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(2, 12)),
    seed=st.integers(0, 10_000),
)
def test_the_categorical_backup_is_the_projection(shape: tuple[int, int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = 3.0 * torch.randn(shape, generator=generator)
    reached, failure = (torch.rand(shape[1], generator=generator) < 0.3 for _ in range(2))
    target = CategoricalHead(shape[2]).bootstrap(outputs, reached, failure)
    probabilities = outputs.softmax(-1)
    for e in range(shape[0]):
        for i in range(shape[1]):
            expected = projected_backup(probabilities[e, i], bool(reached[i]), bool(failure[i]))
            torch.testing.assert_close(target[e, i], expected)


@pytest.mark.parametrize("kind", ["categorical", "scalar"])
def test_backups_along_a_corridor_end_at_the_number_of_steps(kind: str) -> None:
    """State i reaches the goal in i + 1 steps; the last state leads nowhere."""
    head, n = make_head(kind, 6), 9
    reached, failure = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    reached[0], failure[-1] = True, True
    outputs = torch.randn((2, n, head.out_dim), generator=torch.Generator().manual_seed(0)).abs()
    for _ in range(2 * n):
        following = torch.cat([outputs[:, :1], outputs[:, :-1]], dim=1)
        target = head.bootstrap(following, reached, failure)
        # An output that says exactly the target: the loss is smallest there.
        outputs = target.clamp(min=1e-12).log() if kind == "categorical" else target
    expected = torch.tensor([1.0, 2, 3, 4, 5, 6, 6, 6, 6]).expand(2, n)
    torch.testing.assert_close(head.distance(outputs), expected)
    outputs = outputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(head.loss(outputs, target), outputs)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="critic must be one of"):
        make_head("quantile", 10)
    with pytest.raises(ValueError, match="max_distance"):
        make_head("scalar", 1)
