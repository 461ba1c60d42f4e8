"""Passes for a GPU, on the CPU: they are what autograd computes, however many rows there are."""

from __future__ import annotations

import pytest
import torch

from hierebm.errors import TrainingDiverged
from hierebm.nn import flat, passes
from hierebm.nn.capture import Beside
from hierebm.nn.flat import FlatAdam, flat_parameters
from hierebm.nn.layers import MLP, EnsembleMLP
from hierebm.nn.watch import Watch


@pytest.mark.parametrize("kind", ["one", "ensemble"])
@pytest.mark.parametrize("rows", [7, 2 * passes.SPLIT_ROWS, passes.FUSED_ROWS])
def test_forward_and_back_are_those_of_autograd(kind: str, rows: int) -> None:
    torch.manual_seed(0)
    network = MLP(3, [8, 8], 2) if kind == "one" else EnsembleMLP(3, 3, [8, 8], 2)
    weights = flat_parameters(network.double())
    members = 1 if kind == "one" else 3
    x = torch.randn(members, rows, 3, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(members, rows, 2, dtype=torch.float64)
    expected = network(x[0])[None] if kind == "one" else network(x)
    gradients = torch.autograd.grad(expected, [x, *network.parameters()], slope)
    dense = passes.DensePass(network, Beside(torch.device("cpu")))
    with torch.no_grad():
        torch.testing.assert_close(dense.forward(x.detach()), expected)
        dense.backward(slope)
        torch.testing.assert_close(dense.input_gradient(slope, slice(1, 3)), gradients[0][..., 1:])
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, torch.cat([g.flatten() for g in gradients[1:]]))


def test_adam_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = []
    for size in (1000, 28):
        monkeypatch.setattr(flat, "_piece", lambda _, size=size: size)
        torch.manual_seed(0)
        optimizer = FlatAdam(flat_parameters(MLP(3, [8], 2)), lr=0.1)
        for _ in range(3):
            optimizer.grad.normal_()
            optimizer.descend(torch.tensor(0.1))
        ways.append(optimizer)
    assert torch.equal(ways[0].flat, ways[1].flat)
    assert float(ways[0].state_dict()["step"]) == float(ways[1].state_dict()["step"]) == 3.0


def test_the_first_of_several_updates_is_named_in_which_a_network_was_lost() -> None:
    optimizers = [FlatAdam(flat_parameters(MLP(3, [8], 2)), name=name) for name in ("a", "b")]
    watch = Watch(optimizers, 1)
    rate, one = torch.tensor(0.1), torch.ones(())
    for update in range(1, 7):
        for optimizer in optimizers:
            optimizer.grad.fill_(1.0)
        if update == 5:
            optimizers[1].grad[0] = torch.inf
        for optimizer in optimizers:
            optimizer.descend(rate)
        watch.note([torch.tensor([float(update)])], [one, one])
        if update == 2:
            watch.write()
            assert watch.read() == [[3.0]]
    watch.write()
    with pytest.raises(TrainingDiverged, match="the gradient of the b came to inf in update 5"):
        watch.read()
