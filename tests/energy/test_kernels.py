"""Energies and input gradients of the hand-written kernels against autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.networks import EnergyMLP
from tests.energy.targets import seeded
from tests.toys import lying_at


@pytest.mark.parametrize("activation", ["silu", "tanh", "softplus", "relu"])
@pytest.mark.parametrize("mode", ["joint", "y", "separate"])
@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize(
    ("x_dim", "z_dim", "features"), [(0, 0, 5), (4, 0, 5), (4, 2, 5), (4, 2, 0)]
)
def test_input_gradient_matches_autograd(activation, mode, spectral_norm, x_dim, z_dim, features):
    model = EnergyMLP(
        3, x_dim, z_dim, width=16, activation=activation, fourier_mode=mode,
        fourier_features=features, fourier_scale=(1.0, 3.0), spectral_norm=spectral_norm,
        generator=seeded(),
    ).double()  # fmt: skip
    gen = seeded(1)
    model.set_normalisation(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, 2.0, 3.0]))
    y = torch.randn(5, 7, 3, generator=gen, dtype=torch.float64)
    x = torch.randn(5, 1, x_dim, generator=gen, dtype=torch.float64) if x_dim else None
    z = torch.randn(5, 7, z_dim, generator=gen, dtype=torch.float64) if z_dim else None
    model.eval()
    energy, grad = model.energy_and_grad(y, x, z)
    energy_ref, grad_ref = model.autograd_energy_and_grad(y, x, z)
    assert energy.shape == (5, 7) and grad.shape == (5, 7, 3)
    torch.testing.assert_close(energy, energy_ref, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grad, grad_ref, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("features", [0, 5])
@pytest.mark.parametrize("anchors", [1, 2])
def test_gradient_through_distances_and_detour(features, anchors):
    model = EnergyMLP(
        2, 5, width=16, anchors=anchors, fourier_features=features, generator=seeded()
    ).double()
    model.set_normalisation(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0]))
    y = torch.randn(4, 6, 2, generator=seeded(1), dtype=torch.float64)
    x = torch.randn(4, 1, 5, generator=seeded(2), dtype=torch.float64)
    y[0, 0] = x[0, 0, :2]  # on the anchor itself
    energy, grad = model.energy_and_grad(y, x)
    energy_ref, grad_ref = model.autograd_energy_and_grad(y, x)
    torch.testing.assert_close(energy, energy_ref, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grad, grad_ref, rtol=1e-8, atol=1e-10)
    moved = x.clone()
    moved[..., 0] += 0.1
    assert float((model(y, moved) - energy).abs().max().detach()) > 1e-4
    with pytest.raises(ValueError, match="anchors"):
        EnergyMLP(2, 3, anchors=2)


@settings(max_examples=80, deadline=None)
@given(
    y_lead=st.sampled_from([(), (0,), (1,), (7,), (1, 1), (1, 600), (3, 0), (2, 300), (2, 3, 4)]),
    x_lead=st.sampled_from(["same", "one", "per row"]),
    y_dim=st.integers(1, 3),
    anchors=st.integers(0, 2),
    z_dim=st.integers(0, 2),
    depth=st.integers(1, 3),
    features=st.sampled_from([0, 1, 4]),
    mode=st.sampled_from(["joint", "y", "separate"]),
    activation=st.sampled_from(["silu", "tanh", "softplus", "relu"]),
    contiguous=st.booleans(),
    double=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_energies_and_gradients_of_any_shape_are_those_of_float64_autograd(
    y_lead, x_lead, y_dim, anchors, z_dim, depth, features, mode, activation, contiguous, double,
    seed,
):  # fmt: skip
    """Empty and single batches, one layer, no features, more rows than a chunk holds, windows."""
    gen, dtype = seeded(seed), torch.float64 if double else torch.float32
    x_dim = anchors * y_dim + seed % 2
    model = EnergyMLP(
        y_dim, x_dim, z_dim, width=8, depth=depth, anchors=anchors, activation=activation,
        fourier_features=features, fourier_mode=mode, generator=gen,
    ).double()  # fmt: skip
    model.set_normalisation(torch.randn(y_dim, generator=gen), 0.5 + torch.rand(y_dim))
    cut = {"same": y_lead, "one": (1,) * len(y_lead), "per row": (*y_lead[:-1], 1)[: len(y_lead)]}

    def inputs(lead, size):
        if not size:
            return None
        wide = torch.randn((*lead, size + 2), generator=gen, dtype=dtype)[..., 1:-1]
        return wide.contiguous() if contiguous else wide

    y, x, z = inputs(y_lead, y_dim), inputs(cut[x_lead], x_dim), inputs(y_lead, z_dim)
    exact = model.autograd_energy_and_grad(*(None if t is None else t.double() for t in (y, x, z)))
    assert exact[0].shape == y_lead and exact[1].shape == (*y_lead, y_dim)
    energy, grad = model.to(dtype).energy_and_grad(y, x, z)
    # A kink of relu may lie between the two roundings: only whole numbers of float64 compare.
    if double or activation != "relu":
        tight = {"rtol": 1e-8, "atol": 1e-9} if double else {"rtol": 2e-3, "atol": 2e-4}
        torch.testing.assert_close(energy.double(), exact[0], **tight)
        torch.testing.assert_close(grad.double(), exact[1], **tight)
    with torch.no_grad():
        assert torch.equal(model(y, x, z), energy)


@pytest.mark.parametrize("activation", ["silu", "tanh", "softplus", "relu"])
@pytest.mark.parametrize("offset", [1, 3, 4, 5, 16])
def test_energies_depend_neither_on_earlier_ones_nor_on_where_y_lies(activation, offset):
    g = torch.Generator().manual_seed(0)
    fresh, used = (
        EnergyMLP(
            3, 7, width=21, depth=3, activation=activation, fourier_features=5, anchors=2,
            generator=torch.Generator().manual_seed(1),
        )
        for _ in range(2)
    )  # fmt: skip
    used.energy_and_grad(torch.randn(700, 3, generator=g), torch.randn(7, generator=g))
    for shape in ((1, 3), (37, 3), (5, 9, 3)):
        y, x = torch.randn(shape, generator=g), torch.randn(*shape[:-2], 1, 7, generator=g)
        elsewhere = (torch.from_numpy(lying_at(t.numpy(), offset)) for t in (y, x))
        both = fresh.energy_and_grad(y, x), used.energy_and_grad(*elsewhere)
        for expected, got in zip(*both, strict=True):
            assert torch.equal(got, expected)
