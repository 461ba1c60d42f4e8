"""Networks from files are such as training leaves them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hierebm.control.features import GoalFeatures
from hierebm.energy.networks import EnergyMLP
from hierebm.nn.flat import LARGEST_RMS, FlatAdam, flat_parameters
from hierebm.nn.layers import MLP
from hierebm.nn.trusted import check_network
from hierebm.planning.samplers.config import EnergyConfig
from hierebm.planning.samplers.cvae import BetweenVAE
from hierebm.planning.samplers.pair_score import PointFeatures
from hierebm.planning.sequence.transition_energy import TransitionEnergy


def _network() -> MLP:
    return MLP(3, (8, 8), 1, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("value", [1e38, -1e38, torch.inf, torch.nan, 1.01 * LARGEST_RMS])
def test_weights_that_training_would_have_stopped_at_are_refused(value: float) -> None:
    network = _network()
    check_network(network, "actor")
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(value)
    with pytest.raises(ValueError, match="weights of the actor are not finite, or far larger"):
        check_network(network, "actor")


@pytest.mark.parametrize(
    ("buffer", "value"),
    [("step_scale", 0.0), ("step_scale", -1.0), ("goal_scale", 1e-30), ("goal_shift", torch.inf),
     ("observation_shift", 1e30), ("observation_scale", torch.nan)],
)  # fmt: skip
def test_scales_that_no_environment_has_are_refused(buffer: str, value: float) -> None:
    features = GoalFeatures(4, 2, 8, (1.0,), torch.Generator().manual_seed(0))
    check_network(features, "features")
    getattr(features, buffer)[1] = value
    with pytest.raises(ValueError, match=f"{buffer} of the features is not within"):
        check_network(features, "features")


def test_buffers_of_other_networks_may_hold_anything_finite() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.register_buffer("scale", torch.tensor(-1.0))
    check_network(network, "actor")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("exp_avg", torch.inf, "moments"),
        ("exp_avg", torch.nan, "moments"),
        ("exp_avg", 1.0, "moments"),
        ("exp_avg_sq", -1e-9, "moments"),
        ("exp_avg_sq", torch.nan, "moments"),
        ("step", -1.0, "steps"),
        ("step", torch.inf, "steps"),
    ],
)
def test_moments_that_adam_never_has_are_refused(key: str, value: float, told: str) -> None:
    adam = FlatAdam(flat_parameters(_network()), name="actor")
    state = {name: tensor.clone() for name, tensor in adam.state_dict().items()}
    adam.load_state_dict(state)
    state[key].reshape(-1)[-1] = value
    with pytest.raises(ValueError, match=told):
        adam.load_state_dict(state)


@pytest.mark.parametrize("growth", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_moments_of_any_gradients_are_read_again(growth: float) -> None:
    flat = flat_parameters(_network())
    adam = FlatAdam(flat, lr=0.0)
    for t in range(150):
        flat.grad = torch.full_like(flat, 1e-12 * growth**t)
        adam.step()
        adam.load_state_dict({name: tensor.clone() for name, tensor in adam.state_dict().items()})


def test_the_square_of_a_large_gradient_may_be_infinite() -> None:
    adam = FlatAdam(flat_parameters(_network()))
    state = {name: tensor.clone() for name, tensor in adam.state_dict().items()}
    state["exp_avg_sq"][0] = torch.inf
    adam.load_state_dict(state)


def test_divisors_are_buffers_of_their_network() -> None:
    generator = torch.Generator().manual_seed(0)
    networks: list[nn.Module] = [
        GoalFeatures(4, 2, 8, (1.0,), generator),
        EnergyMLP(2, 2, width=4, depth=1, generator=generator),
        PointFeatures(2, generator),
        BetweenVAE(2, EnergyConfig(energy_width=4), generator),
        TransitionEnergy(2, width=4, depth=1, generator=generator),
    ]
    for network in networks:
        names: tuple[str, ...] = network.divisors  # type: ignore[assignment]
        check_network(network, "network")
        for name in names:
            dict(network.named_buffers(recurse=False))[name].zero_()
            with pytest.raises(ValueError, match=f"{name} of the network is not within"):
                check_network(network, "network")
            getattr(network, name).fill_(1.0)
