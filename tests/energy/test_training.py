"""Toy densities, negatives, training and the default sampler, against exact answers."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict

import pytest
import torch

from hierebm.energy.default_sampler import METHODS, SamplerConfig, draw
from hierebm.energy.losses import info_nce
from hierebm.energy.negatives import (
    HardNegatives,
    LangevinNegatives,
    MismatchedNegatives,
    PivotNegatives,
    ReplayNegatives,
    UniformNegatives,
)
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import (
    ContrastiveBatch,
    get_objective,
    latent_info_nce,
    sample_latents,
)
from hierebm.energy.proposals import GaussianProposal, ReplayProposal, UniformProposal
from hierebm.energy.protocol import SamplingError
from hierebm.energy.toys.conditional_densities import AccelerateBrake, ConditionalRing, TwoBranches
from hierebm.energy.toys.densities import toy_density
from hierebm.energy.toys.metrics import log_density_fit, sample_metrics
from hierebm.energy.training import (
    EnergyConfig,
    EnergyTrainer,
    TrainingDiverged,
    default_negatives,
    fit_energy,
)

NAMES = ("spiral", "parabolas", "checkerboard", "pinwheel")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Gaussian:
    def __init__(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        self.mean, self.var = mean, var

    def __call__(self, y, x=None, z=None):
        mean = self.mean if x is None else x
        return 0.5 * ((y - mean).square() / self.var).sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        mean = self.mean if x is None else x
        return self(y, x), (y - mean) / self.var


# ---------------------------------------------------------------------- densities


@pytest.mark.parametrize("name", NAMES)
def test_densities_integrate_to_one_and_match_their_samples(name):
    density = toy_density(name)
    axis = torch.linspace(-1.4, 1.4, 201)
    cell = (2.8 / 200) ** 2
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    p = density.log_prob(grid).exp()
    assert float(p.sum() * cell) == pytest.approx(1.0, abs=0.01)
    # The entropy by quadrature is the mean of -log p over samples.
    entropy = float(-(p * p.clamp(min=1e-30).log()).sum() * cell)
    y = density.sample(10_000, seeded())
    assert float(-density.log_prob(y).mean()) == pytest.approx(entropy, abs=0.03)
    assert bool(((y >= density.low) & (y <= density.high)).all())


@pytest.mark.parametrize("name", NAMES)
def test_bins_are_equally_likely_and_real_data_scores_well(name):
    density = toy_density(name)
    y = density.sample(4000, seeded(1))
    counts = torch.bincount(density.bins(y), minlength=density.n_bins)
    assert len(counts) == density.n_bins
    assert float(counts.min()) > 0.5 * 4000 / density.n_bins
    metrics = sample_metrics(density, y, reference=20_000)
    assert metrics["precision"] > 0.99 and metrics["tv"] < 0.07 and metrics["coverage"] == 1.0


def test_metrics_tell_bad_samples():
    density = toy_density("spiral")
    y = density.sample(2000, seeded())
    half = y[density.bins(y) < 20]
    assert sample_metrics(density, half, reference=5000)["tv"] == pytest.approx(0.5, abs=0.05)
    assert sample_metrics(density, half, reference=5000)["coverage"] == pytest.approx(0.5)
    off = y + 0.15 * torch.randn(y.shape, generator=seeded(1))
    assert sample_metrics(density, off, reference=5000)["precision"] < 0.6
    corr, slope = log_density_fit(density, lambda v: -0.5 * density.log_prob(v) + 3.0, n=500)
    assert corr == pytest.approx(1.0, abs=1e-4) and slope == pytest.approx(0.5, abs=1e-4)


def test_two_branches_density_and_sampler_agree():
    density = TwoBranches()
    x, y = density.sample(4000, seeded())
    assert float(((y.abs() - density.branch(x)).abs() < 3 * density.sigma).float().mean()) > 0.99
    assert float((y > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    grid = torch.linspace(-2, 2, 4001)[:, None]
    p = density.log_prob(grid, torch.full_like(grid, 0.2)).exp()
    assert float(p.sum() * 4 / 4000) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("dim", [2, 8])
def test_ring_distance_of_its_own_samples_is_the_noise(dim):
    density = ConditionalRing(dim)
    x = density.conditions(500, seeded())
    y = density.sample_given(x, seeded(1))
    distance, cell = density.ring_distance(y, x)
    # The component along the curve is lost: dim - 1 are left.
    assert float(distance.square().mean()) == pytest.approx((dim - 1) * density.sigma**2, rel=0.15)
    assert bool((torch.bincount(cell, minlength=16) > 10).all())
    assert bool(((y >= density.low) & (y <= density.high)).all())


def test_states_drawn_by_arc_length_are_uniform_and_by_time_pile_up_at_the_ends():
    moves = AccelerateBrake(sigma=0.0)
    for by, end in (("arc", 0.1), ("time", 0.22)):
        x, y = moves.sample(6000, seeded(), by=by)
        start, goal = x[:, :2], x[:, 2:]
        share = ((y - start) * (goal - start)).sum(-1) / (goal - start).square().sum(-1)
        assert float((share < 0.1 - 1e-6).float().mean()) == pytest.approx(end, abs=0.03)
    # The exact density agrees with the samples it is given for.
    moves = AccelerateBrake()
    x, y = moves.sample(1, seeded(1), by="time")
    axis = torch.linspace(-2, 2, 161)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    p = moves.log_prob(grid, x[0].expand(161, 161, 4), by="time").exp()
    assert float(p.sum() * (4 / 160) ** 2) == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match="by="):
        moves.sample(3, seeded(), by="space")


# ---------------------------------------------------------------------- negatives


def test_uniform_replay_and_mismatched_negatives():
    y, x = torch.randn(8, 2, generator=seeded()), torch.randn(8, 3, generator=seeded(1))
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 5.0])
    model = EnergyMLP(2, 3, width=8, generator=seeded())
    batch = UniformNegatives(low, high, 500)(model, y, x, None, seeded(2))
    assert batch.y_neg.shape == (8, 500, 2)
    assert bool(((batch.y_neg >= low) & (batch.y_neg <= high)).all())
    assert UniformNegatives(low, high, 5)(model, y, None, None, seeded()).y_neg.shape == (1, 5, 2)
    states = torch.arange(10.0)[:, None].expand(10, 2)
    neg = ReplayNegatives(states, 300)(model, y, x, None, seeded(3)).y_neg
    assert set(neg.flatten().tolist()) == set(range(10))
    neg = MismatchedNegatives(200)(model, y, x, None, seeded(4)).y_neg
    for i in range(8):
        assert not bool((neg[i] == y[i]).all(-1).any())
        assert len({tuple(v) for v in neg[i].tolist()}) == 7
    with pytest.raises(ValueError, match="mismatched"):
        MismatchedNegatives(2)(model, y, None, None, seeded())
    with pytest.raises(ValueError, match="box is empty"):
        UniformNegatives(high, low, 3)
    with pytest.raises(ValueError, match="states is empty"):
        ReplayNegatives(states[:0], 3)
    with pytest.raises(ValueError, match="restart"):
        LangevinNegatives(5, low, high, restart=2.0)


def test_pivot_negatives_are_exchangeable_with_the_positive():
    # Under an improper flat density positive and negatives are i.i.d. given the pivot, so all
    # differences have variance 2 s^2: those to the positive and those among negatives.
    y = torch.zeros(20_000, 1)
    neg = PivotNegatives([0.5], 2)(EnergyMLP(1), y, None, None, seeded()).y_neg
    to_positive, among = (neg[:, 0] - y).var(), (neg[:, 0] - neg[:, 1]).var()
    assert float(to_positive) == pytest.approx(0.5, rel=0.05)
    assert float(among) == pytest.approx(0.5, rel=0.05)


def test_pivot_negatives_recover_a_log_density_where_plain_noise_does_not():
    """E = k y^2 / 2 on standard normal data: only the unbiased construction finds k = 1."""

    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, y, x=None, z=None):
            return 0.5 * self.k * y.square().sum(-1)

    def fit(make):
        model, gen = Quadratic(), seeded(3)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(250):
            y = torch.randn(1024, 1, generator=gen)
            loss, _ = get_objective("info_nce")(model, make(model, y, gen))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float(model.k.detach())

    source = PivotNegatives([0.3, 1.0], 4)
    pivot = fit(lambda model, y, gen: source(model, y, None, None, gen))

    def centred(model, y, gen):
        noise = torch.randn(len(y), 4, 1, generator=gen)
        return ContrastiveBatch(y, y[:, None] + noise)

    assert pivot == pytest.approx(1.0, abs=0.1)
    assert abs(fit(centred) - 1.0) > 0.2


def test_hard_negatives_prefer_low_energy_and_mask_false_negatives():
    target = Gaussian(torch.zeros(1), torch.ones(1))
    base = UniformNegatives(torch.tensor([-3.0]), torch.tensor([3.0]), 400)
    y = torch.full((4, 1), 1.0)
    x = None
    hard = HardNegatives(base, 40, correct=False, semi_hard=True)(target, y, x, None, seeded())
    plain = base(target, y, x, None, seeded())
    assert float(target(hard.y_neg).mean()) < float(target(plain.y_neg).mean()) - 0.3
    assert hard.mask is not None
    assert torch.equal(hard.mask, target(hard.y_neg) > 0.5)
    corrected = HardNegatives(base, 40)(target, y, x, None, seeded())
    torch.testing.assert_close(corrected.log_q_neg, -target(corrected.y_neg))
    torch.testing.assert_close(corrected.log_q_pos, -target(y))
    with pytest.raises(ValueError, match="pool"):
        HardNegatives(base, 500)(target, y, x, None, seeded())
    with pytest.raises(ValueError, match="temperature"):
        HardNegatives(base, 5, temperature=0.0)


def test_corrected_hard_mining_keeps_the_optimum():
    """At the true density the gradient of InfoNCE with corrected hard negatives vanishes."""
    k = torch.tensor(1.0, requires_grad=True)

    class Quadratic:
        def __call__(self, y, x=None, z=None):
            return 0.5 * k * y.square().sum(-1)

    gen, y = seeded(), torch.randn(40_000, 1, generator=seeded(1))
    base = UniformNegatives(torch.tensor([-5.0]), torch.tensor([5.0]), 4096)
    grads = []
    for correct in (True, False):
        batch = HardNegatives(base, 64, correct=correct)(Quadratic(), y, None, None, gen)
        loss, _ = get_objective("info_nce")(Quadratic(), batch)
        grads.append(float(torch.autograd.grad(loss, k)[0]))
    assert abs(grads[0]) < 0.08 and abs(grads[1]) > 2 * abs(grads[0])


def test_langevin_negatives_keep_each_rows_chain_under_its_own_condition():
    low, high = torch.full((1,), -4.0), torch.full((1,), 4.0)
    x = torch.tensor([[-3.0], [3.0], [0.0]])
    target = Gaussian(torch.zeros(1), torch.tensor([0.04]))
    source = LangevinNegatives(
        3, low, high, steps=20, step_size=0.01, restart=0.0, generator=seeded()
    )
    for i in range(60):
        index = torch.tensor([0, 1]) if i % 2 else torch.tensor([1, 2])
        batch = source(target, x[index], x[index], index, seeded(i))
        assert batch.y_neg.shape == (2, 1, 1)
    torch.testing.assert_close(source.chains, x, atol=0.8, rtol=0)
    before = source.chains.clone()
    source.forget(torch.tensor([1]), seeded(99))
    assert not torch.equal(before[1], source.chains[1]) and torch.equal(before[0], source.chains[0])
    with pytest.raises(ValueError, match="index"):
        source(target, x, x, None, seeded())
    assert source(target, x, None, None, seeded()).y_neg.shape == (1, 3, 1)


# ---------------------------------------------------------------------- latents


def test_latent_objective_is_the_free_energy_of_its_formula():
    model = EnergyMLP(1, 1, 1, width=8, fourier_features=0, generator=seeded())
    y, x = torch.randn(5, 1, generator=seeded(1)), torch.randn(5, 1, generator=seeded(2))
    neg = torch.randn(5, 3, 1, generator=seeded(3))
    loss, metrics = latent_info_nce(
        model, ContrastiveBatch(y, neg, x),
        latents=4, latent_temperature=0.5, balance=0.0, generator=seeded(4),
    )  # fmt: skip
    z = sample_latents(4, 1, seeded(4), stratified=True)
    per_latent = []
    for m in range(4):
        zm = z[m].expand(5, 1)
        pos, far = model(y, x, zm), model(neg, x[:, None], zm[:, None])
        per_latent.append(-(pos + torch.logsumexp(-torch.cat([pos[:, None], far], 1), 1)))
    ell = torch.stack(per_latent, dim=1)
    expected = -0.5 * (torch.logsumexp(ell / 0.5, 1) - math.log(4)).mean()
    torch.testing.assert_close(loss, expected)
    assert 0.25 <= metrics["latent_use"] <= 1.0
    with pytest.raises(ValueError, match="z_dim"):
        latent_info_nce(EnergyMLP(1, 1), ContrastiveBatch(y, neg, x))


def test_stratified_latents_cover_the_prior():
    z = sample_latents(8, 2, seeded(), stratified=True)
    assert torch.equal(((z[:, 0] + 1) * 4).floor(), torch.arange(8.0))
    assert bool((z.abs() <= 1).all())


# ---------------------------------------------------------------------- training


def small(seed: int = 0, **kwargs) -> EnergyMLP:
    return EnergyMLP(2, width=32, depth=2, fourier_features=16, generator=seeded(seed), **kwargs)


def test_fit_energy_learns_a_gaussian_and_repeats_bit_for_bit():
    y = 0.5 * torch.randn(4000, 2, generator=seeded()) + torch.tensor([3.0, -1.0])
    config = EnergyConfig(steps=150, batch_size=128, uniform_negatives=128)

    def fit():
        gen = seeded(1)
        model = EnergyMLP(2, width=32, depth=2, fourier_features=0, generator=gen)
        fit_energy(model, y, config=config, generator=gen)
        return model

    model = fit()
    points = torch.tensor([[3.0, -1.0], [3.5, -1.0], [4.0, -1.0]])
    e = model(points).detach()
    assert float(e[1] - e[0]) == pytest.approx(0.5, abs=0.25)
    assert float(e[2] - e[0]) == pytest.approx(2.0, abs=0.5)
    again = fit()
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_config_is_json():
    config = EnergyConfig(objective="margin", objective_options={"margin": 2.0})
    kept = json.loads(json.dumps(asdict(config)))
    kept["pivot_scales"] = tuple(kept["pivot_scales"])
    assert EnergyConfig(**kept) == config
    assert SamplerConfig(**json.loads(json.dumps(asdict(SamplerConfig())))) == SamplerConfig()


@pytest.mark.parametrize(
    "name", ["margin", "contrastive_divergence", "score_matching", "binary_nce"]
)
def test_every_objective_trains(name):
    y = 0.3 * torch.randn(500, 2, generator=seeded())
    config = EnergyConfig(objective=name, steps=60, batch_size=64, uniform_negatives=64)
    if name == "score_matching":
        config.objective_options = {"sigma": 0.2}
    model = small()
    fit_energy(model, y, config=config, generator=seeded(1))
    far = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    with torch.no_grad():
        assert float(model(far).mean() - model(y).mean()) > 0.05


def test_divergence_names_objective_step_and_remedy_and_keeps_the_weights():
    model = small()
    config = EnergyConfig(max_energy=50.0)
    y = torch.randn(32, 2, generator=seeded())
    trainer = EnergyTrainer(
        model, config, default_negatives(config, y, conditional=False), seeded()
    )
    trainer.step(y)
    kept = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingDiverged, match=r"'info_nce' diverged at step 1: .*learning_rate"):
        trainer.step(y * math.nan)
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        model.out.bias.fill_(1000.0)
    with pytest.raises(TrainingDiverged, match="energy_pos is 1e"):
        trainer.step(y)
    with pytest.raises(ValueError, match="y holds NaN"):
        fit_energy(model, y * math.nan)


@pytest.mark.parametrize(
    ("y", "x", "message"),
    [
        ((9, 3), None, r"y must be \(N, 2\)"),
        ((1, 2), None, "N >= 2"),
        ((9, 2), (9, 1), r"x must be None .* got \(9, 1\)"),
    ],
)
def test_data_that_does_not_fit_the_network_is_named(y, x, message):
    with pytest.raises(ValueError, match=message):
        fit_energy(small(), torch.zeros(y), None if x is None else torch.zeros(x))


def test_conditions_have_to_come_row_by_row():
    model, y = small(x_dim=3), torch.zeros(9, 2)
    for x in (None, torch.zeros(8, 3), torch.zeros(9, 2)):
        with pytest.raises(ValueError, match=r"x must be \(9, 3\)"):
            fit_energy(model, y, x)
    with pytest.raises(ValueError, match="seconds"):
        fit_energy(model, y, torch.zeros(9, 3), seconds=0.0)


def test_training_is_the_same_where_torch_has_no_fused_adam(monkeypatch):
    y = 0.3 * torch.randn(200, 2, generator=seeded())
    config = EnergyConfig(steps=10, batch_size=32, uniform_negatives=16)
    fitted = []
    for fused in (True, False):
        if not fused:
            monkeypatch.delattr(torch, "_fused_adam_")
        model = small()
        fit_energy(model, y, config=config, generator=seeded(1))
        energy = model(y).detach()
        # InfoNCE leaves the offset free: its gradient is rounding, which Adam makes large.
        fitted.append(energy - energy.mean())
    torch.testing.assert_close(*fitted, rtol=1e-3, atol=1e-4)


def test_learning_rate_and_averaging_follow_their_schedules():
    y = 0.3 * torch.randn(64, 2, generator=seeded())
    config = EnergyConfig(learning_rate=0.0, warmup=0.25, averaging=0.5, uniform_negatives=8)
    sources = default_negatives(config, y, conditional=False)
    trainer = EnergyTrainer(small(), config, sources, seeded(1), total_steps=40)
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.step(y)
    assert all(map(torch.equal, before, trainer.model.parameters())), "a rate of zero"
    config.learning_rate = 1.0
    rates = []
    for step in range(41):
        trainer.steps = step
        rates.append(trainer._learning_rate())
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    expected = [0.5 + 0.5 * math.cos(math.pi * i / 30) for i in range(31)]
    assert rates[10:] == pytest.approx(expected)
    trainer.total_steps = None
    assert [round(trainer._learning_rate(), 6)] == [0.41]
    config.learning_rate, trainer.steps = 1e-2, 50
    old = [p.clone() for p in trainer.averaged.parameters()]
    trainer.step(y)
    for a, p, b in zip(old, trainer.model.parameters(), trainer.averaged.parameters(), strict=True):
        torch.testing.assert_close(b, 0.5 * a + 0.5 * p)


def test_seconds_bound_the_training_and_the_average_is_kept():
    ticks = iter(range(100))
    y = torch.randn(200, 2, generator=seeded())
    config = EnergyConfig(steps=5, batch_size=16, uniform_negatives=16)
    model = small()
    trainer = fit_energy(
        model, y, config=config, generator=seeded(), seconds=30.0, clock=lambda: float(next(ticks))
    )
    assert trainer.steps == 30
    for p, q in zip(model.parameters(), trainer.averaged.parameters(), strict=True):
        assert torch.equal(p, q)


# ---------------------------------------------------------------------- the default sampler


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

    box = UniformProposal(torch.full((2,), -2.0), torch.full((2,), 2.0))
    config = SamplerConfig(method="smc", candidates=8192)
    y = draw(Two(), 8192, box, config=config, generator=seeded()).y
    assert float((y[..., 0] > 0).float().mean()) == pytest.approx(0.75, abs=0.06)


def test_conditions_are_drawn_each_for_itself():
    target = Gaussian(torch.zeros(2), torch.full((2,), 0.01))
    x = torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.0, -1.5]])
    box = UniformProposal(torch.full((2,), -2.0), torch.full((2,), 2.0))
    for method in ("auto", "smc", "mala"):
        config = SamplerConfig(method=method, steps=400, candidates=2048)
        y = draw(target, 64, box, x=x, config=config, generator=seeded()).y
        torch.testing.assert_close(y.mean(1), x, atol=0.1, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_a_network_and_repeats(method):
    model = EnergyMLP(2, 1, 1, width=16, generator=seeded())
    box = UniformProposal(torch.full((2,), -1.0), torch.full((2,), 1.0))
    x, z = torch.randn(3, 1, generator=seeded(1)), torch.randn(3, 1, generator=seeded(2))
    config = SamplerConfig(method=method, steps=5, candidates=64)
    a, b = (draw(model, 7, box, x=x, z=z, config=config, generator=seeded(3)) for _ in range(2))
    assert a.y.shape == (3, 7, 2) and a.energy.shape == (3, 7) and a.ess.shape == (3,)
    assert torch.equal(a.y, b.y)
    assert bool((a.y.abs() <= 1).all())
    torch.testing.assert_close(a.energy, model(a.y, x[:, None], z[:, None]).detach())


@pytest.mark.parametrize("diversity", ["farthest", "kmeans++"])
def test_diverse_draws_lie_farther_apart(diversity):
    target = Gaussian(torch.zeros(2), torch.ones(2))
    box = UniformProposal(torch.full((2,), -4.0), torch.full((2,), 4.0))
    spread = []
    for choice in (None, diversity):
        config = SamplerConfig(diversity=choice, candidates=2048)
        y = draw(target, 16, box, config=config, generator=seeded()).y[0]
        distance = torch.cdist(y, y) + 10 * torch.eye(16)
        spread.append(float(distance.min(1).values.mean()))
    assert spread[1] > 1.2 * spread[0]


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


def test_sampling_errors():
    box = UniformProposal(torch.full((2,), -1.0), torch.full((2,), 1.0))
    with pytest.raises(ValueError, match="method 'gibbs'"):
        draw(small(), 3, box, config=SamplerConfig(method="gibbs"))
    broken = small()
    with torch.no_grad():
        broken.out.bias.fill_(math.nan)
    with pytest.raises(SamplingError):
        draw(broken, 3, box, generator=seeded())
    target = Gaussian(torch.full((2,), 0.5), torch.full((2,), 1e-8))
    config = SamplerConfig(method="smc", max_stages=2)
    with pytest.raises(SamplingError, match="max_stages"):
        draw(target, 3, box, config=config, generator=seeded())


# ---------------------------------------------------------------------- end to end


@pytest.mark.slow
def test_default_recipe_reaches_the_spiral():
    from hierebm.energy.toys.gallery import draw_toy
    from hierebm.energy.toys.recipes import fit_toy

    density = toy_density("spiral")
    model = fit_toy(density, seed=0, steps=600).model
    metrics = sample_metrics(density, draw_toy(model, density, 2000, "auto"))
    corr, slope = log_density_fit(density, model)
    assert metrics["precision"] >= 0.98 and metrics["coverage"] == 1.0 and metrics["tv"] <= 0.11
    assert corr >= 0.95 and 0.85 <= slope <= 1.15


def test_info_nce_without_positive_mass_outside_the_mask_is_finite():
    loss, _ = info_nce(torch.zeros(2), torch.full((2, 3), math.inf))
    assert float(loss) == 0.0
