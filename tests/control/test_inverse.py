"""The inverse model: the action that leads to the next state, learned from transitions alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hierebm import HierarchicalEBMAgent
from hierebm.control.inverse import InverseModel
from hierebm.data import OfflineDataset
from hierebm.replay import TransitionBatch
from hierebm.replay.scales import InputScales
from hierebm.types import FloatArray

STEP = np.array([0.2, 0.2], np.float32)


def move(velocity: FloatArray, action: FloatArray) -> FloatArray:
    """Where a point with mass goes, from where it is."""
    return (0.8 * velocity + 0.04 * action).astype(np.float32)


def random_batch(n: int, rng: np.random.Generator) -> TransitionBatch:
    """Random actions at velocities as random actions give them: well below full speed."""
    position, action = rng.uniform(-2, 2, (2, n, 2)).astype(np.float32)
    action, velocity = action / 2, rng.normal(0, 0.04, (n, 2)).astype(np.float32)
    moved = move(velocity, action)
    after = np.concatenate([position + moved, moved], 1)
    no = np.zeros(n, np.bool_)
    return TransitionBatch(
        np.concatenate([position, velocity], 1),
        position,
        action,
        after,
        position + moved,
        position,
        no,
        no,
    )


def make_model(seed: int = 0) -> InverseModel:
    generator = torch.Generator().manual_seed(seed)
    model = InverseModel(4, 2, 2, None, generator, torch.device("cpu"))
    scale = np.array([2, 2, 0.2, 0.2], np.float32)
    twos = np.full(2, 2, np.float32)
    model.fit_scale(InputScales(0 * scale, scale, 0 * twos, twos, STEP))
    return model


@pytest.fixture(scope="module")
def trained() -> InverseModel:
    model, rng = make_model(), np.random.default_rng(0)
    losses = [model.update(random_batch(64, rng))["train/inverse_loss"] for _ in range(800)]
    assert losses[-1] < 0.1 * losses[0]
    return model


def test_it_gives_the_action_that_led_there(trained: InverseModel) -> None:
    batch = random_batch(200, np.random.default_rng(1))
    given = trained.act(batch.observation, batch.achieved_goal, batch.next_achieved_goal)
    assert np.abs(given - batch.action).mean() < 0.1


def test_to_full_speed_and_at_it_actions_are_full_though_none_was_seen(
    trained: InverseModel,
) -> None:
    for speed in (0.0, 0.1, 0.19):
        observation = np.array([[0, 0, speed, -speed]], np.float32)
        action = trained.act(observation, observation[:, :2], np.array([[3, -3]], np.float32))
        np.testing.assert_allclose(action, [[1, -1]], atol=0.25)
        assert np.abs(action).max() <= 1.0


def test_a_far_goal_is_replaced_by_the_end_of_a_step_towards_it(trained: InverseModel) -> None:
    observation = np.zeros((2, 4), np.float32)
    far, near = trained.act(
        observation, observation[:, :2], np.array([[2.0, 1.0], [0.2, 0.1]], np.float32)
    )
    np.testing.assert_allclose(far, near, atol=1e-5)


def test_distances_are_steps_at_full_speed_along_the_longest_axis() -> None:
    goals = np.array([[0.0, 0.0], [0.1, 0.1], [1.0, -0.4], [0.2, 2.0]], np.float32)
    steps = make_model().distance(np.zeros((4, 4), np.float32), np.zeros_like(goals), goals)
    np.testing.assert_allclose(steps, [1, 1, 5, 10], rtol=1e-6)


def test_it_goes_into_a_file_and_back_and_learns_on(trained: InverseModel) -> None:
    first, again = make_model(), make_model(seed=1)
    first.load_state_dict(trained.state_dict())
    again.load_state_dict(trained.state_dict())
    for model in (first, again):
        model.update(random_batch(32, np.random.default_rng(2)))
    for key, value in first.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value, rtol=0, atol=0)
    damaged = trained.state_dict()
    damaged["network"] = {k: v * float("nan") for k, v in damaged["network"].items()}
    with pytest.raises(ValueError, match="inverse model"):
        make_model().load_state_dict(damaged)


def test_sequences_are_carried_out_after_random_transitions_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    position, velocity = rng.uniform(-1, 1, (40, 2)), np.zeros((40, 2))
    observations, actions = [], []
    for _ in range(25):
        action = rng.uniform(-1, 1, (40, 2))
        observations.append(np.concatenate([position, velocity], 1))
        actions.append(action)
        velocity = move(velocity, action)
        position = position + velocity
    ends = np.zeros((40, 25))
    ends[:, -1] = 1
    data = OfflineDataset.from_arrays(
        np.stack(observations, 1).reshape(-1, 4),
        np.stack(actions, 1).reshape(-1, 2),
        ends.reshape(-1),
        goal=[0, 1],
    )
    agent = HierarchicalEBMAgent(
        planner="sequence", low_level="inverse", seed=0, action_repeat=1, batch_size=32,
        energy_batch_size=16, energy_gradient_steps=3, energy_train_freq=300, pool_size=100,
    )  # fmt: skip
    agent.learn_offline(data, 600, success_tolerance=0.2)
    agent.save(tmp_path / "agent.zip")
    agent = HierarchicalEBMAgent.load(tmp_path / "agent.zip")
    assert isinstance(agent.low_level, InverseModel)
    place, speed, goal = np.zeros(2), np.zeros(2), np.array([0.8, -0.6])
    plan, steps = None, 0
    while np.linalg.norm(place - goal) > 0.2 and steps < 60:
        state = np.concatenate([place, speed]).astype(np.float32)
        observation = {"observation": state, "achieved_goal": state[:2], "desired_goal": goal}
        action, plan = agent.predict(observation, plan)
        speed = move(speed, action)
        place, steps = place + speed, steps + 1
    assert 4 <= steps < 30
