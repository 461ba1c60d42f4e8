"""What users of Stable-Baselines3 bring along: vector environments, callbacks, loggers, habits."""

from __future__ import annotations

import csv
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.callbacks import BaseCallback, EvalCallback
from hierebm.evaluation import evaluate

pytest.importorskip("stable_baselines3")
from stable_baselines3.common import callbacks as sb3_callbacks
from stable_baselines3.common import logger as sb3_logger
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy as sb3_evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

WORLD = "PointMassGoal-v0"
TINY = {"seed": 0, "hidden_sizes": (8, 8), "batch_size": 8, "learning_starts": 60, "train_freq": 8}


def make():
    return gym.make(WORLD, time_limit=15)


def replay_of(agent):
    buffer = agent.replay_buffer
    return {name: getattr(buffer, name) for name in ("observation", "achieved_goal", "action")}


# ------------------------------------------------------------------ vector environments


def test_a_dummy_vec_env_is_learned_in_as_gymnasiums_own_vector():
    given = DummyVecEnv([make, make])
    agents = [
        DDPGHERAgent(**TINY).learn(env, 240)
        for env in (
            given, SyncVectorEnv([make, make], autoreset_mode=AutoresetMode.SAME_STEP),
        )
    ]  # fmt: skip
    assert agents[0].get_env() is given and agents[0].n_envs == 2
    theirs, ours = (agent.get_parameters()["low_level"]["actor"] for agent in agents)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert agents[0].episodes.means() == agents[1].episodes.means()
    assert agents[0].num_episodes >= 14


def test_make_vec_env_and_monitors_are_taken(tmp_path):
    env = make_vec_env(WORLD, 3, seed=1, monitor_dir=str(tmp_path))
    agent = HierarchicalEBMAgent(**TINY, tensorboard_log=tmp_path / "runs").learn(env, 30)
    agent.save(tmp_path / "agent.zip")
    loaded = HierarchicalEBMAgent.load(tmp_path / "agent.zip", env=make_vec_env(WORLD, 3))
    assert loaded.learn(total_timesteps=30, reset_num_timesteps=False).num_timesteps == 60
    assert (tmp_path / "0.monitor.csv").exists()


def test_truncation_is_no_termination():
    """Reaching the time limit says nothing of the goal; `dones` of these environments hide it."""
    ends = []

    class Ends(BaseCallback):
        def _on_step(self):
            step = self.locals["step"]
            ends.extend(zip(step.terminated[step.ended], step.truncated[step.ended], strict=True))

    DDPGHERAgent(**TINY).learn(DummyVecEnv([make, make]), 150, callback=Ends())
    assert len(ends) >= 8 and all(terminated != truncated for terminated, truncated in ends)
    assert sum(truncated for _, truncated in ends) >= 6


def test_behind_vec_normalize_the_true_observations_are_learned_from(tmp_path):
    plain = DDPGHERAgent(**TINY).learn(DummyVecEnv([make, make]), 240)
    normalized = VecNormalize(DummyVecEnv([make, make]))
    agent = DDPGHERAgent(**TINY).learn(normalized, 240)
    for name, values in replay_of(plain).items():
        np.testing.assert_allclose(replay_of(agent)[name], values, atol=1e-4, err_msg=name)
    assert agent.episodes.means()["rollout/ep_rew_mean"] <= -9, "rewards before scaling, too"
    assert agent.get_vec_normalize_env() is normalized

    # Predicting takes what the environment gives, evaluation what any environment gives.
    observation = make_vec_env(WORLD, 2, seed=5).reset()
    scaled = normalized.normalize_obs(observation)
    np.testing.assert_allclose(
        agent.predict(scaled)[0], plain.predict(observation)[0], atol=0.02
    )  # fmt: skip
    assert not np.allclose(scaled["observation"], observation["observation"], atol=0.05)
    results = [
        evaluate(policy, env, 6, seed=3)
        for policy, env in ((plain, make()), (agent, make()))
    ]  # fmt: skip
    starts = [[e.start.tolist() for e in result.episodes] for result in results]
    assert starts[0] == starts[1]
    normalized.training = False
    assert sb3_evaluate_policy(agent, normalized, 4)[0] <= 0


