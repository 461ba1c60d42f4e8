"""The default sampler: what it chooses, that its draws are right, and its errors."""

from __future__ import annotations

import math

import pytest
import torch

from hierebm.energy.bounds import inside
from hierebm.energy.default_sampler import METHODS, SamplerConfig, draw
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.proposals import GaussianProposal, ReplayProposal, UniformProposal
from hierebm.energy.protocol import SamplingError
from tests.energy.targets import Gaussian, Quadratic, box, seeded


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
@pytest.mark.parametrize("dim", [2, 6])
def test_auto_switches_to_annealing_where_resampling_starves(kind, dim):
    var = 0.04
    target = Gaussian(torch.full((dim,), 0.5), torch.full((dim,), var))
    proposal = (
        UniformProposal(-2 * torch.ones(dim), 2 * torch.ones(dim))
        if kind == "uniform"
        else GaussianProposal(torch.zeros(dim), torch.ones(dim))
    )
    draws = draw(target, 512, proposal, config=SamplerConfig(candidates=4096), generator=seeded())
    starved = float(draws.ess.min()) < 256
    assert draws.method == ("smc" if starved else "resample") and starved == (draws.stages > 1)
    if dim == 6:
        assert draws.method == "smc"
    assert draws.y.shape == (1, 512, dim)
    assert float(draws.y.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(draws.y.var(1).mean()) == pytest.approx(var, rel=0.2)
    torch.testing.assert_close(draws.energy, target(draws.y))


def test_annealing_keeps_the_weights_of_separate_modes():
    class Two:
        def __call__(self, y, x=None, z=None):
            a = -0.5 * ((y - 1) / 0.05).square().sum(-1) + math.log(0.75)
            b = -0.5 * ((y + 1) / 0.05).square().sum(-1) + math.log(0.25)
            return -torch.logaddexp(a, b)

        def energy_and_grad(self, y, x=None, z=None):
            a = -0.5 * ((y - 1) / 0.05).square().sum(-1) + math.log(0.75)
            b = -0.5 * ((y + 1) / 0.05).square().sum(-1) + math.log(0.25)
            w = torch.sigmoid(a - b)[..., None]
            return self(y), (w * (y - 1) + (1 - w) * (y + 1)) / 0.05**2

    proposal = UniformProposal(*box(-2.0, 2.0))
    config = SamplerConfig(method="smc", candidates=8192)
    y = draw(Two(), 8192, proposal, config=config, generator=seeded()).y
    assert float((y[..., 0] > 0).float().mean()) == pytest.approx(0.75, abs=0.06)


def test_conditions_are_drawn_each_for_itself():
    target = Gaussian(torch.zeros(2), torch.full((2,), 0.01))
    x = torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.0, -1.5]])
    proposal = UniformProposal(*box(-2.0, 2.0))
    for method in ("auto", "smc", "mala"):
        config = SamplerConfig(method=method, steps=400, candidates=2048)
        y = draw(target, 64, proposal, x=x, config=config, generator=seeded()).y
        torch.testing.assert_close(y.mean(1), x, atol=0.1, rtol=0)


@pytest.mark.parametrize("method", ["auto", "resample", "smc"])
def test_nothing_is_drawn_outside_the_bounds_of_a_proposal(method):
    """A standard normal on [0.5, 2]^2: four in five candidates count as impossible."""
    bounds = box(0.5, 2.0)
    proposal = GaussianProposal(torch.zeros(2), torch.full((2,), 1.2), bounds)
    config = SamplerConfig(method=method, candidates=8192)
    y = draw(Quadratic(), 2000, proposal, config=config, generator=seeded()).y
    assert bool(inside(y, bounds).all())
    a, b = (torch.tensor(v, dtype=torch.float64) for v in (0.5, 2.0))
    pdf = lambda v: math.exp(-0.5 * float(v) ** 2) / math.sqrt(2 * math.pi)  # noqa: E731
    mean = (pdf(a) - pdf(b)) / float(torch.special.ndtr(b) - torch.special.ndtr(a))
    torch.testing.assert_close(y.mean((0, 1)), torch.full((2,), mean), atol=0.03, rtol=0)
    far = GaussianProposal(torch.full((2,), -50.0), torch.ones(2), bounds)
    with pytest.raises(SamplingError, match="outside the region"):
        draw(Quadratic(), 10, far, config=config, generator=seeded())


