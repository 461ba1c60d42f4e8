"""Energy networks, objectives and samplers against autograd, closed forms and exact densities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.energy.bounds import reflect
from hierebm.energy.losses import (
    binary_nce,
    contrastive_divergence,
    info_nce,
    margin_ranking,
)
from hierebm.energy.mcmc import annealed_langevin, descent, langevin, mala
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import ContrastiveBatch, batch_energies, get_objective
from hierebm.energy.point_selection import farthest_points, kmeans_plus_plus
from hierebm.energy.protocol import SamplingError
from hierebm.energy.resampling import gather, importance_resample


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Gaussian:
    """E = |y - mean|^2 / (2 var): an energy whose samples are known."""

    def __init__(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        self.mean, self.var = mean, var

    def __call__(self, y, x=None, z=None):
        return 0.5 * ((y - self.mean).square() / self.var).sum(-1)

    def energy_and_grad(self, y, x=None, z=None):
        return self(y), (y - self.mean) / self.var


# ---------------------------------------------------------------------- networks


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


# ---------------------------------------------------------------------- objectives


def test_info_nce_equals_cross_entropy():
    pos, neg = torch.randn(6, generator=seeded()), torch.randn(6, 4, generator=seeded(1))
    log_q_pos, log_q_neg = torch.randn(6, generator=seeded(2)), torch.randn(6, 4)
    logits = torch.cat([(-pos - log_q_pos)[:, None], -neg - log_q_neg], dim=1)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(6, dtype=torch.int64))
    loss, metrics = info_nce(pos, neg, log_q_neg, log_q_pos)
    torch.testing.assert_close(loss, expected)
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)


def _fit_table(objective, proposal: torch.Tensor, correct: bool, steps: int = 1500):
    """Energies of a 5-state table fitted to p with negatives from the proposal."""
    p = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    energy = torch.zeros(5, requires_grad=True)
    optimiser = torch.optim.Adam([energy], lr=0.05)
    gen = seeded(4)
    tail = torch.zeros(5)
    for i in range(steps):
        pos = torch.multinomial(p, 256, replacement=True, generator=gen)
        neg = torch.multinomial(proposal, 256 * 4, replacement=True, generator=gen).view(256, 4)
        log_q = proposal.log()
        args = (log_q[neg], log_q[pos]) if correct else (None, None)
        loss, _ = objective(energy[pos], energy[neg], *args)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if i >= steps // 2:
            tail += energy.detach() / (steps - steps // 2)
    return p, tail


@pytest.mark.parametrize("objective", [info_nce, binary_nce])
@pytest.mark.parametrize("correct", [True, False])
def test_nce_recovers_the_density_or_the_ratio(objective, correct):
    proposal = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.3])
    p, energy = _fit_table(objective, proposal, correct, steps=600)
    target = p.log() if correct else (p / proposal).log()
    got = -energy - (-energy).mean()
    torch.testing.assert_close(got, target - target.mean(), atol=0.12, rtol=0)


def test_margin_ranking_and_contrastive_divergence_formulas():
    pos, neg = torch.tensor([0.0, 1.0]), torch.tensor([[2.0, 0.5], [1.5, 0.0]])
    loss, metrics = margin_ranking(pos, neg, margin=1.0)
    assert float(loss) == pytest.approx((0.0 + 0.5 + 0.5 + 2.0) / 4)
    assert metrics["accuracy"] == pytest.approx(0.5)
    loss, _ = contrastive_divergence(pos, neg, energy_penalty=0.5)
    assert float(loss) == pytest.approx(0.5 - 1.0 + 0.5 * (0.5 + (4 + 0.25 + 2.25) / 4))


@pytest.mark.parametrize("name", ["info_nce", "binary_nce", "margin", "contrastive_divergence"])
def test_masked_negatives_have_no_influence_and_no_nan_gradient(name):
    model = EnergyMLP(2, width=8, generator=seeded())
    y_pos, y_neg = torch.randn(3, 2, generator=seeded(1)), torch.randn(3, 4, 2, generator=seeded(2))
    mask = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    objective = get_objective(name)
    loss, _ = objective(model, ContrastiveBatch(y_pos, y_neg, mask=mask))
    loss.backward()
    grads = [p.grad.clone() for p in model.parameters()]
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    y_neg[~mask] = 100.0
    again, _ = objective(model, ContrastiveBatch(y_pos, y_neg, mask=mask))
    torch.testing.assert_close(loss, again)


def test_shared_negatives_equal_repeated_ones():
    model = EnergyMLP(2, width=8, generator=seeded())
    y_pos, y_neg = torch.randn(5, 2), torch.randn(1, 7, 2)
    for name in ("info_nce", "binary_nce", "margin", "contrastive_divergence"):
        shared, _ = get_objective(name)(model, ContrastiveBatch(y_pos, y_neg))
        each, _ = get_objective(name)(model, ContrastiveBatch(y_pos, y_neg.expand(5, 7, 2)))
        torch.testing.assert_close(shared, each)


def test_batch_energies_conditional_rows_keep_their_condition():
    model = EnergyMLP(2, 3, width=8, generator=seeded())
    y_pos, y_neg, x = torch.randn(4, 2), torch.randn(4, 5, 2), torch.randn(4, 3)
    pos, neg = batch_energies(model, ContrastiveBatch(y_pos, y_neg, x))
    torch.testing.assert_close(pos, model(y_pos, x))
    torch.testing.assert_close(neg[2, 3], model(y_neg[2, 3], x[2]))


def test_score_matching_finds_the_blurred_gaussian():
    sigma = 0.6

    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(0.2))

        def forward(self, y, x=None, z=None):
            return 0.5 * self.k * y.square().sum(-1)

    model, gen = Quadratic(), seeded(5)
    objective = get_objective("score_matching", sigma=sigma, generator=gen)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        y = torch.randn(1024, 2, generator=gen)
        loss, _ = objective(model, ContrastiveBatch(y, y[None]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(model.k.detach()) == pytest.approx(1 / (1 + sigma**2), abs=0.03)


def test_objective_errors_name_the_remedy():
    with pytest.raises(ValueError, match="info_nce"):
        get_objective("infonce")
    with pytest.raises(ValueError, match="both log_q"):
        info_nce(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="energy_neg"):
        info_nce(torch.zeros(2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"log_q_pos must be \(2,\)"):
        info_nce(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"no option \['margin'\]: it knows \['energy_penalty'\]"):
        get_objective("contrastive_divergence", margin=2.0)
    with pytest.raises(ValueError, match="sigma"):
        get_objective("score_matching", sigma=0.0)(
            EnergyMLP(2), ContrastiveBatch(torch.zeros(2, 2), torch.zeros(1, 2, 2))
        )


@pytest.mark.parametrize("name", ["info_nce", "binary_nce", "margin", "contrastive_divergence"])
def test_a_nan_among_the_negatives_is_not_taken_for_a_mask(name):
    energy = torch.tensor([[math.nan, 5.0], [2.0, 3.0]])
    loss, metrics = get_objective(name).loss(torch.zeros(2), energy)
    assert math.isnan(float(loss)) and math.isnan(metrics["energy_neg"])


@settings(max_examples=30, deadline=None)
@given(b=st.integers(1, 5), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_losses_equal_their_formulas_row_by_row(b, k, seed):
    """Written out with loops, every negative with its own proposal density."""
    gen = seeded(seed)
    pos, neg = (torch.randn(s, generator=gen, dtype=torch.float64) for s in ((b,), (b, k)))
    q_pos, q_neg = (torch.randn(s, generator=gen, dtype=torch.float64) for s in ((b,), (b, k)))
    nce = ranked = hinge = 0.0
    for i in range(b):
        up = math.exp(-float(pos[i]) - float(q_pos[i]))
        down = [math.exp(-float(neg[i, j]) - float(q_neg[i, j])) for j in range(k)]
        ranked -= math.log(up / (up + sum(down))) / b
        nce -= math.log(up / (up + k)) / b
        nce -= sum(math.log(k / (v + k)) for v in down) / b
        hinge += sum(max(0.0, float(pos[i] - neg[i, j]) + 0.7) for j in range(k)) / (b * k)
    assert float(info_nce(pos, neg, q_neg, q_pos)[0]) == pytest.approx(ranked)
    assert float(binary_nce(pos, neg, q_neg, q_pos)[0]) == pytest.approx(nce)
    assert float(margin_ranking(pos, neg, margin=0.7)[0]) == pytest.approx(hinge)


# ---------------------------------------------------------------------- samplers


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 10.0), min_size=3, max_size=12),
    n=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_systematic_resampling_counts_are_within_one_of_expectation(weights, n, seed):
    w = torch.tensor([weights], dtype=torch.float64)
    idx, ess = importance_resample(-w.log(), n, seeded(seed))
    counts = torch.bincount(idx[0], minlength=len(weights)).double()
    expected = n * w[0] / w.sum()
    assert bool(((counts - expected).abs() <= 1.0 + 1e-6).all())
    assert float(ess) == pytest.approx(float(w.sum() ** 2 / w.square().sum()), rel=1e-5)


def test_resampling_temperature_and_masking():
    energy = torch.tensor([[0.0, math.log(4.0), math.inf]])
    idx, _ = importance_resample(energy, 1000, seeded(), temperature=2.0)
    counts = torch.bincount(idx[0], minlength=3)
    assert counts[2] == 0 and abs(int(counts[1]) - 333) <= 1


def test_resampling_without_replacement_is_distinct_and_follows_the_weights():
    energy = torch.tensor([[0.0, 0.0, 3.0, math.inf]]).expand(4000, 4)
    idx, _ = importance_resample(energy, 2, seeded(), replace=False)
    assert bool((idx[:, 0] != idx[:, 1]).all()) and not bool((idx == 3).any())
    w = torch.tensor([1.0, 1.0, math.exp(-3.0)])
    first = torch.bincount(idx[:, 0], minlength=3)[:3] / 4000
    torch.testing.assert_close(first, w / w.sum(), atol=0.03, rtol=0)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_resampling_refuses_nan(bad):
    with pytest.raises(SamplingError):
        importance_resample(torch.tensor([[0.0, bad]]), 2)
    with pytest.raises(SamplingError):
        importance_resample(torch.full((1, 3), math.inf), 2)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_langevin_and_mala_reach_the_right_variance(temperature):
    var = torch.tensor([1.0, 0.25])
    target = Gaussian(torch.tensor([1.0, -1.0]), var)
    y0 = torch.zeros(2, 4000, 2)
    y = langevin(target, y0, steps=300, step_size=0.02, temperature=temperature, generator=seeded())
    # Euler-Maruyama is stationary at var T / (1 - h / (2 var)).
    expected = var * temperature / (1 - 0.02 / (2 * var))
    torch.testing.assert_close(y.var(dim=1), expected.expand(2, 2), rtol=0.1, atol=0)
    torch.testing.assert_close(y.mean(dim=1), target.mean.expand(2, 2), atol=0.06, rtol=0)
    result = mala(
        target, y0, steps=100, step_size=0.2, temperature=temperature, generator=seeded(1)
    )
    expected = (var * temperature).expand(2, 2)
    torch.testing.assert_close(result.y.var(dim=1), expected, rtol=0.1, atol=0)
    torch.testing.assert_close(result.energy, target(result.y))
    assert 0.3 < result.acceptance < 1.0


def test_mala_adapts_a_bad_step_size_per_condition():
    target = Gaussian(torch.zeros(2), torch.tensor([[[1.0]], [[0.01]]]))
    start = 0.1 * torch.randn(2, 500, 2, generator=seeded())
    result = mala(target, start, steps=150, step_size=10.0, adapt=True, generator=seeded(1))
    wide, narrow = result.step_size[:, 0, 0].tolist()
    assert 20 < wide / narrow < 500
    later = mala(target, result.y, steps=50, step_size=result.step_size, generator=seeded(2))
    assert later.acceptance == pytest.approx(0.574, abs=0.1)


def test_descent_collects_and_annealing_ends_at_the_target():
    target = Gaussian(torch.zeros(2), torch.ones(2))
    y0 = 3 * torch.randn(1, 2000, 2, generator=seeded())
    assert float(descent(target, y0, steps=100, step_size=0.2).abs().max()) < 1e-4
    y = annealed_langevin(target, y0, steps=200, step_size=0.05, generator=seeded(1))
    assert float(y.var()) == pytest.approx(1.0, abs=0.15)


def test_bounds_hold_and_divergence_is_reported():
    target = Gaussian(torch.zeros(2), torch.ones(2))
    bounds = (torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 1.0]))
    y0 = torch.full((1, 200, 2), 0.3)
    y = langevin(target, y0, steps=20, step_size=0.3, generator=seeded(), bounds=bounds)
    assert bool(((y >= bounds[0]) & (y <= bounds[1])).all())
    y = mala(target, y0, steps=20, step_size=0.3, generator=seeded(), bounds=bounds).y
    assert bool(((y >= bounds[0]) & (y <= bounds[1])).all())
    with pytest.raises(SamplingError, match="step_size"):
        langevin(target, y0 + 1e30, steps=200, step_size=1e30, generator=seeded())


@settings(max_examples=50, deadline=None)
@given(st.floats(-50, 50))
def test_reflection_is_a_mirror(value):
    low, high = torch.tensor([-1.0]), torch.tensor([2.0])
    y = float(reflect(torch.tensor([value]), (low, high)))
    assert -1.0 <= y <= 2.0
    if 2.0 < value < 5.0:
        assert y == pytest.approx(4.0 - value, abs=1e-4)


def test_samplers_repeat_with_the_same_generator_and_keep_the_input():
    model = EnergyMLP(2, width=8, generator=seeded())
    y0 = torch.randn(1, 10, 2, generator=seeded(1))
    kept = y0.clone()
    a, b = (langevin(model, y0, steps=5, step_size=0.01, generator=seeded(2)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(y0, kept)


# ---------------------------------------------------------------------- diversity


@settings(max_examples=60, deadline=None)
@given(m=st.integers(2, 25), seed=st.integers(0, 100), data=st.data())
def test_spread_indices_are_distinct_even_among_duplicates(m, seed, data):
    n = data.draw(st.integers(1, m))
    rng = np.random.default_rng(seed)
    points, first = rng.integers(0, 3, (m, 2)).astype(np.float32), int(rng.integers(m))
    for idx in (farthest_points(points, n, first), kmeans_plus_plus(points, n, first, rng)):
        assert len(set(idx.tolist())) == n and idx[0] == first


def test_farthest_points_are_greedy_and_begin_with_those_given():
    points = np.array([[0.0], [1.0], [4.0], [10.0]], np.float32)
    assert farthest_points(points, 4, first=0).tolist() == [0, 3, 2, 1]
    assert farthest_points(points, 3, first=[1, 3]).tolist() == [1, 3, 2]
    assert farthest_points(points, 1, first=range(3)).tolist() == [0]
    assert sorted(farthest_points(points, 5, first=2).tolist()) == [0, 1, 2, 3]
    unscaled = np.array([[0.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    assert farthest_points(unscaled, 2, first=0).tolist() == [0, 1]
    assert farthest_points(unscaled / [0.1, 10.0], 2, first=0).tolist() == [0, 2]
    with pytest.raises(ValueError, match="n=0 of 4"):
        farthest_points(points, 0, first=0)


def test_kmeans_plus_plus_draws_in_proportion_to_the_squared_distance():
    points, rng = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32), np.random.default_rng(0)
    chosen = [kmeans_plus_plus(points, 2, 0, rng)[1] for _ in range(8000)]
    seen = np.bincount(chosen, minlength=4) / 8000
    np.testing.assert_allclose(seen, np.array([0.0, 1.0, 4.0, 9.0]) / 14, atol=0.02)


def test_gather_serves_shared_and_separate_candidates():
    y = torch.arange(12.0).view(2, 3, 2)
    idx = torch.tensor([[2, 0], [1, 1]])
    assert gather(y, idx)[1, 0].tolist() == y[1, 1].tolist()
    assert gather(y[:1], idx)[1, 0].tolist() == y[0, 1].tolist()