def test_vec_normalize_inside_of_a_wrapper_is_refused():
    env = VecMonitor(VecNormalize(DummyVecEnv([make])))
    with pytest.raises(ValueError, match="VecNormalize is inside of another wrapper"):
        DDPGHERAgent(**TINY).learn(env, 10)


def test_what_no_agent_can_learn_from_is_said():
    class NoReward(gym.Wrapper):
        def get_wrapper_attr(self, name):
            if name == "compute_reward":
                raise AttributeError(name)
            return super().get_wrapper_attr(name)

        def has_wrapper_attr(self, name):
            return name != "compute_reward" and super().has_wrapper_attr(name)

    with pytest.raises(ValueError, match="no compute_reward"):
        DDPGHERAgent(**TINY).learn(DummyVecEnv([lambda: NoReward(make())]), 10)
    with pytest.raises(TypeError, match="VecEnv of Stable-Baselines3, got int"):
        DDPGHERAgent(**TINY).set_env(3)


# ------------------------------------------------------------------------- callbacks


class Asks:
    """Looks at what callbacks of Stable-Baselines3 look at."""

    def _on_training_start(self):
        env = self.training_env
        self.seen = {"num_envs": env.num_envs, "limits": env.get_attr("time_limit")}
        assert env.has_attr("compute_reward") and not env.has_attr("nonsense")
        goal = np.zeros(2, np.float32)
        self.seen["rewards"] = [float(r) for r in env.env_method("compute_reward", goal, goal, {})]
        assert self.model.get_env().num_envs == env.num_envs
        assert isinstance(self.model, DDPGHERAgent)
        assert self.model.policy.action_space == self.model.action_space
        assert sum(p.numel() for p in self.model.policy.parameters()) > 100
        self.model.policy.set_training_mode(False)

    def _on_step(self):
        self.model.noted = len(self.model.ep_info_buffer)
        return True


class AsksTheirs(Asks, sb3_callbacks.BaseCallback):
    pass


class AsksOurs(Asks, BaseCallback):
    pass


