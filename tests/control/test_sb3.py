"""Models of Stable-Baselines3 as low level: distances, updates, files, clear errors."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402
from stable_baselines3.td3.policies import MultiInputPolicy  # noqa: E402

from hierebm import HierarchicalEBMAgent  # noqa: E402
from hierebm.control.sb3 import SB3LowLevel, largest_distance, steps_of_q  # noqa: E402
from hierebm.data import OfflineDataset  # noqa: E402
from hierebm.goal_env.spaces import GoalSpaces  # noqa: E402
from hierebm.replay import TransitionBatch  # noqa: E402
from tests.toys import LineGoal  # noqa: E402

KINDS = ("DDPG", "TD3", "SAC")
every_kind = pytest.mark.parametrize("kind", KINDS)
GAMMA = 0.9
PLANNING: dict[str, Any] = {
    "batch_size": 32,
    "learning_starts": 60,
    "buffer_size": 5000,
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 50,
    "energy_gradient_steps": 3,
    "pool_size": 100,
    "n_subgoals": 6,
}


def make_model(kind: str, env: Any = None, seed: int = 0, **kwargs: Any) -> Any:
    settings = {"gamma": GAMMA, "learning_rate": 3e-3, "buffer_size": 10, "tau": 0.05}
    settings |= {"policy_kwargs": {"net_arch": [32, 32]}, "device": "cpu", "seed": seed}
    env = LineGoal() if env is None else env
    return getattr(sb3, kind)("MultiInputPolicy", env, **{**settings, **kwargs})


def line_states(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1) positions and goals of LineGoal."""
    x, goal = rng.uniform(-1.0, 1.0, (2, n, 1)).astype(np.float32)
    return x, goal


def observed(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, x**2], axis=1)


def line_batch(n: int, rng: np.random.Generator) -> TransitionBatch:
    """Random transitions of LineGoal, whose actions are in [-0.2, 0.4]."""
    x, goal = line_states(n, rng)
    action = rng.uniform(-1.0, 1.0, (n, 1)).astype(np.float32)
    after = np.clip(x + 0.1 + 0.3 * action, -1.0, 1.0)
    reached = np.abs(after - goal)[:, 0] <= 0.1
    nowhere = np.zeros(n, np.bool_)
    return TransitionBatch(observed(x), x, action, observed(after), after, goal, reached, nowhere)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [t for entry in value for t in tensors(entry)]
    return [] if value is None else [torch.as_tensor(value)]


def same(a: Any, b: Any) -> bool:
    ours, theirs = tensors(a), tensors(b)
    assert len(ours) == len(theirs) > 10
    return all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


# -------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("gamma", [0.9, 0.95, 0.99])
def test_distances_of_optimal_q_in_a_tabular_line_world_are_the_steps(gamma: float) -> None:
    """States 0 to 20, actions one to the left or right, the targets that `update` trains with."""
    low = SB3LowLevel(make_model("DDPG", gamma=gamma))
    n, goal = 21, 6
    after = np.clip(np.arange(n)[:, None] + [-1, 1], 0, n - 1).reshape(-1)
    zeros = np.zeros((len(after), 1), np.float32)
    batch = TransitionBatch(
        observed(zeros), zeros, zeros, observed(zeros), zeros, zeros, after == goal,
        np.zeros(len(after), np.bool_),
    )  # fmt: skip
    samples = low._samples(batch)
    reward, done = samples.rewards[:, 0].double(), samples.dones[:, 0].double()
    q = torch.zeros(n, 2, dtype=torch.float64)
    for _ in range(100):
        q = (reward + gamma * (1.0 - done) * q.amax(1)[after]).reshape(n, 2)
    steps = steps_of_q(q.amax(1), gamma)
    true = np.abs(np.arange(n) - goal)
    # At the goal itself the policy leaves it and comes back.
    true[goal] = 2
    assert steps.numpy() == pytest.approx(true, abs=1e-4)


