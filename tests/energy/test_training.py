"""Training: every objective, schedules, divergence, data that does not fit, a device."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict

import pytest
import torch

from hierebm.energy.default_sampler import METHODS, SamplerConfig, draw
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.proposals import UniformProposal
from hierebm.energy.training import (
    EnergyTrainer,
    TrainingConfig,
    TrainingDiverged,
    default_negatives,
    fit_energy,
)
from tests.energy.targets import box, seeded


def small(seed: int = 0, **kwargs) -> EnergyMLP:
    return EnergyMLP(2, width=32, depth=2, fourier_features=16, generator=seeded(seed), **kwargs)


def test_fit_energy_learns_a_gaussian_and_repeats_bit_for_bit():
    y = 0.5 * torch.randn(4000, 2, generator=seeded()) + torch.tensor([3.0, -1.0])
    config = TrainingConfig(steps=150, batch_size=128, uniform_negatives=128)

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
    config = TrainingConfig(objective="margin", objective_options={"margin": 2.0})
    kept = json.loads(json.dumps(asdict(config)))
    kept["pivot_scales"] = tuple(kept["pivot_scales"])
    assert TrainingConfig(**kept) == config
    assert SamplerConfig(**json.loads(json.dumps(asdict(SamplerConfig())))) == SamplerConfig()


@pytest.mark.parametrize(
    "name", ["margin", "contrastive_divergence", "score_matching", "binary_nce"]
)
def test_every_objective_trains(name):
    y = 0.3 * torch.randn(500, 2, generator=seeded())
    config = TrainingConfig(objective=name, steps=60, batch_size=64, uniform_negatives=64)
    if name == "score_matching":
        config.objective_options = {"sigma": 0.2}
    model = small()
    fit_energy(model, y, config=config, generator=seeded(1))
    far = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    with torch.no_grad():
        assert float(model(far).mean() - model(y).mean()) > 0.05


def test_divergence_names_objective_step_and_remedy_and_keeps_the_weights():
    model = small()
    config = TrainingConfig(max_energy=50.0)
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
    config = TrainingConfig(steps=10, batch_size=32, uniform_negatives=16)
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
    config = TrainingConfig(learning_rate=0.0, warmup=0.25, averaging=0.5, uniform_negatives=8)
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
    config = TrainingConfig(steps=5, batch_size=16, uniform_negatives=16)
    model = small()
    trainer = fit_energy(
        model, y, config=config, generator=seeded(), seconds=30.0, clock=lambda: float(next(ticks))
    )
    assert trainer.steps == 30
    for p, q in zip(model.parameters(), trainer.averaged.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("objective", ["info_nce", "score_matching", "latent_info_nce"])
def test_energies_are_trained_and_sampled_on_cuda(objective):
    gen = torch.Generator("cuda").manual_seed(0)
    z_dim = int(objective == "latent_info_nce")
    model = EnergyMLP(2, 1, z_dim, width=16, generator=seeded()).cuda()
    y, x = (torch.randn(300, d, generator=gen, device="cuda") for d in (2, 1))
    config = TrainingConfig(objective=objective, steps=5, batch_size=32)
    fit_energy(model, y, x, config=config, generator=gen)
    proposal = UniformProposal(*(corner.cuda() for corner in box(-1.0, 1.0)))
    for method in METHODS:
        z = torch.zeros(3, z_dim, device="cuda") if z_dim else None
        drawn = draw(
            model, 6, proposal, x=x[:3], z=z, generator=gen,
            config=SamplerConfig(method=method, steps=3, diversity="farthest"),
        )  # fmt: skip
        assert drawn.y.is_cuda and drawn.ess.is_cuda and drawn.y.shape == (3, 6, 2)