ENVS = {
    "single": (make, 1),
    "sync": (lambda: SyncVectorEnv([make] * 2), 2),
    "native": (
        lambda: gym.make_vec(WORLD, 2, "vector_entry_point", time_limit=15), 2
    ),
    "dummy": (lambda: DummyVecEnv([make] * 2), 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENVS)
@pytest.mark.parametrize("callback_class", [AsksTheirs, AsksOurs])
def test_callbacks_find_what_they_ask_for(kind, callback_class):
    env, n = ENVS[kind][0](), ENVS[kind][1]
    callback = callback_class()
    agent = DDPGHERAgent(**TINY).learn(env, 100, callback=[callback])
    assert callback.seen["num_envs"] == n and callback.seen["limits"] == [15] * n
    assert len(set(callback.seen["rewards"])) == 1
    assert agent.noted == len(agent.ep_info_buffer) == len(agent.ep_success_buffer) > 0
    assert all(info.keys() == {"r", "l"} and info["l"] <= 15 for info in agent.ep_info_buffer)


@pytest.mark.parametrize("kind", ["single", "sync", "native"])
def test_the_env_of_an_agent_passes_for_the_one_that_was_given(kind):
    given = ENVS[kind][0]()
    agent = DDPGHERAgent(**TINY, env=given)
    env = agent.get_env()
    assert env == given == env and hash(env) == hash(given) and env != make()
    assert isinstance(env, type(given)) and env.unwrapped is given.unwrapped
    # Wherever an environment is taken, it is the one that was given, and no view of a view.
    other = DDPGHERAgent(**TINY).learn(env, 40)
    assert other.env.given is given and env == other.get_env()
    assert pickle.loads(pickle.dumps(env)).num_envs == ENVS[kind][1]
    with pytest.raises(ValueError, match="is the env that the agent learns in"):
        other.learn(total_timesteps=40, callback=EvalCallback(env))
    if kind == "single":
        assert sb3_evaluate_policy(other, env, 1, warn=False)[0] <= 0


@pytest.mark.parametrize("training", [make, lambda: make_vec_env(WORLD, 2)])
def test_their_eval_callback_runs_without_a_warning(training, tmp_path):
    evaluation = sb3_callbacks.EvalCallback(
        Monitor(make()), n_eval_episodes=2, eval_freq=40, best_model_save_path=str(tmp_path),
        callback_after_eval=sb3_callbacks.StopTrainingOnNoModelImprovement(1, min_evals=1),
        verbose=0,
    )  # fmt: skip
    episodes = sb3_callbacks.StopTrainingOnMaxEpisodes(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = DDPGHERAgent(**TINY).learn(
            training(), 200, callback=sb3_callbacks.CallbackList([evaluation, episodes])
        )
    assert evaluation.n_calls >= 40 and (tmp_path / "best_model.zip").exists()
    assert agent.logger.latest["eval/mean_reward"] <= 0


def test_our_eval_callback_takes_their_environments():
    evaluation = EvalCallback(make_vec_env(WORLD, 2), n_eval_episodes=3, eval_freq=50, verbose=0)
    env = make_vec_env(WORLD, 2)
    DDPGHERAgent(**TINY).learn(env, 100, callback=evaluation)
    assert [step for step, _ in evaluation.evaluations] == [100]
    with pytest.raises(ValueError, match="is the env that the agent learns in"):
        DDPGHERAgent(**TINY).learn(env, 10, callback=EvalCallback(env))


# ----------------------------------------------------------------- loggers, parameters


def test_their_logger_gets_the_rows(tmp_path):
    agent = DDPGHERAgent(**TINY, env=make())
    agent.set_logger(sb3_logger.configure(str(tmp_path), ["csv", "tensorboard"]))
    agent.learn(total_timesteps=150, log_interval=2)
    with open(tmp_path / "progress.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(float(row["time/total_timesteps"])) for row in rows if row["time/total_timesteps"]]
    assert steps[-1] == 150 and len(steps) >= 4
    assert "run" not in rows[0], "pages of text do not go into tables"
    assert list(tmp_path.glob("events*")) and (tmp_path / "run.json").exists()
    with pytest.raises(TypeError, match="a logger comes from"):
        agent.set_logger("runs")


def test_parameters_are_copies_that_can_be_given_back(tmp_path):
    agent = DDPGHERAgent(**TINY, env=make())
    before = agent.get_parameters()
    agent.learn(total_timesteps=100)
    agent.save(tmp_path / "agent.zip")
    trained = agent.get_parameters()["low_level"]["actor"]
    assert any(not torch.equal(trained[k], v) for k, v in before["low_level"]["actor"].items())
    agent.set_parameters(before)
    now = agent.get_parameters()["low_level"]["actor"]
    assert all(torch.equal(now[k], v) for k, v in before["low_level"]["actor"].items())
    agent.set_parameters(tmp_path / "agent.zip")
    now = agent.policy.state_dict()["low_level"]["actor"]
    assert all(torch.equal(now[k], trained[k]) for k in trained)

    with pytest.raises(ValueError, match="unknown parameters 'actor'"):
        agent.set_parameters({"actor": {}})
    with pytest.raises(ValueError, match="lack 'low_level'"):
        agent.set_parameters({})
    agent.set_parameters({}, exact_match=False)
    other = DDPGHERAgent(**{**TINY, "hidden_sizes": (16, 16)}, env=make())
    with pytest.raises(ValueError, match="of other networks"):
        other.set_parameters(before)
    with pytest.raises(RuntimeError, match="no networks yet"):
        DDPGHERAgent().get_parameters()


# -------------------------------------------------------------------------- habits


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: DDPGHERAgent("MultiInputPolicy", make()), r"Write DDPGHERAgent\(env=env\)"),
        (lambda: HierarchicalEBMAgent("MultiInputPolicy", env=WORLD), "no policy is named here"),
        (lambda: DDPGHERAgent(policy="MultiInputPolicy"), "hidden_sizes"),
        (lambda: DDPGHERAgent(policy_kwargs={"net_arch": [64]}), "hidden_sizes"),
        (lambda: DDPGHERAgent(gamma=0.95), "counted in steps; did you mean max_distance"),
        (lambda: DDPGHERAgent(replay_buffer_class=dict), "built in; did you mean her_future"),
        (lambda: DDPGHERAgent(make()), "an environment goes to learn"),
        (lambda: DDPGHERAgent(env=make()).learn(1000), r"learn\(env, 1000\)"),
        (lambda: DDPGHERAgent(env=make()).learn(np.int64(9)), r"total_timesteps="),
    ],
)
def test_old_habits_get_the_sentence_that_helps(call, says):
    with pytest.raises(TypeError, match=says):
        call()