def test_ratio_energies_resample_replay_states_and_refuse_annealing():
    """InfoNCE against replay negatives: exp(-E) reweights the replay to the data."""
    states = torch.rand(5000, 1, generator=seeded()).square()  # dense near zero
    target = lambda y: torch.where(y > 0.5, 0.0, 20.0)  # noqa: E731

    class Ratio:
        def __call__(self, y, x=None, z=None):
            return target(y).squeeze(-1)

        def energy_and_grad(self, y, x=None, z=None):
            return self(y), torch.zeros_like(y)

    config = SamplerConfig(refine_steps=0, candidates=4000)
    draws = draw(Ratio(), 200, ReplayProposal(states), config=config, generator=seeded())
    assert draws.method == "resample" and float(draws.y.min()) > 0.5
    assert bool(torch.isin(draws.y.flatten(), states.flatten()).all())
    expected = states[states > 0.5].mean()
    assert float(draws.y.mean()) == pytest.approx(float(expected), abs=0.03)
    with pytest.raises(ValueError, match="known density"):
        draw(Ratio(), 5, ReplayProposal(states), config=SamplerConfig(method="smc"))


def test_states_of_a_replay_are_resampled_and_not_moved():
    """The target is q exp(-E), whose density is not known: a Metropolis step would change it."""
    states = torch.randn(3000, 2, generator=seeded())
    y = draw(Quadratic(), 50, ReplayProposal(states), generator=seeded(1)).y[0]
    assert bool((y[:, None] == states).all(-1).any(-1).all())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_a_network_and_repeats(method):
    model = EnergyMLP(2, 1, 1, width=16, generator=seeded())
    proposal = UniformProposal(*box(-1.0, 1.0))
    x, z = torch.randn(3, 1, generator=seeded(1)), torch.randn(3, 1, generator=seeded(2))
    config = SamplerConfig(method=method, steps=5, candidates=64)
    a, b = (
        draw(model, 7, proposal, x=x, z=z, config=config, generator=seeded(3)) for _ in range(2)
    )
    assert a.y.shape == (3, 7, 2) and a.energy.shape == (3, 7) and a.ess.shape == (3,)
    assert torch.equal(a.y, b.y)
    assert bool((a.y.abs() <= 1).all())
    torch.testing.assert_close(a.energy, model(a.y, x[:, None], z[:, None]).detach())


@pytest.mark.parametrize("method", METHODS)
def test_one_draw_is_enough_for_every_method(method):
    model = EnergyMLP(2, width=8, generator=seeded())
    config = SamplerConfig(method=method, steps=20)
    proposal = UniformProposal(*box(-1.0, 1.0))
    draws = [draw(model, 1, proposal, config=config, generator=seeded(s)).y for s in range(5)]
    assert all(y.shape == (1, 1, 2) and bool(torch.isfinite(y).all()) for y in draws)
    assert len({tuple(y.flatten().tolist()) for y in draws}) == 5


@pytest.mark.parametrize("diversity", ["farthest", "kmeans++"])
def test_diverse_draws_lie_farther_apart(diversity):
    target = Gaussian(torch.zeros(2), torch.ones(2))
    proposal = UniformProposal(*box(-4.0, 4.0))
    spread = []
    for choice in (None, diversity):
        config = SamplerConfig(diversity=choice, candidates=2048)
        y = draw(target, 16, proposal, config=config, generator=seeded()).y[0]
        distance = torch.cdist(y, y) + 10 * torch.eye(16)
        spread.append(float(distance.min(1).values.mean()))
    assert spread[1] > 1.2 * spread[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_energies_that_are_not_numbers_are_refused_by_every_method(method, value):
    model = EnergyMLP(2, width=8, generator=seeded())
    with torch.no_grad():
        model.out.bias.fill_(value)
    config = SamplerConfig(method=method, steps=3)
    with pytest.raises(SamplingError, match="energ"):
        draw(model, 4, UniformProposal(*box(-1.0, 1.0)), config=config, generator=seeded())


def test_sampling_errors():
    proposal = UniformProposal(*box(-1.0, 1.0))
    with pytest.raises(ValueError, match="method 'gibbs'"):
        draw(Quadratic(), 3, proposal, config=SamplerConfig(method="gibbs"))
    broken = EnergyMLP(2, width=32, depth=2, generator=seeded())
    with torch.no_grad():
        broken.out.bias.fill_(math.nan)
    with pytest.raises(SamplingError):
        draw(broken, 3, proposal, generator=seeded())
    target = Gaussian(torch.full((2,), 0.5), torch.full((2,), 1e-8))
    config = SamplerConfig(method="smc", max_stages=2)
    with pytest.raises(SamplingError, match="max_stages"):
        draw(target, 3, proposal, config=config, generator=seeded())


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda y: SamplerConfig(method="gibbs"), "method 'gibbs'"),
        (lambda y: SamplerConfig(diversity="most"), "diversity 'most'"),
        (lambda y: SamplerConfig(temperature=0.0), "descent"),
        (lambda y: SamplerConfig(candidates=0), "candidates"),
        (lambda y: SamplerConfig(oversample=0), "oversample"),
        (lambda y: draw(Quadratic(), 0, UniformProposal(*box(-1.0, 1.0))), "n must be"),
    ],
)
def test_bad_sampler_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(torch.zeros(1, 3, 2))
