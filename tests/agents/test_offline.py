"""learn_offline: agents learn from data, go on online, resume bit for bit, fail clearly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hierebm
from hierebm.agents.replay_file import replay_arrays
from hierebm.callbacks import CheckpointCallback, EvalCallback, EveryNTimesteps, RecordCallback
from hierebm.control.base import LowLevel
from hierebm.control.ddpg import DistanceDDPG
from hierebm.data import OfflineDataset
from hierebm.evaluation import evaluate
from tests.agents.small import KINDS, tensors
from tests.toys import LIGHT, PlaneGoal

every_kind = pytest.mark.parametrize("kind", ["flat", "graph", "sequence"])


def _walks(n_episodes: int, n_steps: int, *, step: float = 0.1, seed: int = 0) -> OfflineDataset:
    """Random walks in PlaneGoal."""
    rng = np.random.default_rng(seed)
    states = np.empty((n_episodes, n_steps + 1, 2), np.float32)
    actions = np.zeros_like(states)
    states[:, 0] = rng.uniform(-1.0, 1.0, (n_episodes, 2))
    for t in range(n_steps):
        noise = rng.normal(0.0, 0.4, (n_episodes, 2))
        actions[:, t] = np.clip(0.9 * actions[:, t - 1] + noise, -1.0, 1.0)
        states[:, t + 1] = np.clip(states[:, t] + step * actions[:, t], -1.0, 1.0)
    ends = np.zeros((n_episodes, n_steps + 1))
    ends[:, -1] = 1.0
    rows = states.reshape(-1, 2), actions.reshape(-1, 2)
    return OfflineDataset.from_arrays(*rows, ends.ravel(), goal=(0, 1))


@pytest.fixture(scope="module")
def walks() -> OfflineDataset:
    return _walks(20, 60)


@pytest.fixture(scope="module")
def point_mass() -> OfflineDataset:
    """What random actions do in PointMassGoal-v0, goal or not."""
    env = gym.make("PointMassGoal-v0", continuing_task=True, time_limit=150)
    rng = np.random.default_rng(0)
    states, actions, ends = [], [], []
    for episode in range(40):
        observation, _ = env.reset(seed=episode)
        action = np.zeros(2)
        for t in range(151):
            action = np.clip(0.9 * action + rng.normal(0.0, 0.4, 2), -1.0, 1.0)
            states.append(observation["observation"])
            actions.append(action)
            ends.append(t == 150)
            if t < 150:
                observation, *_ = env.step(action.astype(np.float32))
    return OfflineDataset.from_arrays(np.stack(states), np.stack(actions), ends, goal=(0, 1))


def _agent(kind: str, **kwargs: Any) -> Any:
    agent_class, settings = KINDS[kind]
    return agent_class(**{"seed": 0, **settings, "train_freq": 1, **kwargs})


def _everything(agent: Any) -> list[torch.Tensor]:
    experience = map(torch.as_tensor, replay_arrays(agent).values())
    return [*tensors(agent._tensors()), *experience]


def _equal(a: Any, b: Any) -> bool:
    ours, theirs = _everything(a), _everything(b)
    return len(ours) == len(theirs) > 20 and all(map(torch.equal, ours, theirs))


# ------------------------------------------------------------------------- learning


@pytest.mark.slow
def test_it_learns_from_random_walks_and_goes_on_online(point_mass: OfflineDataset) -> None:
    def success(agent: Any) -> float:
        return evaluate(agent, "PointMassGoal-v0", 20, seed=1).success_rate

    agent = hierebm.HierarchicalEBMAgent(seed=0, **LIGHT)
    untrained = hierebm.DDPGHERAgent(seed=0, env="PointMassGoal-v0")
    assert success(untrained) < 0.3
    agent.learn_offline(point_mass, 600, success_tolerance=0.3)
    assert agent.num_timesteps == 0 and agent.n_updates == 600
    assert agent.replay_buffer.n_transitions == point_mass.n_transitions == 6000
    assert success(agent) > 0.8
    agent.learn("PointMassGoal-v0", 100)
    assert agent.num_timesteps == 100
    # No random actions first, and no updates for the rows of the data.
    assert agent.n_updates == 700
    assert agent.replay_buffer.n_added == point_mass.n_transitions + 100
    assert success(agent) > 0.8


@every_kind
def test_the_same_seed_gives_the_same_agent(kind: str, walks: OfflineDataset) -> None:
    first, second, other = (
        _agent(kind, seed=seed).learn_offline(walks, 120, success_tolerance=0.1)
        for seed in (0, 0, 1)
    )
    assert _equal(first, second) and not _equal(first, other)


@every_kind
def test_it_resumes_bit_for_bit(kind: str, walks: OfflineDataset, tmp_path: Path) -> None:
    """From a checkpoint in the middle, with neither data nor environment at hand."""
    # Rounds of the high level come every 100 steps.
    saver = CheckpointCallback(150, tmp_path, save_replay_buffer=True)
    whole = _agent(kind).learn_offline(walks, 300, saver, success_tolerance=0.1)
    loaded = type(whole).load(tmp_path / "rl_model_150_steps.zip")
    assert loaded.n_updates == 150 and not _equal(loaded, whole)
    loaded.learn_offline(None, 150)
    assert loaded.n_updates == 300 and _equal(loaded, whole)


@every_kind
def test_an_agent_of_data_predicts_and_takes_over_an_environment(
    kind: str, walks: OfflineDataset, tmp_path: Path
) -> None:
    agent = _agent(kind).learn_offline(walks, 100, success_tolerance=0.1)
    agent.save(tmp_path / "agent.zip")
    env = PlaneGoal()
    observation, _ = env.reset(seed=0)
    loaded = type(agent).load(tmp_path / "agent.zip")
    expected, _ = agent.predict(observation)
    assert np.array_equal(loaded.predict(observation)[0], expected)
    assert loaded.observation_space["observation"].dtype == np.float32
    # The environment's spaces are of float64, and bounded once more.
    bounded = gym.wrappers.TransformObservation(env, lambda o: o, _bounded(env.observation_space))
    for taken in (env, bounded):
        again = type(agent).load(tmp_path / "agent.zip", env=taken)
        assert again.observation_space == taken.observation_space
        assert again.spaces is not None and not again.spaces.from_data
        assert np.array_equal(again.predict(observation)[0], expected)
        again.learn(total_timesteps=20)
    agent.learn(bounded, 150)
    assert agent.n_updates == 250 and agent.observation_space == bounded.observation_space
    with pytest.warns(UserWarning, match="other bounds"):
        agent.set_env(env)
    assert agent.observation_space == bounded.observation_space


def _bounded(space: Any) -> gym.spaces.Dict:
    box = gym.spaces.Box(-2.0, 2.0, (2,), np.float64)
    return gym.spaces.Dict(dict.fromkeys(space, box))


def test_an_environment_that_was_set_says_what_is_reached(walks: OfflineDataset) -> None:
    told = _agent("flat").learn_offline(walks, 20, success_tolerance=0.1)
    asked = _agent("flat", env=PlaneGoal()).learn_offline(walks, 20)
    assert _equal(told, asked)
    wider = _agent("flat", env=PlaneGoal(tolerance=0.4)).learn_offline(walks, 20)
    assert not _equal(told, wider)


def test_tolerance_is_a_distance_or_one_for_each_axis(walks: OfflineDataset) -> None:
    agent = _agent("flat").learn_offline(walks, 0, success_tolerance=[0.1, 0.2])
    goal, none = np.zeros((1, 2), np.float32), np.float32([[0.15, 0.0]])
    assert agent._reached(np.float32([[0.0, 0.15]]), goal) and not agent._reached(none, goal)
    assert not agent._reached(np.float32([[0.09, 0.15]]), goal), "an ellipsoid, no box"
    # Kept for later calls.
    agent.learn_offline(None, 5)
    assert agent.n_updates == 5


def test_the_clock_is_measured_on_data() -> None:
    data = _walks(10, 400, step=0.02)
    agent = _agent("flat").learn_offline(data, 5, success_tolerance=0.1)
    assert agent.action_repeat in (3, 4)
    assert agent.replay_buffer.n_added == 10 * (400 // agent.action_repeat)
    assert agent.scales is not None and (agent.scales.step > 0.05).all()
    # Steps of one length only: the second data set is seen by the same clock.
    before = agent.replay_buffer.n_added
    agent.learn_offline(_walks(10, 400, step=0.1), 5)
    assert agent.replay_buffer.n_added == 2 * before
    fixed = _agent("flat", action_repeat=2).learn_offline(data, 0, success_tolerance=0.1)
    assert fixed.replay_buffer.n_added == 10 * 200
    short = _agent("flat").learn_offline(_walks(10, 120, step=0.02), 0, success_tolerance=0.1)
    assert short.action_repeat == 2, "an episode has at least 50 steps"


def test_steps_of_before_the_clock_are_dropped() -> None:
    env = PlaneGoal(step=0.02, limit=400)
    agent = _agent("graph").learn(env, 60)
    assert agent.replay_buffer.n_added == 60 and not agent.knows_clock
    agent.learn_offline(_walks(10, 400, step=0.02), 5)
    assert agent.action_repeat > 1
    assert agent.replay_buffer.n_added == 10 * (400 // agent.action_repeat)
    agent.learn(total_timesteps=40, reset_num_timesteps=False)
    assert agent.num_timesteps == 100


# ---------------------------------------------------------------- the replay buffer


@pytest.mark.parametrize("n_envs", [1, 3])
def test_data_does_not_push_out_experience(n_envs: int, walks: OfflineDataset) -> None:
    envs = gym.vector.SyncVectorEnv([PlaneGoal] * n_envs)
    agent = _agent("graph", env=envs, buffer_size=300, action_repeat=1)
    agent.learn(total_timesteps=240)
    stored = agent.replay_buffer
    online = {tuple(o) for o in stored.observation[stored.has_action].tolist()}
    for n, data in enumerate((walks, _walks(20, 60, seed=1)), 1):
        agent.learn_offline(data, 2)
        replay = agent.replay_buffer
        rows = replay.observation[replay.has_action].tolist()
        assert len(rows) == 240 + n * walks.n_transitions == replay.n_added
        assert {tuple(row) for row in rows} >= online
        assert agent.high_level.mapped == replay.n_added
    # And buffer_size states of experience fit in beside it.
    agent.learn(total_timesteps=60)
    assert agent.replay_buffer.n_transitions == replay.n_added == 300 + 2 * walks.n_transitions


def test_data_that_was_given_before_a_vector_of_environments_is_kept(
    walks: OfflineDataset, recwarn: pytest.WarningsRecorder
) -> None:
    agent = _agent("graph", buffer_size=300, action_repeat=1)
    agent.learn_offline(walks, 20, success_tolerance=0.1)
    agent.learn(gym.vector.SyncVectorEnv([PlaneGoal] * 3), 60, reset_num_timesteps=False)
    replay = agent.replay_buffer
    assert replay.n_envs == 3 and replay.n_added == walks.n_transitions + 60
    assert replay.n_transitions == replay.n_added and not list(recwarn)
    stored = {tuple(row) for row in replay.observation[replay.has_action].tolist()}
    assert stored >= {tuple(row) for row in walks.observation[~walks.episode_end].tolist()}
    # Nor is it stored again.
    agent.learn_offline(walks, 5)
    assert replay.n_added == walks.n_transitions + 60


def test_the_map_takes_in_every_transition() -> None:
    """Also where many states are the last ones of their episodes."""
    data = _walks(400, 9)
    agent = _agent("graph", action_repeat=1).learn_offline(data, 1, success_tolerance=0.1)
    known = agent.high_level.context.transition_map
    assert known.visits.sum() == data.n_transitions
    assert known.knows(data.achieved_goal).all()
    agent.learn_offline(_walks(400, 9, seed=1), 1)
    assert known.visits.sum() == 2 * data.n_transitions


def test_a_buffer_filled_by_hand_is_learned_from(walks: OfflineDataset) -> None:
    agent = _agent("graph", env=PlaneGoal(), action_repeat=1)
    agent.replay_buffer.add_episodes(
        walks.observation, walks.achieved_goal, walks.achieved_goal, walks.action, walks.episode_end
    )
    agent.learn_offline(None, 30)
    assert agent.n_updates == 30 and agent.high_level.can_plan
    agent.learn(total_timesteps=20)
    assert agent.n_updates == 50
    with pytest.raises(ValueError, match="nothing says how many environment steps"):
        _agent("graph", env=PlaneGoal()).learn(total_timesteps=20).learn_offline(None, 30)


# ------------------------------------------------------------------ log and callbacks


def test_log_and_callbacks_count_gradient_steps(walks: OfflineDataset, tmp_path: Path) -> None:
    seen: list[int] = []
    evaluation = EvalCallback(PlaneGoal(), n_eval_episodes=2, eval_freq=100, verbose=0)
    counted = EveryNTimesteps(50, lambda now, _: seen.append(now["gradient_step"]))
    agent = _agent("graph", tensorboard_log=tmp_path)
    agent.learn_offline(walks, 150, success_tolerance=0.1)
    agent.learn_offline(
        None, 200, [evaluation, counted], reset_num_timesteps=False, progress_bar=True
    )
    assert seen == [200, 250, 300, 350]
    assert [step for step, _ in evaluation.evaluations] == [250, 350]
    events = EventAccumulator(str(tmp_path / "HierarchicalEBM_offline_1"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"train/critic_loss", "train/behavior_loss", "energy/loss", "graph/safe_edge"}
    assert tags >= {"eval/success_rate", "time/action_repeat"}
    updates = events.Scalars("train/n_updates")
    assert [(e.step, e.value) for e in updates] == [(n, n) for n in (100, 150, 200, 300, 350)]
    assert {e.value for e in events.Scalars("time/total_timesteps")} == {0}
    agent.learn(PlaneGoal(), 100)
    assert (tmp_path / "HierarchicalEBM_1").is_dir()


def test_a_callback_stops_it_and_it_can_plan(walks: OfflineDataset) -> None:
    agent = _agent("graph")
    agent.learn_offline(walks, 200, lambda now, _: now["gradient_step"] < 30, success_tolerance=0.1)
    assert agent.n_updates == 30 and agent.high_level.can_plan


@every_kind
def test_an_interrupt_leaves_a_usable_agent(kind: str, walks: OfflineDataset) -> None:
    def interrupt(locals_: dict[str, Any], _: Any) -> None:
        if locals_["gradient_step"] == 40:
            raise KeyboardInterrupt

    agent = _agent(kind)
    with pytest.raises(KeyboardInterrupt):
        agent.learn_offline(walks, 200, interrupt, success_tolerance=0.1)
    agent.predict(PlaneGoal().reset(seed=0)[0])
    agent.learn(PlaneGoal(), 50)
    assert agent.n_updates == 90


def test_episodes_are_not_recorded_offline(walks: OfflineDataset) -> None:
    with pytest.raises(ValueError, match="takes none: give it to learn"):
        _agent("flat").learn_offline(walks, 2, RecordCallback("a/b-v0"), success_tolerance=0.1)


# ---------------------------------------------------------------------- low levels


class Plain(DistanceDDPG):
    def update(self, batch: Any) -> dict[str, float]:  # type: ignore[override]
        return super().update(batch)


class Frozen(LowLevel):
    trainable = False

    def act(self, observation: Any, achieved_goal: Any, goal: Any) -> Any:
        return np.clip(10.0 * (goal - achieved_goal), -1.0, 1.0).astype(np.float32)

    def distance(self, observation: Any, achieved_goal: Any, goal: Any) -> Any:
        return 1.0 + 10.0 * np.abs(goal - achieved_goal).max(-1)


def test_a_low_level_without_behavior_term(walks: OfflineDataset) -> None:
    agent = _agent("flat", low_level=Plain)
    with pytest.raises(ValueError, match=r"Plain.update takes no behavior_weight: .*=0"):
        agent.learn_offline(walks, 10, success_tolerance=0.1)
    agent.learn_offline(walks, 10, success_tolerance=0.1, behavior_weight=0)
    assert agent.n_updates == 10 and agent.replay_buffer.n_added == walks.n_transitions


def test_over_a_frozen_low_level_only_the_high_level_learns(walks: OfflineDataset) -> None:
    agent = _agent("graph", low_level=Frozen)
    agent.learn_offline(walks, 250, success_tolerance=0.1)
    assert agent.n_updates == 0 and agent.high_level.can_plan
    assert evaluate(agent, PlaneGoal(), 10, seed=0).reached_rate == 1.0


# -------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("data", "kwargs", "error", "message"),
    [
        ("pointmaze.npz", {}, TypeError, r"got str: .*load_ogbench.*load_minari.*from_arrays"),
        (None, {}, ValueError, r"nothing to learn from: learn_offline\(data\), or load_replay"),
        ("walks", {}, ValueError, r"set_env\(env\) first.*success_tolerance="),
        ("walks", {"success_tolerance": [1, 1, 1]}, ValueError, "one number or 2"),
        ("walks", {"success_tolerance": 0.0}, ValueError, "must be positive"),
        ("walks", {"success_tolerance": np.nan}, ValueError, "must be positive"),
        ("walks", {"success_tolerance": "a"}, ValueError, "one number or 2"),
        ("walks", {"success_tolerance": 1e-9}, ValueError, "float32 knows steps of.*an origin"),
        ("walks", {"gradient_steps": 0.5}, ValueError, "gradient_steps must be a whole number"),
        ("walks", {"gradient_steps": "5"}, ValueError, "gradient_steps must be a whole number"),
        ("walks", {"gradient_steps": -1}, ValueError, "whole number, 0 or more"),
        ("walks", {"log_interval": 0}, ValueError, "log_interval must be at least 1"),
        ("walks", {"behavior_weight": -1.0}, ValueError, "behavior_weight must be"),
        ("walks", {"behavior_weight": np.nan}, ValueError, "behavior_weight must be"),
        ("walks", {"behavior_weight": None}, ValueError, "behavior_weight must be"),
    ],
)
def test_arguments_that_are_wrong(
    data: Any, kwargs: Any, error: Any, message: str, walks: OfflineDataset
) -> None:
    agent = _agent("flat")
    with pytest.raises(error, match=message):
        agent.learn_offline(walks if data == "walks" else data, **kwargs)
    assert agent.replay is None and agent.n_updates == 0 and agent.spaces is None


def test_a_replay_buffer_needs_an_agent_that_knows_its_spaces(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"knows no spaces yet: set_env\(env\), or load\(path\)"):
        _agent("flat").load_replay_buffer(tmp_path / "replay.zip")


def test_episodes_shorter_than_a_step_of_the_agent() -> None:
    agent = _agent("flat", action_repeat=20)
    with pytest.raises(
        ValueError, match=r"step of the agent lasts 20 .* longest episode has 9: .*"
    ):
        agent.learn_offline(_walks(5, 9), 3, success_tolerance=0.1)
    # Nothing of what was refused stays: other data may have other lengths.
    assert agent.spaces is None and agent.replay is None
    rows = np.random.default_rng(0).normal(size=(300, 3)), np.zeros((300, 1)), np.arange(300) == 299
    agent.learn_offline(OfflineDataset.from_arrays(*rows, goal=(0,)), 3, success_tolerance=0.1)
    assert agent.spaces.obs_dim == 3


def test_much_data_that_is_left_out_is_told() -> None:
    agent = _agent("flat", action_repeat=10)
    long, short = _walks(1, 60), _walks(50, 9)
    both = OfflineDataset.from_arrays(
        *(np.concatenate([getattr(d, name) for d in (long, short)])
          for name in ("observation", "action", "episode_end")),
        goal=(0, 1),
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"60 of 510 steps of the data .* action_repeat=10"):
        agent.learn_offline(both, 1, success_tolerance=0.1)
    assert agent.replay_buffer.n_added == 6


def test_data_and_environment_have_to_fit(walks: OfflineDataset) -> None:
    agent = _agent("flat", env=PlaneGoal())
    rows = np.zeros((3, 4), np.float32), np.zeros((3, 2), np.float32), [0, 0, 1]
    with pytest.raises(ValueError, match=r"the data has observations of 4 .* was made for 2"):
        agent.learn_offline(OfflineDataset.from_arrays(*rows, goal=(0, 1)))
    scaled = OfflineDataset.from_arrays(
        walks.observation, walks.action, walks.episode_end, goal=(0, 1), action_high=3.0
    )
    with pytest.raises(ValueError, match=r"the data has actions from .*action_low= and"):
        agent.learn_offline(scaled)
    with pytest.raises(ValueError, match="leave success_tolerance out"):
        agent.learn_offline(walks, success_tolerance=0.1)
    assert agent.replay_buffer.n_added == 0
    of_data = _agent("flat").learn_offline(walks, 2, success_tolerance=0.1)
    with pytest.raises(ValueError, match=r"the environment has observations of 3 .* made for 2"):
        of_data.learn(PlaneGoal(dim=3), 10)
    with pytest.raises(ValueError, match=r"the environment has actions from .*bounds of the env"):
        of_data.learn(gym.wrappers.RescaleAction(PlaneGoal(), -2.0, 1.0), 10)
    with pytest.raises(ValueError, match=r"no environment: learn\(env\)"):
        of_data.learn(total_timesteps=5)
