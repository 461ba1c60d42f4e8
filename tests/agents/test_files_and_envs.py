"""What files, environments and copies must not break: each a fault that was there once."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from examples.own_planner import StepByStep
from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.control.base import LowLevel
from hierebm.control.ddpg_kernels import FastDistanceDDPG
from hierebm.planning.planner import Planner, PlanState
from hierebm.planning.samplers import SubgoalSampler
from tests import toys

SMALL: dict[str, Any] = {
    **toys.SMALL,
    "energy_train_freq": 200,
    "energy_gradient_steps": 2,
    "seed": 0,
}
FLAT = {
    name: value
    for name, value in SMALL.items()
    if not name.startswith("energy_") and name not in ("pool_size", "n_subgoals")
}
WORLD = "PointMassGoal-v0"


def test_an_agent_with_a_part_given_as_an_instance_is_not_copied() -> None:
    agent = HierarchicalEBMAgent(planner=StepByStep(), **SMALL)
    for make in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match=r"planner was given as an instance.*give the class"):
            make(agent)
    again = copy.deepcopy(HierarchicalEBMAgent(planner=StepByStep, **SMALL))
    assert again.part("planner") is StepByStep


def test_a_planner_serves_one_agent() -> None:
    planner = StepByStep()
    HierarchicalEBMAgent(planner=planner, env=WORLD, **SMALL)
    with pytest.raises(ValueError, match="belongs to another agent"):
        HierarchicalEBMAgent(planner=planner, env=WORLD, **SMALL)


def test_a_planner_may_forget_its_parents_constructor() -> None:
    class Forgetful(Planner):
        def __init__(self) -> None:
            self.own = 3

        def begin(self, observation, achieved_goal, goal, rng, learning=False):  # type: ignore
            plan = PlanState(goal, rng, learning)
            plan.chase(goal, 5.0)
            return plan

        def step(self, plan, observation, achieved_goal):  # type: ignore
            return plan

    HierarchicalEBMAgent(planner=Forgetful(), **SMALL).learn(WORLD, 450)


def test_a_refused_environment_leaves_everything_as_it_was() -> None:
    agent = DDPGHERAgent(**{**FLAT, "buffer_size": 100}).learn(WORLD, 30)
    env, buffer = agent.get_env(), agent.replay_buffer
    with pytest.raises(ValueError, match="rows"):
        agent.set_env(gym.make_vec(WORLD, num_envs=64))
    assert agent.get_env() == env and agent.replay_buffer is buffer
    assert agent.learn(total_timesteps=30, reset_num_timesteps=False).num_timesteps == 60


def test_a_subclass_of_the_fast_low_level_is_taken() -> None:
    class Mine(FastDistanceDDPG):
        pass

    assert type(DDPGHERAgent(low_level=Mine, env=WORLD, **FLAT).low_level) is Mine


def test_a_fresh_agent_maps_all_of_a_replay_buffer_that_it_loads(tmp_path: Path) -> None:
    agent = HierarchicalEBMAgent(**SMALL).learn(WORLD, 1000)
    agent.save_replay_buffer(tmp_path / "replay.zip")
    fresh = HierarchicalEBMAgent(env=WORLD, **SMALL)
    fresh.load_replay_buffer(tmp_path / "replay.zip")
    fresh.learn(total_timesteps=250)
    visits = [a.high_level.context.transition_map.visits.sum() for a in (agent, fresh)]
    assert visits[1] > 0.9 * visits[0]


def test_a_loaded_replay_buffer_is_not_gone_on_with_in_another_episode(tmp_path: Path) -> None:
    agent = DDPGHERAgent(**FLAT).learn(WORLD, 137)
    agent.save_replay_buffer(tmp_path / "replay.zip")
    agent.learn(total_timesteps=20, reset_num_timesteps=False)
    agent.load_replay_buffer(tmp_path / "replay.zip")
    agent.learn(total_timesteps=60, reset_num_timesteps=False)
    replay = agent.replay_buffer
    rows = np.flatnonzero(replay.has_action)
    moved = replay.achieved_goal[replay.later(rows, 1)] - replay.achieved_goal[rows]
    assert np.abs(moved).max() < 0.21, "a step at full speed is 0.2"


def test_settings_that_are_changed_at_loading_count_at_once(tmp_path: Path) -> None:
    agent = HierarchicalEBMAgent(**SMALL, sequence={"chains": 8, "levels": 1}).learn(WORLD, 450)
    context = agent.high_level.context
    context.edge_cutoff.safe_edge = 12.0
    agent.save(tmp_path / "agent.zip")

    def loaded(**settings: Any) -> HierarchicalEBMAgent:
        return HierarchicalEBMAgent.load(tmp_path / "agent.zip", **settings)

    assert loaded().high_level.context.safe_edge == 12.0
    assert loaded(safe_edge=4.0).high_level.context.safe_edge == 4.0
    sequence = loaded(sequence={"snap": False}).config.sequence
    assert (sequence.snap, sequence.chains, sequence.levels) == (False, 8, 1)
    quiet, still = loaded(action_noise=0.0, random_actions=0.0), np.zeros((1, 2), np.float32)
    assert (quiet.noise.add(still) == 0.0).all() and (loaded().noise.add(still) != 0.0).any()


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"safe_edge": 0}, ValueError, "safe_edge must be between 1 and 10000"),
        ({"hidden_sizes": (16.5, 16)}, TypeError, "hidden_sizes must be a tuple of whole numbers"),
        (
            {"hidden_sizes": (16, 0)},
            ValueError,
            "number of hidden_sizes must be between 1 and 4096",
        ),
    ],
)
def test_settings_that_could_not_be_built_are_refused(
    setting: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        HierarchicalEBMAgent(**setting)
    assert HierarchicalEBMAgent(hidden_sizes=(1e2, 16)).config.hidden_sizes == (100, 16)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"act": lambda n: np.zeros(2, np.float32)}, r"act must return .*\(1, 2\), .* got \(2,\)"),
        ({"act": lambda n: np.full((n, 2), np.nan)}, "act must return .*NaN or infinity"),
        ({"act": lambda n: [[0.0, 0.0]] * n}, "act must return .*got list"),
        ({"distance": lambda n: np.ones((n, 1))}, r"distance must return .*got \(\d+, 1\)"),
        ({"distance": lambda n: np.full(n, -3.0)}, "distance must return .*some are not"),
        ({"distance": lambda n: np.full(n, np.nan)}, "distance must return .*some are not"),
    ],
)
def test_what_a_low_level_of_ones_own_returns_is_checked(bad: dict[str, Any], message: str) -> None:
    class Own(LowLevel):
        trainable = False

        def act(self, observation, achieved_goal, goal):  # type: ignore
            return bad.get("act", lambda n: np.zeros((n, 2), np.float32))(len(goal))

        def distance(self, observation, achieved_goal, goal):  # type: ignore
            return bad.get("distance", np.ones)(len(goal))

    with pytest.raises(ValueError, match=rf"Own.{message}"):
        HierarchicalEBMAgent(low_level=Own, **SMALL).learn(WORLD, 450)


def test_what_samplers_and_planners_of_ones_own_return_is_checked() -> None:
    class Arrays(SubgoalSampler):
        def sample(self, start, goal, n, pool, rng, edges=None):  # type: ignore
            return np.stack([start, goal])

    class Silent(StepByStep):
        def step(self, plan, observation, achieved_goal):  # type: ignore
            super().step(plan, observation, achieved_goal)

        def begin(self, observation, achieved_goal, goal, rng, learning=False):  # type: ignore
            plan = PlanState(goal, rng, learning)
            plan.chase(goal, 5.0)
            return plan

    with pytest.raises(ValueError, match=r"Arrays.sample must return .*pool.nodes_at"):
        HierarchicalEBMAgent(subgoal_sampler=Arrays, **SMALL).learn(WORLD, 450)
    with pytest.raises(TypeError, match=r"Silent.step must return the plan"):
        HierarchicalEBMAgent(planner=Silent, **SMALL).learn(WORLD, 450)


def test_a_misspelt_part_is_told_its_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean kmeans"):
        HierarchicalEBMAgent(subgoal_sampler="kmean")