def test_the_largest_distance_is_where_q_is_within_a_hundredth_of_its_lowest_value() -> None:
    assert largest_distance(0.95) == pytest.approx(90.8, abs=0.1)
    lowest = -1.0 / (1.0 - 0.95)
    q = torch.tensor([0.5, 0.0, 0.99 * lowest, lowest, 3 * lowest])
    assert steps_of_q(q, 0.95).tolist() == pytest.approx(
        [1.0, 1.0, *[largest_distance(0.95)] * 3], rel=1e-3
    )


def test_a_failure_is_worth_as_little_as_a_goal_that_is_never_reached() -> None:
    low = SB3LowLevel(make_model("DDPG"))
    batch = line_batch(3, np.random.default_rng(0))
    reached, failure = np.array([True, False, False]), np.array([True, True, False])
    batch = TransitionBatch(**{**vars(batch), "reached": reached, "failure": failure})
    samples = low._samples(batch)
    assert samples.dones[:, 0].tolist() == [1.0, 1.0, 0.0]
    assert samples.rewards[:, 0].tolist() == pytest.approx([0.0, -10.0, -1.0])
    assert steps_of_q(samples.rewards[1], GAMMA).item() == pytest.approx(largest_distance(GAMMA))


@every_kind
def test_learns_to_act_and_how_far_goals_are(kind: str) -> None:
    rng = np.random.default_rng(0)
    # SAC begins with an entropy that drowns the steps of so small a world.
    low = SB3LowLevel(make_model(kind, **({"ent_coef": "auto_0.1"} if kind == "SAC" else {})))
    recorded: set[str] = set()
    for _ in range(300):
        recorded |= set(low.update(line_batch(128, rng)))
    assert {"train/critic_loss", "train/actor_loss"} <= recorded
    assert "train/n_updates" not in recorded
    x, goal = line_states(300, rng)
    action = low.act(observed(x), x, goal)
    assert action.shape == (300, 1) and action.dtype == np.float32 and np.abs(action).max() <= 1
    way = (goal - x)[:, 0]
    far = np.abs(way) > 0.3
    # The action that stands still is -1/3: it is [-0.2, 0.4] that is scaled to [-1, 1].
    assert (np.sign(action[far, 0] + 1 / 3) == np.sign(way[far])).mean() > 0.95
    true = np.ceil(np.where(way > 0, (way - 0.1) / 0.4, (-way - 0.1) / 0.2)).clip(1)
    most, mean = (low.distance(observed(x), x, goal, reduce) for reduce in ("max", "mean"))
    assert most.shape == (300,) and most.dtype == np.float32 and most.min() >= 1.0
    assert np.corrcoef(most, true)[0, 1] > 0.85
    # Steps beyond the largest distance are not asked of it; SAC's entropy counts as steps, too.
    assert np.abs(most - true).mean() < 2.0
    assert (most >= mean - 1e-4).all()
    if kind == "DDPG":
        assert np.array_equal(most, mean)
    assert low.distance(observed(x[:0]), x[:0], goal[:0]).shape == (0,)
    with pytest.raises(ValueError, match="max or mean"):
        low.distance(observed(x), x, goal, "median")


def test_actions_are_those_of_predict_scaled() -> None:
    x, goal = line_states(20, np.random.default_rng(0))
    given = {"observation": observed(x), "achieved_goal": x, "desired_goal": goal}

    class InEnvironmentUnits(MultiInputPolicy):
        squash_output = property(lambda self: False)

        def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
            return 0.1 + 0.3 * super()._predict(observation, deterministic)

    for policy in ("MultiInputPolicy", InEnvironmentUnits):
        model = sb3.TD3(policy, LineGoal(), buffer_size=10, device="cpu", seed=0)
        expected = model.policy.scale_action(model.predict(given, deterministic=True)[0])
        assert SB3LowLevel(model).act(observed(x), x, goal) == pytest.approx(expected, abs=1e-5)


