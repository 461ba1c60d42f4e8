"""The reference networks, and parameters as one flat tensor."""

from __future__ import annotations

import copy
import io
import subprocess
import sys

import pytest
import torch

from hierebm.nn.flat import FlatAdam, flat_parameters, is_flat, polyak_
from hierebm.nn.layers import MLP, EnsembleMLP, RandomFourierFeatures


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def networks(seed: int = 0) -> list[torch.nn.Module]:
    return [
        MLP(5, [16, 8], 3, "silu", seeded(seed)),
        EnsembleMLP(3, 5, [16, 8], 3, "silu", seeded(seed)),
    ]


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    for first, again, other in zip(networks(1), networks(1), networks(2), strict=True):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name])
            assert not torch.equal(tensor, other.state_dict()[name])
    assert torch.equal(before, torch.random.get_rng_state())


def test_initial_parameters_fill_the_range_of_linear_layers() -> None:
    weight = MLP(64, [400], 1, generator=seeded()).layers[0].weight
    assert weight.abs().max() <= 1 / 8
    assert weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.03)
    members = EnsembleMLP(2, 64, [400], 1, generator=seeded()).layers[0].weight
    assert members.abs().max() <= 1 / 8
    assert not torch.equal(members[0], members[1])


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_a_member_of_the_ensemble_is_an_mlp(activation: str) -> None:
    ensemble = EnsembleMLP(3, 5, [16, 8], 4, activation, seeded())
    x = torch.randn(7, 5, generator=seeded(1))
    per_member = torch.randn(3, 7, 5, generator=seeded(2))
    assert ensemble(x).shape == (3, 7, 4)
    for e in range(3):
        member = MLP(5, [16, 8], 4, activation)
        with torch.no_grad():
            for layer, source in zip(member.layers, ensemble.layers, strict=True):
                layer.weight.copy_(source.weight[e].T)
                layer.bias.copy_(source.bias[e, 0])
        torch.testing.assert_close(ensemble(x)[e], member(x))
        torch.testing.assert_close(ensemble(per_member)[e], member(per_member[e]))


def test_members_learn_independently() -> None:
    ensemble = EnsembleMLP(2, 5, [16], 1, generator=seeded())
    ensemble(torch.randn(7, 5, generator=seeded(1)))[0].sum().backward()
    for layer in ensemble.layers:
        assert layer.weight.grad[0].abs().sum() > 0
        assert layer.weight.grad[1].abs().sum() == 0


