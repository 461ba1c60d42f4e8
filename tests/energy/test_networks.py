"""The energy network: broadcasting, initial weights, spectral norm, inference mode, errors."""

from __future__ import annotations

import math

import pytest
import torch

from hierebm.energy.default_sampler import draw
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.proposals import UniformProposal
from hierebm.energy.protocol import autograd_energy_and_grad
from tests.energy.targets import box, seeded


def test_one_candidate_under_many_conditions_broadcasts():
    model = EnergyMLP(2, 3, width=8, generator=seeded()).double()
    y = torch.randn(1, 4, 2, dtype=torch.float64, generator=seeded(1))
    x = torch.randn(6, 1, 3, dtype=torch.float64, generator=seeded(2))
    energy, grad = model.energy_and_grad(y, x)
    assert energy.shape == (6, 4) and grad.shape == (6, 4, 2)
    each = torch.stack([model(y[0], x[i].expand(4, 3)) for i in range(6)])
    torch.testing.assert_close(energy, each.detach())


def test_same_generator_same_network_and_global_rng_untouched():
    state = torch.get_rng_state()
    a, b = (EnergyMLP(2, 1, 1, spectral_norm=True, generator=seeded(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(p, q)


def test_spectral_norm_bounds_the_layers_and_sampling_does_not_move_it():
    model = EnergyMLP(2, width=32, spectral_norm=True, generator=seeded())
    y = torch.randn(8, 2, generator=seeded(1))
    for _ in range(200):
        model(y)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.energy_and_grad(y)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for i in range(3):
        assert float(torch.linalg.matrix_norm(model._weight(i).detach(), 2)) == pytest.approx(
            1.0, abs=0.02
        )


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"y_dim": 0}, "y_dim"),
        ({"y_dim": 1, "width": 0}, "width"),
        ({"y_dim": 1, "activation": "swish?"}, "activation"),
        ({"y_dim": 1, "fourier_mode": "all"}, "fourier_mode"),
        ({"y_dim": 1, "fourier_scale": -1.0}, "fourier_scale"),
    ],
)
def test_bad_network_arguments_are_named(kwargs, name):
    with pytest.raises(ValueError, match=name):
        EnergyMLP(**kwargs)


def test_wrong_input_shape_names_the_argument():
    model = EnergyMLP(2, 3)
    with pytest.raises(ValueError, match="x must have shape"):
        model(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="y must have shape"):
        model(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="y_std"):
        model.set_normalisation(torch.zeros(2), torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="y_mean must have shape"):
        model.set_normalisation(torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="takes no z"):
        model(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="takes no x"):
        EnergyMLP(2).energy_and_grad(torch.zeros(1, 2), torch.zeros(1, 3))


def test_a_network_may_be_asked_in_and_out_of_inference_mode():
    model = EnergyMLP(2, 1, width=8, generator=seeded())
    y, x = torch.randn(4, 6, 2, generator=seeded(1)), torch.randn(4, 1, 1, generator=seeded(2))
    with torch.inference_mode():
        first, slope = model.energy_and_grad(y, x)
        reference = autograd_energy_and_grad(model, y.clone(), x.clone())
        drawn = draw(model, 5, UniformProposal(*box(-1.0, 1.0)), x=x[:, 0], generator=seeded(3)).y
    with torch.no_grad():
        assert torch.equal(model(y, x), first)
    loss = model(y, x).sum()
    loss.backward()
    torch.testing.assert_close(reference, (first, slope))
    again = draw(model, 5, UniformProposal(*box(-1.0, 1.0)), x=x[:, 0], generator=seeded(3)).y
    assert torch.equal(again, drawn)