# ---------------------------------------------------------------------------------- updates


@every_kind
def test_updates_change_the_model_and_lower_the_loss_of_a_fixed_batch(kind: str) -> None:
    model = make_model(kind)
    low, batch = SB3LowLevel(model), line_batch(64, np.random.default_rng(0))
    before = copy.deepcopy(low.state_dict())
    losses = [low.update(batch)["train/critic_loss"] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    for part in ("actor", "critic", "critic_target"):
        now = getattr(model, part).state_dict()
        old = {
            k.removeprefix(f"{part}."): v
            for k, v in before["parameters"]["policy"].items()
            if k.startswith(f"{part}.")
        }
        assert old and any(not torch.equal(now[k], old[k]) for k in old)
    assert model._n_updates == 60


@every_kind
def test_an_update_leaves_the_rest_of_the_model_and_of_the_process_alone(kind: str) -> None:
    model = make_model(kind)
    low, buffer = SB3LowLevel(model), model.replay_buffer
    model._current_progress_remaining = 0.25
    x, goal = line_states(4, np.random.default_rng(0))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    low.update(line_batch(16, np.random.default_rng(0)))
    low.act(observed(x), x, goal)
    assert torch.equal(torch.rand(3), expected)
    assert model.replay_buffer is buffer and buffer.pos == 0
    assert not hasattr(model, "_logger") and model._current_progress_remaining == 0.25
    assert not model.policy.training


@every_kind
def test_state_goes_through_a_file_and_the_next_update_is_the_same(kind: str) -> None:
    rng = np.random.default_rng(0)
    first, second = (SB3LowLevel(make_model(kind, seed=seed)) for seed in (0, 1))
    # An odd number: TD3 trains its actor every other time.
    for _ in range(3):
        first.update(line_batch(32, rng))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert same(first.state_dict(), second.state_dict())
    for _ in range(2):
        batch = line_batch(32, rng)
        torch.manual_seed(int(rng.integers(100)))
        metrics = first.update(batch)
        torch.manual_seed(int(rng.integers(100)))
        assert second.update(batch) == metrics
        assert same(first.state_dict(), second.state_dict())


def test_state_of_another_kind_of_model_is_refused() -> None:
    first, second = SB3LowLevel(make_model("SAC")), SB3LowLevel(make_model("SAC", ent_coef=0.1))
    with pytest.raises(ValueError, match="ent_coef"):
        second.load_state_dict(first.state_dict())


# ------------------------------------------------------------------------------ in an agent


def test_a_frozen_model_keeps_every_weight_while_the_high_level_learns() -> None:
    low = SB3LowLevel(make_model("SAC"), frozen=True)
    before = copy.deepcopy(low.state_dict())
    agent = HierarchicalEBMAgent(seed=0, low_level=low, **PLANNING)
    agent.learn(LineGoal(), 70, log_interval=None)
    high = copy.deepcopy(agent.high_level.state_dict())
    agent.learn(total_timesteps=150, reset_num_timesteps=False)
    assert same(low.state_dict(), before)
    assert agent.n_updates == 0 and agent.high_level.can_plan
    assert not same(agent.high_level.state_dict(), high)
    with pytest.raises(TypeError, match="does not learn"):
        low.update(line_batch(8, np.random.default_rng(0)))


def test_a_behaviour_term_is_refused() -> None:
    low = SB3LowLevel(make_model("TD3"))
    with pytest.raises(ValueError, match=r"TD3 .* no behaviour term: pass behavior_weight=0"):
        low.update(line_batch(8, np.random.default_rng(0)), behavior_weight=1.0)
    agent = HierarchicalEBMAgent(seed=0, low_level=low, env=LineGoal(), **PLANNING)
    rows = np.zeros((9, 2)), np.zeros((9, 1)), np.arange(9) == 8
    data = OfflineDataset.from_arrays(*rows, goal=(0,), action_low=-0.2, action_high=0.4)
    with pytest.raises(ValueError, match="no behaviour term: pass behavior_weight=0 to learn_off"):
        agent.learn_offline(data, 1)
    assert agent.replay_buffer.n_added == 0, "else the next call would store the data twice"


@every_kind
def test_an_agent_trains_saves_and_loads_it(kind: str, tmp_path: Path) -> None:
    agent = HierarchicalEBMAgent(seed=0, low_level=SB3LowLevel(make_model(kind)), **PLANNING)
    agent.learn(LineGoal(), 120, log_interval=None)
    assert agent.n_updates > 20 and agent.low_level.model._n_updates == agent.n_updates
    agent.save(tmp_path / "agent.zip")
    again = HierarchicalEBMAgent.load(
        tmp_path / "agent.zip", low_level=SB3LowLevel(make_model(kind, seed=3))
    )
    x, goal = line_states(5, np.random.default_rng(1))
    given = {"observation": observed(x), "achieved_goal": x, "desired_goal": goal}
    action, _ = agent.predict(given)
    assert np.array_equal(action, again.predict(given)[0])
    assert LineGoal().action_space.contains(action[0])
    with pytest.raises(ValueError, match="low_level=SB3LowLevel"):
        HierarchicalEBMAgent.load(tmp_path / "agent.zip")


def test_runs_repeat_bit_for_bit() -> None:
    states = []
    for noise in (1, 2):
        low = SB3LowLevel(make_model("SAC"))
        torch.manual_seed(noise)
        agent = HierarchicalEBMAgent(seed=0, low_level=low, **PLANNING)
        agent.learn(LineGoal(), 90, log_interval=None)
        states.append(low.state_dict())
    assert same(*states)


# ----------------------------------------------------------------------------------- errors


def test_models_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="on-policy model has no critic"):
        SB3LowLevel(sb3.PPO("MultiInputPolicy", LineGoal(), device="cpu"))
    with pytest.raises(TypeError, match="got str"):
        SB3LowLevel("SAC")
    discrete = sb3.DQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu")
    with pytest.raises(TypeError, match="take DDPG, TD3 or SAC"):
        SB3LowLevel(discrete)
    flat = gym.wrappers.FlattenObservation(LineGoal())
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        SB3LowLevel(sb3.TD3("MlpPolicy", flat, buffer_size=10, device="cpu"))
    scaled = VecNormalize(DummyVecEnv([LineGoal]))
    with pytest.raises(ValueError, match="without VecNormalize"):
        SB3LowLevel(make_model("TD3", scaled))