def test_fourier_features_spread_over_the_octaves() -> None:
    features = RandomFourierFeatures(2, 3001, [1.0, 4.0, 16.0], seeded())
    spread = [block.std().item() for block in features.frequencies.split([1001, 1000, 1000], 1)]
    assert spread == pytest.approx([1.0, 4.0, 16.0], rel=0.1)
    x = torch.randn(4, 2, generator=seeded(1))
    out = features(x)
    assert out.shape == (4, 6002)
    assert not list(features.parameters())
    # sin^2 + cos^2 = 1 only holds if both halves see the same phase.
    torch.testing.assert_close(out[:, :3001] ** 2 + out[:, 3001:] ** 2, torch.ones(4, 3001))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(2, [4], 1, "gelu"), "activation must be one of"),
        (lambda: MLP(2, [0], 1), "layer size"),
        (lambda: EnsembleMLP(0, 2, [4], 1), "n_members"),
        (lambda: RandomFourierFeatures(2, 8, []), "scales"),
        (lambda: RandomFourierFeatures(2, 8, [float("nan")]), "scales"),
        (lambda: RandomFourierFeatures(2, 1, [1.0, 2.0]), "cannot cover"),
        (lambda: flat_parameters(torch.nn.ReLU()), "no parameters"),
        (lambda: FlatAdam(torch.zeros(3)), "flat_parameters"),
        (lambda: FlatAdam(flat_parameters(networks()[0]), lr=float("nan")), "lr"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_flattening_keeps_values_gradients_and_state_dict() -> None:
    for network in networks():
        before = copy.deepcopy(network.state_dict())
        x = torch.randn(7, 5, generator=seeded(1))
        expected = network(x).detach()
        flat = flat_parameters(network)
        assert is_flat(network, flat)
        torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
        network(x).square().sum().backward()
        assert is_flat(network, flat)
        gradients = torch.cat([p.grad.reshape(-1) for p in network.parameters()])
        assert flat.grad.abs().sum() > 0
        assert torch.equal(gradients, flat.grad)

        flat.zero_()
        assert all(not p.any() for p in network.parameters())
        network.load_state_dict(before)
        assert is_flat(network, flat)
        torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_a_lost_view_is_noticed() -> None:
    network = networks()[0]
    flat = flat_parameters(network)
    network.zero_grad()  # sets every gradient to None
    assert not is_flat(network, flat)
    flat = flat_parameters(network)
    network.double()
    assert not is_flat(network, flat)


@pytest.mark.parametrize("fused", [True, False])
def test_flat_adam_is_adam_on_every_parameter(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fused:
        monkeypatch.delattr(torch, "_fused_adam_")
    for network in networks():
        twin = copy.deepcopy(network)
        flat = flat_parameters(network)
        optimizer = FlatAdam(flat, lr=1e-2)
        expected = torch.optim.Adam(twin.parameters(), lr=1e-2)
        for step in range(5):
            x = torch.randn(7, 5, generator=seeded(step))
            for net, opt in ((network, optimizer), (twin, expected)):
                opt.zero_grad()
                net(x).square().mean().backward()
                opt.step()
        assert is_flat(network, flat)
        for p, q in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_corrects_its_bias_and_adds_epsilon_to_the_root(
    fused: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kingma & Ba 2015, algorithm 1, written out; an epsilon this large shows where it is added."""
    if not fused:
        monkeypatch.delattr(torch, "_fused_adam_")
    module = torch.nn.Linear(3, 1).to(dtype)
    flat = flat_parameters(module)
    lr, beta1, beta2, eps = 0.1, 0.7, 0.9, 0.5
    adam = FlatAdam(flat, lr, (beta1, beta2), eps)
    theta, m, v = flat.double(), torch.zeros(4).double(), torch.zeros(4).double()
    for t in range(1, 8):
        gradient = torch.randn(4, generator=seeded(t), dtype=torch.float64)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        theta = theta - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
        flat.grad.copy_(gradient)
        adam.step()
        torch.testing.assert_close(flat.double(), theta, rtol=1e-5, atol=1e-6)
    adam.lr = 0.0
    still = flat.clone()
    adam.step()
    assert torch.equal(flat, still)


def test_training_resumes_from_saved_states_bit_for_bit() -> None:
    def advance(network: torch.nn.Module, optimizer: FlatAdam, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            network(torch.randn(7, 5, generator=seeded(step))).square().mean().backward()
            optimizer.step()

    first, second = MLP(5, [8], 2, generator=seeded()), MLP(5, [8], 2, generator=seeded(9))
    optimizer = FlatAdam(flat_parameters(first), lr=1e-2)
    advance(first, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"network": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = FlatAdam(flat_parameters(second), lr=1e-2)
    second.load_state_dict(saved["network"])
    resumed.load_state_dict(saved["optimizer"])
    advance(first, optimizer, range(3, 6))
    advance(second, resumed, range(3, 6))
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


def test_moments_of_dead_units_never_become_denormal() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    flat = flat_parameters(module)
    adam = FlatAdam(flat, lr=1e-3)
    assert flat.grad is not None
    flat.grad.fill_(1e-3)
    adam.step()
    flat.grad[:6] = 0.0
    for _ in range(1500):
        adam.step()
        moment = adam.state_dict()["exp_avg"]
        assert ((moment == 0) | (moment.abs() > torch.finfo(torch.float32).tiny)).all()
    assert (moment[:6] == 0).all() and (moment[6:] != 0).all()


def test_flat_adam_refuses_a_foreign_state() -> None:
    optimizer = FlatAdam(flat_parameters(networks()[0]))
    other = FlatAdam(flat_parameters(networks()[1]))
    with pytest.raises(ValueError, match="not the state of Adam on"):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="not the state of Adam on"):
        optimizer.load_state_dict({})


def test_making_an_optimiser_does_not_load_the_compiler() -> None:
    code = (
        "import sys\n"
        "from hierebm.nn.flat import FlatAdam, flat_parameters\n"
        "from hierebm.nn.layers import MLP\n"
        "optimizer = FlatAdam(flat_parameters(MLP(2, [4], 1)))\n"
        "optimizer.step()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_polyak_moves_the_target_by_tau() -> None:
    network = networks()[1]
    target = copy.deepcopy(network)
    flat, target_flat = flat_parameters(network), flat_parameters(target)
    flat.add_(1.0)
    start = target_flat.clone()
    polyak_(target_flat, flat, 0.25)
    torch.testing.assert_close(target_flat, 0.75 * start + 0.25 * flat)
    assert is_flat(target, target_flat)
