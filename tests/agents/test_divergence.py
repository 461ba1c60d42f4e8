"""A network that diverges is named in the update where it does, and the agent is as it was."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierebm import DDPGHERAgent, DDPGHERConfig, HierarchicalEBMAgent
from hierebm.agents import last_good
from hierebm.agents.last_good import LastGood
from hierebm.callbacks import CheckpointCallback
from hierebm.control.base import LowLevel
from hierebm.errors import TrainingDiverged
from hierebm.nn.flat import FlatAdam, flat_parameters
from tests.toys import SMALL

FLAT = {k: v for k, v in SMALL.items() if k in DDPGHERConfig().to_dict()}
OBSERVATION = {
    "observation": np.zeros(4, np.float32),
    "achieved_goal": np.zeros(2, np.float32),
    "desired_goal": np.ones(2, np.float32),
}


def _weights(agent: Any) -> list[torch.Tensor]:
    parts = agent.low_level.state_dict()
    return [t.clone() for part in parts.values() for t in part.values()]


@pytest.mark.parametrize("rate", [1e3, 1e20])
@pytest.mark.parametrize(
    ("setting", "network"),
    [("actor_lr", "actor"), ("critic_lr", "critics"), ("energy_lr", "energy")],
)
def test_a_learning_rate_that_is_far_too_high_stops_learning(
    tmp_path: Path, setting: str, network: str, rate: float
) -> None:
    agent_class: Any = HierarchicalEBMAgent if network == "energy" else DDPGHERAgent
    settings = SMALL if network == "energy" else FLAT
    agent = agent_class(seed=0, **settings | {setting: rate})
    callback = CheckpointCallback(100, tmp_path)
    words = rf"the weights of the {network} came to .*update 1, .*{re.escape(f'{rate:g}')}"
    with pytest.raises(TrainingDiverged, match=words):
        agent.learn("PointMassGoal-v0", 1000, callback=callback)
    agent.save(tmp_path / "agent.zip")
    before = agent.predict(OBSERVATION)[0]
    for path in tmp_path.glob("*.zip"):
        again = agent_class.load(path, **{setting: 1e-3})
        assert np.isfinite(again.predict(OBSERVATION)[0]).all()
    assert np.array_equal(agent_class.load(tmp_path / "agent.zip").predict(OBSERVATION)[0], before)
    again.learn("PointMassGoal-v0", 300)


def test_what_was_learned_before_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_good, "COPY_EVERY", 3)
    agent = DDPGHERAgent(seed=0, **FLAT).learn("PointMassGoal-v0", 400)
    at = agent.n_updates
    states = []

    def remember(locals_: Any, _: Any) -> bool:
        if len(states) < agent.n_updates - at + 1:
            states.append(_weights(agent))
        if agent.n_updates == at + 7:
            agent.low_level.critic_optimizer.lr = 1e10
        return True

    with pytest.raises(
        TrainingDiverged, match=r"what they were (\d+) update\(s\) before"
    ) as caught:
        agent.learn(total_timesteps=1000, callback=remember, reset_num_timesteps=False)
    back = int(str(caught.value).split("what they were ")[1].split()[0])
    assert back <= 3
    assert all(map(torch.equal, _weights(agent), states[agent.n_updates - at - back]))


class _Unlucky(LowLevel):
    """Its only weight becomes NaN in the third update, and its loss in all of them is."""

    def __init__(self, *_: Any) -> None:
        self.weight, self.n = torch.ones(2), 0

    def act(self, observation: Any, achieved_goal: Any, goal: Any) -> Any:
        return np.zeros((len(goal), 2), np.float32)

    def distance(self, observation: Any, achieved_goal: Any, goal: Any) -> Any:
        return np.ones(len(goal), np.float32)

    def update(self, batch: Any, behavior_weight: float = 0.0) -> dict[str, float]:
        self.n += 1
        if self.n == 3:
            self.weight.fill_(torch.nan)
        return {"train/mine": float("nan")}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state_dict(self, state: Any) -> None:
        self.weight.copy_(state["weight"])


def test_a_low_level_of_ones_own_is_watched_too() -> None:
    agent = DDPGHERAgent(seed=0, low_level=_Unlucky, **FLAT)
    with pytest.raises(TrainingDiverged, match=r"train/mine is nan, and weight of _Unlucky"):
        agent.learn("PointMassGoal-v0", 1000)
    assert agent.n_updates == 2
    assert torch.equal(agent.low_level.weight, torch.ones(2))


@pytest.mark.parametrize(
    ("loss", "gradient", "words"),
    [
        (float("nan"), torch.nan, "the loss of the mine came to nan"),
        (1.0, torch.inf, "the gradient of the mine came to inf"),
        (None, torch.nan, "the gradient of the mine came to nan"),
        (1.0, 1.0, "the weights of the mine came to root mean square 1e"),
    ],
)
def test_the_first_of_loss_gradient_and_weights_is_named(
    loss: float | None, gradient: float, words: str
) -> None:
    flat = flat_parameters(torch.nn.Linear(2, 2))
    optimizer = FlatAdam(flat, lr=1e8, name="mine")
    assert flat.grad is not None
    flat.grad.fill_(gradient)
    with pytest.raises(TrainingDiverged, match=words):
        optimizer.step(loss)


def test_a_state_that_holds_nan_already_is_not_kept() -> None:
    low_level = _Unlucky()
    low_level.weight.fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="holds NaN already"), LastGood().kept(low_level):
        pass


def test_looking_at_the_weights_costs_little() -> None:
    """Under a tenth of an update whatever else runs here; a hundredth on a quiet machine."""
    agent = DDPGHERAgent(seed=0).learn("PointMassGoal-v0", 1010)
    low_level = agent.low_level
    flats = (low_level._flat_actor, low_level._flat_critics)
    looking, updating = [], []
    for _ in range(30):
        started = time.process_time()
        for flat in flats:
            float(torch.dot(flat, flat))
        looked = time.process_time()
        agent.learn(total_timesteps=1, reset_num_timesteps=False)
        looking.append(looked - started)
        updating.append(time.process_time() - looked)
    assert np.median(looking) < 0.1 * np.median(updating)