def test_discounts_and_rewards_that_give_no_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        SB3LowLevel(make_model("DDPG", gamma=1.0))
    with pytest.raises(ValueError, match="leave gamma out"):
        SB3LowLevel(make_model("DDPG"), gamma=0.5)
    assert SB3LowLevel(make_model("DDPG"), frozen=True, gamma=0.5).gamma == 0.5
    pays_one = make_model("DDPG", LineGoal(pays_one=True))
    with pytest.raises(ValueError, match="pays 1 at the goal"):
        SB3LowLevel(pays_one, frozen=True)
    assert SB3LowLevel(pays_one).trainable


def test_another_environment_than_the_models_is_refused() -> None:
    low = SB3LowLevel(make_model("DDPG"))
    with pytest.raises(ValueError, match="observations of the shapes"):
        HierarchicalEBMAgent(low_level=low, env="PointMassGoal-v0")
    env = LineGoal()
    env.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    spaces = GoalSpaces(env.observation_space, env.action_space)
    with pytest.raises(ValueError, match="made for the actions"):
        low.check_spaces(spaces.observation_space, spaces.action_space)


def test_the_control_package_does_not_import_the_library() -> None:
    code = (
        "import sys, hierebm.control, hierebm.agents\n"
        "assert not any(name.startswith('stable_baselines3') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
