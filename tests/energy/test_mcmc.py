"""Samplers leave the exact density as it is, stay in their box, and say what goes wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.annealing import _Bridge, _next_step
from hierebm.energy.bounds import inside, reflect
from hierebm.energy.default_sampler import METHODS, SamplerConfig, draw
from hierebm.energy.mcmc import annealed_langevin, descent, langevin, mala, metropolis
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.proposals import GaussianProposal, ReplayProposal, UniformProposal
from hierebm.energy.protocol import SamplingError, autograd_energy_and_grad
from hierebm.energy.resampling import importance_resample
from hierebm.energy.training import EnergyConfig, fit_energy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Valleys:
    """E = sum of y^4 / 4 - y^2 + y / 2: two valleys an axis, neither Gaussian nor symmetric."""

    def __call__(self, y, x=None, z=None):
        return (y.pow(4) / 4 - y.square() + y / 2).sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        return self(y), y.pow(3) - 2 * y + 0.5

    def quantiles(self, n: int, temperature: float, low: float, high: float) -> torch.Tensor:
        """(n,) points that cut exp(-E / T) on [low, high] into equal parts: its exact samples."""
        grid = torch.linspace(low, high, 200_001, dtype=torch.float64)
        cdf = (-self(grid[:, None]) / temperature).exp().cumsum(0)
        share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return grid[torch.searchsorted(cdf / cdf[-1], share)]


class Quadratic:
    """E = |y|^2 / 2."""

    def __call__(self, y, x=None, z=None):
        return 0.5 * y.square().sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        return self(y), y.clone()


def box(low: float, high: float, dim: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((dim,), low), torch.full((dim,), high)


# ---------------------------------------------------------------------- exactness


@pytest.mark.parametrize("sampler", ["mala", "metropolis"])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("walls", [None, (-1.5, 0.8)])
def test_a_metropolis_step_leaves_the_density_as_it_is(sampler, temperature, walls):
    """Exact samples stay exact under long steps: any slip in the acceptance rule shows."""
    target, n = Valleys(), 20_000
    low, high = walls or (-5.0, 5.0)
    exact = target.quantiles(n, temperature, low, high)
    y = exact[torch.randperm(n, generator=seeded())].view(1, n, 1)
    bounds = None if walls is None else box(*walls, dim=1)
    if sampler == "mala":
        moved = mala(
            target, y, steps=20, step_size=0.4, temperature=temperature,
            generator=seeded(1), bounds=bounds,
        ).y  # fmt: skip
    else:
        moved, energy = metropolis(
            target, y, target(y), steps=20, step_size=0.4, temperature=temperature,
            generator=seeded(1), bounds=bounds,
        )  # fmt: skip
        torch.testing.assert_close(energy, target(moved))
    assert moved.dtype == torch.float64
    assert float((moved != y).double().mean()) > 0.9
    rank = torch.searchsorted(exact, moved.flatten().sort().values) / n
    uniform = (torch.arange(n) + 0.5) / n
    # Kolmogorov-Smirnov at one in a thousand.
    assert float((rank - uniform).abs().max()) < 1.95 / math.sqrt(n)


def test_draws_without_replacement_follow_successive_sampling():
    """P(first i, then j) = p_i p_j / (1 - p_i), for every pair."""
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    rows = 40_000
    idx, _ = importance_resample(-p.log().expand(rows, 4), 2, seeded(), replace=False)
    seen = torch.bincount(4 * idx[:, 0] + idx[:, 1], minlength=16).view(4, 4) / rows
    expected = p[:, None] * p[None] / (1 - p[:, None])
    expected.fill_diagonal_(0.0)
    torch.testing.assert_close(seen.double(), expected, atol=0.01, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 10_000))
def test_excluded_candidates_are_never_drawn(allowed, n, seed):
    energy = torch.full((3, 9), math.inf)
    keep = torch.rand((3, 9), generator=seeded(seed)).argsort(1)[:, :allowed]
    energy.scatter_(1, keep, torch.randn((3, allowed), generator=seeded(seed)))
    for replace in (True, False):
        if not replace and n > allowed:
            with pytest.raises(ValueError, match=f"n={n} of {allowed} candidates"):
                importance_resample(energy, n, seeded(seed), replace=False)
            continue
        idx, _ = importance_resample(energy, n, seeded(seed), replace=replace)
        assert bool(torch.isfinite(energy.gather(1, idx)).all())


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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 100.0]), st.sampled_from([0.3, 0.5, 0.9]))
def test_a_stage_of_annealing_goes_as_far_as_its_effective_share_allows(seed, scale, share):
    ascent = scale * torch.randn(2, 50, generator=seeded(seed))
    ascent[0, :20] = -math.inf  # outside the bounds
    longest, alive = torch.tensor([1.0, 0.25]), torch.tensor([30.0, 50.0])
    step = _next_step(ascent, longest, share * alive)

    def effective(delta):
        w = torch.softmax(ascent.double() * delta.double()[:, None], dim=-1)
        return 1.0 / w.square().sum(-1)

    assert bool((effective(step) >= share * alive - 1e-3).all())
    farther = torch.minimum(1.01 * step + 1e-9, longest)
    assert bool(((effective(farther) < share * alive + 1e-3) | (farther == longest)).all())


def test_the_bridge_between_proposal_and_target_knows_its_gradient():
    proposal = GaussianProposal(torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0]))
    y = torch.randn(2, 6, 2, generator=seeded())
    beta = torch.tensor([[0.0], [0.7]])
    energy, grad = _Bridge(Valleys(), None, None, proposal, beta, 0.5).energy_and_grad(y)
    y.requires_grad_()
    log_q = torch.distributions.Normal(proposal.mean, proposal.std).log_prob(y).sum(-1)
    expected = beta * Valleys()(y) / 0.5 - (1 - beta) * log_q
    torch.testing.assert_close(
        energy - energy.mean(1, keepdim=True), expected - expected.mean(1, keepdim=True)
    )
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), y)[0])


def test_states_of_a_replay_are_resampled_and_not_moved():
    """The target is q exp(-E), whose density nobody knows: a Metropolis step would leave it."""
    states = torch.randn(3000, 2, generator=seeded())
    y = draw(Quadratic(), 50, ReplayProposal(states), generator=seeded(1)).y[0]
    assert bool((y[:, None] == states).all(-1).any(-1).all())


# ---------------------------------------------------------------------- the box


@settings(max_examples=60, deadline=None)
@given(
    y=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2),
    low=st.floats(-2.0, 0.0, width=32),
    width=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_reflection_ends_inside_even_where_the_box_has_no_width(y, low, width):
    bounds = torch.tensor([low, -1.0]), torch.tensor([low + width, 1.0])
    folded = reflect(torch.tensor(y), bounds)
    assert bool(inside(folded, (bounds[0] - 1e-4, bounds[1] + 1e-4)))
    within = torch.tensor([low, 0.25])
    torch.testing.assert_close(reflect(within, bounds), within)


# ---------------------------------------------------------------------- edges


@pytest.mark.parametrize("method", METHODS)
def test_one_draw_is_enough_for_every_method(method):
    model = EnergyMLP(2, width=8, generator=seeded())
    config = SamplerConfig(method=method, steps=20)
    proposal = UniformProposal(*box(-1.0, 1.0))
    draws = [draw(model, 1, proposal, config=config, generator=seeded(s)).y for s in range(5)]
    assert all(y.shape == (1, 1, 2) and bool(torch.isfinite(y).all()) for y in draws)
    assert len({tuple(y.flatten().tolist()) for y in draws}) == 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_energies_that_are_not_numbers_are_refused_by_every_method(method, value):
    model = EnergyMLP(2, width=8, generator=seeded())
    with torch.no_grad():
        model.out.bias.fill_(value)
    config = SamplerConfig(method=method, steps=3)
    with pytest.raises(SamplingError, match="energ"):
        draw(model, 4, UniformProposal(*box(-1.0, 1.0)), config=config, generator=seeded())


def test_proposals_of_nan_energy_are_rejected():
    class Hole(Quadratic):
        def __call__(self, y, x=None, z=None):
            return torch.where(y[..., 0] > 0.5, math.nan, super().__call__(y))

    y = torch.zeros(1, 500, 2)
    result = mala(Hole(), y, steps=50, step_size=0.2, generator=seeded())
    assert float(result.y[..., 0].max()) <= 0.5 and 0.2 < result.acceptance < 1.0
    moved, _ = metropolis(Hole(), y, Hole()(y), steps=50, step_size=0.2, generator=seeded())
    assert float(moved[..., 0].max()) <= 0.5 < float(moved[..., 1].max())


def test_a_step_of_zero_goes_nowhere_and_a_constant_coordinate_does_not_stop_the_others():
    y = torch.randn(1, 200, 2, generator=seeded())
    still = mala(Quadratic(), y, steps=5, step_size=0.0, generator=seeded())
    assert torch.equal(still.y, y) and still.acceptance == 1.0
    assert torch.equal(langevin(Quadratic(), y, steps=5, step_size=0.0, generator=seeded()), y)
    step = torch.tensor([0.1, 0.0])
    moved = mala(Quadratic(), y, steps=20, step_size=step, adapt=True, generator=seeded())
    assert torch.equal(moved.y[..., 1], y[..., 1])
    assert not bool((moved.y[..., 0] == y[..., 0]).any())
    # Candidates that are all alike in one coordinate: its width, and so its step, is zero.
    states = torch.stack([torch.randn(400, generator=seeded()), torch.ones(400)], dim=-1)
    config = SamplerConfig(method="mala", steps=30)
    y = draw(Quadratic(), 50, ReplayProposal(states), config=config, generator=seeded()).y[0]
    assert bool((y[:, 1] == 1.0).all())
    assert not bool(torch.isin(y[:, 0], states[:, 0]).any())


def test_no_steps_are_no_steps():
    y = torch.randn(2, 3, 2, generator=seeded())
    assert torch.equal(langevin(Quadratic(), y, steps=0, step_size=0.1), y)
    assert torch.equal(annealed_langevin(Quadratic(), y, steps=0, step_size=0.1), y)
    result = mala(Quadratic(), y, steps=0, step_size=0.1)
    assert torch.equal(result.y, y) and result.acceptance == 0.0
    assert torch.equal(metropolis(Quadratic(), y, y[..., 0], steps=0, step_size=0.1)[0], y)


def test_annealing_without_cooling_is_langevin_and_descent_is_its_cold_end():
    y = torch.randn(1, 20, 2, generator=seeded())
    settings_ = {"steps": 7, "step_size": 0.05, "max_move": 0.1, "bounds": box(-1.0, 1.0)}
    constant = annealed_langevin(
        Quadratic(), y, start_temperature=0.7, temperature=0.7, generator=seeded(1), **settings_
    )
    plain = langevin(Quadratic(), y, temperature=0.7, generator=seeded(1), **settings_)
    torch.testing.assert_close(constant, plain)
    cold = langevin(Quadratic(), y, temperature=0.0, **settings_)
    assert torch.equal(descent(Quadratic(), y, **settings_), cold)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda y: langevin(Quadratic(), y, steps=1, step_size=-0.1), "step_size"),
        (lambda y: langevin(Quadratic(), y, steps=1, step_size=0.1, temperature=-1.0), "temperat"),
        (lambda y: annealed_langevin(Quadratic(), y, steps=1, step_size=0.1, temperature=0.0), "d"),
        (lambda y: mala(Quadratic(), y, steps=1, step_size=0.1, temperature=0.0), "temperature"),
        (lambda y: mala(Quadratic(), y, steps=1, step_size=-0.1), "step_size"),
        (lambda y: importance_resample(y[0], 2, temperature=0.0), "temperature"),
        (lambda y: importance_resample(y, 2), "energy must be"),
        (lambda y: importance_resample(y[0, :, :0], 2), "M >= 1"),
        (lambda y: SamplerConfig(method="gibbs"), "method 'gibbs'"),
        (lambda y: SamplerConfig(diversity="most"), "diversity 'most'"),
        (lambda y: SamplerConfig(temperature=0.0), "descent"),
        (lambda y: SamplerConfig(candidates=0), "candidates"),
        (lambda y: SamplerConfig(oversample=0), "oversample"),
        (lambda y: draw(Quadratic(), 0, UniformProposal(*box(-1.0, 1.0))), "n must be"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(torch.zeros(1, 3, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("objective", ["info_nce", "score_matching", "latent_info_nce"])
def test_energies_are_trained_and_sampled_on_cuda(objective):
    gen = torch.Generator("cuda").manual_seed(0)
    z_dim = int(objective == "latent_info_nce")
    model = EnergyMLP(2, 1, z_dim, width=16, generator=seeded()).cuda()
    y, x = (torch.randn(300, d, generator=gen, device="cuda") for d in (2, 1))
    config = EnergyConfig(objective=objective, steps=5, batch_size=32)
    fit_energy(model, y, x, config=config, generator=gen)
    proposal = UniformProposal(*(corner.cuda() for corner in box(-1.0, 1.0)))
    for method in METHODS:
        z = torch.zeros(3, z_dim, device="cuda") if z_dim else None
        drawn = draw(
            model, 6, proposal, x=x[:3], z=z, generator=gen,
            config=SamplerConfig(method=method, steps=3, diversity="farthest"),
        )  # fmt: skip
        assert drawn.y.is_cuda and drawn.ess.is_cuda and drawn.y.shape == (3, 6, 2)


# ---------------------------------------------------------------------- inference mode


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
