"""The agents: they learn, resume bit for bit, predict as SB3 expects, fail clearly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy as sb3_evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hierebm
from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.errors import CheckpointError
from hierebm.evaluation import evaluate
from tests.agents import resuming
from tests.agents.small import KINDS, make, same, trained
from tests.toys import LineGoal

every_kind = pytest.mark.parametrize("kind", KINDS)


def _short(n_envs: int) -> Any:
    """Tasks that agents which learned next to nothing give up soon."""
    return gym.make_vec("PointMassGoal-v0", num_envs=n_envs, time_limit=20)


@every_kind
def test_runs_repeat_bit_for_bit_and_seeds_differ(kind: str) -> None:
    runs = [make(kind, seed=s).learn("PointMassGoal-v0", 400) for s in (3, 3, 4)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@every_kind
def test_a_run_resumes_bit_for_bit(kind: str, tmp_path: Path) -> None:
    agent = make(kind).learn("PointMassGoal-v0", 300)
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.zip")
    other = type(agent).load(tmp_path / "agent.zip", env="PointMassGoal-v0")
    other.load_replay_buffer(tmp_path / "replay.zip")
    assert other.config == agent.config and other.num_timesteps == 300
    assert same(agent, other)
    for a in (agent, other):
        a.learn(gym.make("PointMassGoal-v0"), 200, reset_num_timesteps=False)
        assert a.num_timesteps == 500
    assert same(agent, other)


# Kind, environments (negative: Gymnasium's own vector), and steps: not at the end of an episode.
STOPPED = [
    ("flat", 1, 40),  # before anything was learned
    ("flat", 3, 240),
    ("graph", 1, 237),
    ("graph", 3, 240),
    ("sequence", 1, 237),
    ("sequence", -2, 231),
]


def test_a_run_goes_on_in_the_middle_of_an_episode_in_a_fresh_process(tmp_path: Path) -> None:
    """Bit for bit. There, no buffer is as large yet as in the old process, and memory lies
    elsewhere.
    """
    # Sizes that fill no cache line: with the others, all that is used begins at one by chance.
    odd = {"hidden_sizes": (31, 27), "batch_size": 29, "max_distance": 13}
    went_on, arguments = {}, []
    for kind, n_envs, steps in STOPPED:
        (folder := tmp_path / f"{kind}_{n_envs}").mkdir()
        agent = make(kind, **odd).learn(resuming.make_env(n_envs), steps)
        # Queries larger than any of learning.
        venv = gym.make_vec("PointMassGoal-v0", num_envs=5)
        agent.predict(venv.reset(seed=0)[0])
        pool = agent.replay_buffer
        assert (pool.time > pool.episode_start).any()
        if agent.scales is not None:
            rows = pool.sample_rows(777, np.random.default_rng(0))
            states = pool.observation, pool.achieved_goal, pool.achieved_goal
            agent.low_level.distance(*(x[rows] for x in states))
        resuming.save(agent, folder)
        went_on[folder] = resuming.go_on(agent)
        arguments.append(f"{type(agent).__name__}={folder}")
    command = [sys.executable, "-m", "tests.agents.resuming", *arguments]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    for folder, expected in went_on.items():
        later = torch.load(folder / "later.pt")
        assert later.keys() == expected.keys()
        differing = [key for key in expected if not torch.equal(later[key], expected[key])]
        assert not differing, f"{folder.name}: {len(differing)} differ: {differing}"


def test_the_experience_of_another_kind_of_agent_is_refused_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    flat = make("flat").learn("PointMassGoal-v0", 200)
    flat.save_replay_buffer(tmp_path / "replay.zip")
    graph = make("graph", seed=1).learn("PointMassGoal-v0", 200)
    before = graph.replay_buffer.achieved_goal.copy()
    with pytest.raises(ValueError, match=r"stitched/half.*collect experience again"):
        graph.load_replay_buffer(tmp_path / "replay.zip")
    assert (graph.replay_buffer.achieved_goal == before).all()


@every_kind
def test_predicting_neither_depends_on_nor_disturbs_learning(kind: str) -> None:
    runs = [make(kind).learn("PointMassGoal-v0", 180) for _ in range(2)]
    venv = _short(3)
    evaluate(runs[0], venv, 6, seed=1)
    first, second = (evaluate(a, venv, 6, seed=1).to_dict() for a in (runs[0], runs[1]))
    assert first == second
    for run in runs:
        run.learn(None, 80, reset_num_timesteps=False)
    assert same(*runs)


@pytest.mark.parametrize("kind", ["flat", "graph", "sequence"])
def test_evaluate_policy_of_stable_baselines3_runs_unchanged(kind: str) -> None:
    def world() -> gym.Env[Any, Any]:
        return gym.make("PointMassGoal-v0", time_limit=20)

    agent = trained(kind)
    venv = DummyVecEnv([lambda: Monitor(world()) for _ in range(2)])
    theirs, _ = sb3_evaluate_policy(agent, venv, n_eval_episodes=4)
    ours, _ = hierebm.evaluate_policy(agent, world(), n_eval_episodes=4)
    assert -20.0 <= theirs <= 0.0 and -20.0 <= ours <= 0.0


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", ["flat", "graph"])
def test_vector_environments_of_every_kind(kind: str, mode: AutoresetMode) -> None:
    vector = SyncVectorEnv([LineGoal for _ in range(3)], autoreset_mode=mode)
    agent = make(kind).learn(vector, 300)
    assert agent.num_timesteps >= 300
    replay = agent.replay_buffer
    rows = replay.sample_rows(500, np.random.default_rng(0))
    after = replay.later(rows, np.ones_like(rows))
    moved = replay.achieved_goal[after] - replay.achieved_goal[rows]
    expected = np.clip(replay.achieved_goal[rows] + 0.1 + 0.3 * replay.action[rows], -1, 1)
    assert np.allclose(replay.achieved_goal[rows] + moved, expected, atol=1e-5)


def test_the_flat_agent_learns_a_line() -> None:
    agent = make("flat", seed=1, train_freq=1).learn(LineGoal(), 1500)
    result = evaluate(agent, LineGoal(), 40, seed=0)
    assert result.success_rate >= 0.9
    near, far = agent.low_level.distance(
        np.array([[0.0, 0.0], [0.0, 0.0]], np.float32),
        np.zeros((2, 1), np.float32),
        np.array([[0.2], [0.9]], np.float32),
    )
    assert near < far


def test_a_plan_holds_what_a_person_wants_to_see() -> None:
    agent = trained("graph")
    observation, _ = gym.make("PointMassGoal-v0").reset(seed=0)
    plan = agent.plan(observation)
    assert plan.nodes.shape == (10, 2) and np.isfinite(plan.energies[1:-1]).all()
    assert np.array_equal(plan.nodes[0], observation["achieved_goal"])
    assert np.array_equal(plan.nodes[-1], observation["desired_goal"])
    assert len(plan.edges) == len(plan.distances)
    json.dumps(plan.to_dict())
    again = agent.plan(observation)
    assert np.array_equal(plan.nodes, again.nodes), "the same question has the same answer"


def test_the_state_of_predict_is_the_plan() -> None:
    agent = trained("graph")
    env = gym.make("PointMassGoal-v0")
    observation, _ = env.reset(seed=0)
    action, state = agent.predict(observation)
    assert env.action_space.contains(action)
    assert np.array_equal(state[0].goal, observation["desired_goal"])
    observation, *_ = env.step(action)
    _, following = agent.predict(observation, state)
    assert following[0].elapsed == 1
    _, restarted = agent.predict(observation, following, episode_start=np.array([True]))
    assert restarted[0].elapsed == 0
    batch = {key: np.stack([value, value]) for key, value in observation.items()}
    actions, states = agent.predict(batch)
    assert actions.shape == (2, 2) and len(states) == 2


def test_nan_in_the_middle_of_training_keeps_what_was_learnt(tmp_path: Path) -> None:
    env = LineGoal()
    env.break_at = (400, "observation")
    agent = make("graph")
    with pytest.raises(ValueError, match=r"'observation'.*agent\.save\(path\)"):
        agent.learn(env, 1000)
    assert agent.num_timesteps == 399 and agent.n_updates > 0
    agent.save(tmp_path / "saved.zip")
    assert same(agent, HierarchicalEBMAgent.load(tmp_path / "saved.zip"))


def test_learning_goes_on_with_a_fresh_episode_after_the_caller_used_the_environment() -> None:
    env = LineGoal()
    agent = make("flat").learn(env, 65)
    env.reset(seed=1)
    env.step(np.array([0.4], np.float32))
    agent.learn(env, 65)
    assert _is_a_line(agent.replay_buffer)


@pytest.mark.parametrize("kind", ["flat", "graph"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_learning_goes_on_with_a_fresh_episode_after_an_error(
    kind: str, stop: type[BaseException]
) -> None:
    class Stops(LineGoal):
        def step(self, action: np.ndarray) -> Any:
            outcome = super().step(action)
            if self.total_steps == 250:
                raise stop("in the middle")
            return outcome

    agent, env = make(kind), Stops()
    with pytest.raises(stop, match="in the middle"):
        agent.learn(env, 400)
    assert agent.num_timesteps == 249 and agent.n_updates > 0
    agent.learn(total_timesteps=100, reset_num_timesteps=False)
    assert agent.num_timesteps == 349
    assert _is_a_line(agent.replay_buffer)


def _is_a_line(replay: Any) -> bool:
    """Every transition in the buffer is one that ``LineGoal`` makes."""
    rows = np.flatnonzero(replay.has_action)
    after = replay.later(rows, np.ones_like(rows))
    expected = np.clip(replay.achieved_goal[rows] + 0.1 + 0.3 * replay.action[rows], -1, 1)
    return np.allclose(replay.achieved_goal[after], expected, atol=1e-5)


def test_a_dense_reward_is_refused_however_often_one_asks() -> None:
    agent, env = DDPGHERAgent(), gym.make("PointMassGoal-v0", reward_type="dense")
    for _ in range(2):
        with pytest.raises(ValueError, match='reward_type="sparse"'):
            agent.learn(env, 10)


@pytest.mark.parametrize("kind", ["flat", "graph", "sequence"])
def test_a_seed_set_later_is_the_seed_of_all_that_is_drawn(kind: str, tmp_path: Path) -> None:
    constructed, reseeded = make(kind, seed=5), make(kind, seed=1)
    reseeded.set_random_seed(5)
    for agent in (constructed, reseeded):
        agent.learn("PointMassGoal-v0", 250)
    assert same(constructed, reseeded)
    reseeded.set_random_seed(9)
    reseeded.save(tmp_path / "agent.zip")
    reseeded.save_replay_buffer(tmp_path / "replay.zip")
    loaded = type(reseeded).load(tmp_path / "agent.zip", env="PointMassGoal-v0")
    loaded.load_replay_buffer(tmp_path / "replay.zip")
    for agent in (reseeded, loaded):
        agent.learn(None, 150, reset_num_timesteps=False)
    assert same(reseeded, loaded)


def test_what_the_agent_does_not_look_at_is_not_in_its_way(tmp_path: Path) -> None:
    class Talks(LineGoal):
        def __init__(self) -> None:
            super().__init__()
            text = gym.spaces.Text(3)
            self.observation_space = gym.spaces.Dict({**self.observation_space.spaces, "say": text})

        def _observe(self) -> dict[str, Any]:
            return {**super()._observe(), "say": "abc"}

    agent = make("flat").learn(Talks(), 150)
    agent.save(tmp_path / "agent.zip")
    observation, _ = Talks().reset(seed=0)
    loaded = DDPGHERAgent.load(tmp_path / "agent.zip", env=Talks())
    assert np.array_equal(loaded.predict(observation)[0], agent.predict(observation)[0])


def test_observations_that_do_not_fit_are_named() -> None:
    agent = trained("graph")
    good, _ = gym.make("PointMassGoal-v0").reset(seed=0)
    for bad in (good["observation"], {"observation": good["observation"]}):
        with pytest.raises(ValueError, match="dict with the keys observation, achieved_goal"):
            agent.predict(bad)
    with pytest.raises(ValueError, match=r"'observation'.*\(5,\).*\(4,\)"):
        agent.predict({**good, "observation": np.zeros(5)})
    with pytest.raises(ValueError, match=r"'achieved_goal'.*one n for all keys"):
        agent.predict({**{k: v[None] for k, v in good.items()}, "achieved_goal": np.zeros((2, 2))})
    three = {key: np.stack([value] * 3) for key, value in good.items()}
    with pytest.raises(ValueError, match="one observation, not for 3"):
        agent.plan(three)
    _, state = agent.predict(good)
    with pytest.raises(ValueError, match="the state is that of 1"):
        agent.predict(three, state)
    assert agent.predict({key: value[:0] for key, value in three.items()})[0].shape == (0, 2)


def test_before_an_environment_is_set_everything_says_so(tmp_path: Path) -> None:
    agent = make("graph")
    with pytest.raises(RuntimeError, match="no replay buffer yet"):
        agent.save_replay_buffer(tmp_path / "replay.zip")
    with pytest.raises(RuntimeError, match=r"set_env\(env\), or load\(path\)"):
        agent.load_replay_buffer(tmp_path / "replay.zip")
    with pytest.raises(ValueError, match="log_interval"):
        agent.learn("PointMassGoal-v0", 10, log_interval=0)


def test_one_row_of_the_log_at_the_end(tmp_path: Path) -> None:
    agent = make("flat", tensorboard_log=tmp_path).learn(LineGoal(), 130, log_interval=None)
    agent.learn(None, 40, log_interval=None, reset_num_timesteps=False)
    rows = [json.loads(line) for line in (tmp_path / "DDPGHER_1/progress.jsonl").open()]
    assert [(row["step"], row["time/episodes"]) for row in rows] == [(130, 6), (170, 8)]


def test_misuse_is_answered_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="batch_size"):
        DDPGHERAgent(batchsize=3)
    with pytest.raises(ValueError, match="subgoal_sampler"):
        HierarchicalEBMAgent(subgoal_sampler="magic")
    with pytest.raises(ValueError, match=r"learn\(env\)"):
        DDPGHERAgent().learn()
    with pytest.raises(RuntimeError, match="learn"):
        HierarchicalEBMAgent().plan({})
    with pytest.raises(RuntimeError, match="no environment"):
        DDPGHERAgent().save(tmp_path / "x.zip")
    with pytest.raises(ValueError, match='reward_type="sparse"'):
        DDPGHERAgent().learn(gym.make("PointMassGoal-v0", reward_type="dense"), 10)
    agent = make("flat").learn("PointMassGoal-v0", 10)
    with pytest.raises(ValueError, match="observation_space"):
        agent.set_env(LineGoal())
    agent.save(tmp_path / "flat.zip")
    with pytest.raises(CheckpointError, match="DDPGHERAgent"):
        HierarchicalEBMAgent.load(tmp_path / "flat.zip")


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"learning_rate": 1e-3}, TypeError, "did you mean actor_lr, critic_lr"),
        ({"batch_size": "abc"}, TypeError, "batch_size must be a whole number, got 'abc'"),
        ({"batch_size": 0}, ValueError, "batch_size must be between 1 and 100000, got 0"),
        ({"buffer_size": 1.5}, TypeError, "buffer_size must be a whole number"),
        ({"train_freq": 0}, ValueError, r"train_freq must be between 1 and 1e\+06"),
        ({"action_noise": -1}, ValueError, "action_noise"),
        ({"action_noise": float("nan")}, TypeError, "action_noise must be a number"),
        ({"tau": 2.0}, ValueError, "tau must be between 0 and 1"),
        ({"bisection": "yes"}, TypeError, "bisection must be True or False"),
        ({"critic": 3}, TypeError, "critic must be a string"),
        ({"hidden_sizes": 64}, TypeError, "hidden_sizes must be a tuple of numbers"),
        ({"hidden_sizes": ()}, ValueError, "hidden_sizes"),
        ({"her_future": 0.8}, ValueError, "her_random"),
        ({"n_subgoals": 0}, ValueError, "n_subgoals must be between 1 and 2000"),
        ({"direct_episodes": 3}, ValueError, "direct_episodes must be between 0 and 1"),
        ({"sequence": 3}, TypeError, "SequenceConfig"),
        ({"sequence": {"chain": 3}}, TypeError, "did you mean chains"),
        ({"sequence": {"chains": "many"}}, TypeError, "chains must be a whole number"),
    ],
)
def test_settings_are_checked_before_anything_is_learnt(
    setting: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        HierarchicalEBMAgent(**setting)


def test_settings_as_people_write_them() -> None:
    config = HierarchicalEBMAgent(buffer_size=1e5, batch_size=np.int64(64), tau=1).config
    assert (config.buffer_size, config.batch_size, config.tau) == (100_000, 64, 1)
    assert type(config.buffer_size) is type(config.batch_size) is int
    assert HierarchicalEBMAgent(hidden_sizes=[32, 32]).config.hidden_sizes == (32, 32)


def test_the_order_of_arguments_of_other_libraries_is_answered_with_ours() -> None:
    with pytest.raises(TypeError, match=r"learn\(env, 300\)"):
        DDPGHERAgent().learn(300)  # type: ignore[arg-type]
    for first in ("PointMassGoal-v0", LineGoal()):
        with pytest.raises(TypeError, match=r"config must be a DDPGHERConfig.*env="):
            DDPGHERAgent(first)


def test_a_verbose_agent_says_how_many_threads_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        make("flat", verbose=1).set_env(LineGoal())
        assert "torch uses 1 thread instead of 2" in capsys.readouterr().out
        torch.set_num_threads(2)
        make("flat").set_env(LineGoal())
        assert capsys.readouterr().out == ""
    finally:
        torch.set_num_threads(before)


def test_learn_stops_when_a_callback_says_so_and_logs_the_documented_keys(tmp_path: Path) -> None:
    agent = make("graph", tensorboard_log=tmp_path)
    agent.learn(
        "PointMassGoal-v0", 5000, callback=lambda locals_, globals_: agent.num_timesteps < 700
    )
    assert agent.num_timesteps == 700
    rows = [json.loads(line) for line in (tmp_path / "HierarchicalEBM_1/progress.jsonl").open()]
    keys = {key for row in rows for key in row}
    assert keys >= {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/success_rate",
        "time/fps",
        "time/total_timesteps",
        "train/actor_loss",
        "train/critic_loss",
        "energy/loss",
        "graph/nodes",
        "graph/edges",
        "graph/path_found_rate",
        "graph/plan_ms",
    }
    events = EventAccumulator(str(tmp_path / "HierarchicalEBM_1"), {"images": 0})
    events.Reload()
    images = {"plan/path_0", "plan/energy_0", "rollout/success_over_time"}
    assert images <= set(events.Tags()["images"])
    assert "rollout/success_rate" in events.Tags()["scalars"]


def test_environments_made_from_an_id_are_kept_or_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    still_open: list[LineGoal] = []

    class Counted(LineGoal):
        def __init__(self) -> None:
            super().__init__()
            still_open.append(self)

        def close(self) -> None:
            still_open.remove(self)

    ids = ("CountedLine-v0", "CountedLine-v1")
    for name in ids:
        monkeypatch.setitem(gym.registry, name, gym.envs.registration.EnvSpec(name, Counted))
    agent = make("flat")
    for _ in range(3):
        agent.learn(ids[0], 30, reset_num_timesteps=False)
    (kept,) = still_open
    assert agent.num_timesteps == 90 and agent.get_env().unwrapped is kept
    agent.learn(ids[1], 30)
    assert len(still_open) == 1 and still_open[0] is not kept
    own = Counted()
    agent.set_env(own)
    assert still_open == [own]
    agent.set_env(ids[0])
    assert own in still_open, "what the user made, the user closes"
