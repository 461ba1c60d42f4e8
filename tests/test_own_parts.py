"""Parts of one's own: taken by name, class and instance, saved, and asked for again at loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from examples.own_energy_network import FeatureSampler
from examples.own_low_level import Controller
from examples.own_networks import NormalisedDDPG
from examples.own_planner import StepByStep
from examples.own_sampler import NearTheLine
from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.control.ddpg import DistanceDDPG
from hierebm.control.ddpg_kernels import FastDistanceDDPG
from hierebm.planning.graph_planner import GraphPlanner
from hierebm.planning.samplers import EBMSampler, ReplaySampler
from hierebm.replay import TransitionBatch
from tests import toys

SMALL: dict[str, Any] = {**toys.SMALL, "train_freq": 4, "energy_train_freq": 200, "seed": 0}
# Classes, and functions that make an instance.
PARTS = {
    "low_level": (lambda: Controller(), NormalisedDDPG),
    "subgoal_sampler": (lambda: NearTheLine(), NearTheLine, FeatureSampler),
    "planner": (lambda: StepByStep(), StepByStep),
}


@pytest.mark.parametrize(
    ("name", "given"), [(name, part) for name, parts in PARTS.items() for part in parts]
)
def test_a_part_of_ones_own_learns_is_saved_and_has_to_be_given_again(
    name: str, given: Any, tmp_path: Path
) -> None:
    part, other = (given if isinstance(given, type) else given() for _ in range(2))
    agent = HierarchicalEBMAgent(**{name: part}, **SMALL).learn("PointMassGoal-v0", 450)
    own = part if isinstance(part, type) else type(part)
    parts = {
        "low_level": agent.low_level,
        "subgoal_sampler": agent.sampler,
        "planner": agent.high_level.planner,
    }
    assert type(parts[name]) is own
    assert (parts[name] is part) == (not isinstance(part, type))
    assert getattr(agent.config, name) == own.__name__
    agent.save(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match=rf"{name} must be one of .*load\(path, {name}="):
        HierarchicalEBMAgent.load(tmp_path / "agent.zip")
    again = HierarchicalEBMAgent.load(tmp_path / "agent.zip", **{name: other})
    batch, _ = gym.make_vec("PointMassGoal-v0", num_envs=3).reset(seed=1)
    shown = agent.plan({key: value[:1] for key, value in batch.items()})
    assert np.array_equal(shown.nodes[-1], batch["desired_goal"][0])
    mine, plans = agent.predict(batch)
    its, _ = again.predict(batch)
    assert plans is not None
    np.testing.assert_array_equal(mine, its)


def test_names_are_those_of_the_parts_that_come_along() -> None:
    agent = HierarchicalEBMAgent(env="PointMassGoal-v0", subgoal_sampler="replay", seed=0)
    assert isinstance(agent.low_level, FastDistanceDDPG)
    assert isinstance(agent.sampler, ReplaySampler)
    assert isinstance(agent.high_level.planner, GraphPlanner)
    reference = DDPGHERAgent(env="PointMassGoal-v0", low_level=DistanceDDPG, seed=0)
    assert type(reference.low_level) is DistanceDDPG


@pytest.mark.parametrize("name", PARTS)
def test_what_is_no_such_part_is_refused_before_anything_is_learned(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of .*got 'nonsense'"):
        HierarchicalEBMAgent(**{name: "nonsense"})
    for wrong in (3, dict, EBMSampler if name != "subgoal_sampler" else GraphPlanner):
        with pytest.raises(TypeError, match=f"{name} must be one of"):
            HierarchicalEBMAgent(**{name: wrong})


def test_a_low_level_that_knows_no_behaviour_term_learns_online() -> None:
    class Old(DistanceDDPG):
        def update(self, batch: TransitionBatch) -> dict[str, float]:  # type: ignore[override]
            return super().update(batch)

    agent = HierarchicalEBMAgent(low_level=Old, **SMALL).learn("PointMassGoal-v0", 260)
    assert type(agent.low_level) is Old and agent.n_updates > 0


def test_a_frozen_low_level_is_never_updated() -> None:
    agent = HierarchicalEBMAgent(low_level=Controller(), **SMALL).learn("PointMassGoal-v0", 450)
    assert agent.n_updates == 0 and agent.high_level.can_plan
