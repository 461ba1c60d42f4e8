"""Agents are evaluated while they learn, and learn the same for it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import hierebm
from hierebm.callbacks import (
    CheckpointCallback,
    EvalCallback,
    PlanFigureCallback,
    StopTrainingOnSuccess,
)
from hierebm.checkpoint.format import load_checkpoint
from hierebm.logging.logger import JSONLinesOutput, Logger
from hierebm.plotting.plots import read_progress
from tests.callbacks.agent import Agent
from tests.toys import LineGoal


def eval_env(kind):
    if kind == "id":
        return "PointMassGoal-v0"
    if kind == "env":
        return gym.make("PointMassGoal-v0")
    return gym.make_vec("PointMassGoal-v0", num_envs=3, vectorization_mode="vector_entry_point")


@pytest.mark.parametrize("kind", ["id", "env", "vector"])
def test_evaluation_logs_writes_and_keeps_the_best(tmp_path, kind):
    best, after = [], []
    callback = EvalCallback(
        eval_env(kind),
        callback_on_new_best=lambda locals_, globals_: best.append(1),
        callback_after_eval=lambda locals_, globals_: after.append(1),
        n_eval_episodes=4,
        eval_freq=2,
        log_path=tmp_path / "log",
        best_model_save_path=tmp_path / "best",
        verbose=0,
        seed=0,
    )
    agent = Agent()
    agent.logger = Logger(None, [JSONLinesOutput(tmp_path / "p.jsonl")])

    def lose_skill(locals_, globals_):
        agent.skill = 0.0 if agent.num_timesteps == 4 else agent.skill

    agent.learn(6, [callback, lose_skill])
    assert len(after) == 3 and len(best) == 1
    assert agent.saved == ["best_model.zip"]
    assert callback.best_mean_reward > callback.last_mean_reward == -100
    assert callback.last_success_rate == 0.0
    with np.load(tmp_path / "log" / "evaluations.npz") as log:
        assert log["timesteps"].tolist() == [2, 4, 6]
        assert log["results"].shape == log["ep_lengths"].shape == (3, 4)
        # The same tasks each time.
        assert log["results"][0].tolist() == log["results"][1].tolist()
        assert log["successes"].mean(1).tolist() == [1, 1, 0]
        assert log["ever_reached"].tolist() == log["successes"].tolist()
    assert agent.logger.latest["eval/success_rate"] == 0
    assert agent.logger.latest["eval/mean_ep_length"] == 100
    assert (tmp_path / "p.jsonl").read_text().count("eval/mean_reward") == 3


def test_both_rates_are_logged_and_the_terminal_shows_the_second_where_it_differs():
    def shown(**env_kwargs):
        keys = set()

        class Table(JSONLinesOutput):
            name = "stdout"

            def write(self, values, step):
                keys.update(values)

        agent = Agent()
        agent.logger = Logger(None, [Table("unused")])
        callback = EvalCallback(
            "PointMassGoal-v0",
            n_eval_episodes=5,
            eval_freq=1,
            verbose=0,
            seed=0,
            env_kwargs=env_kwargs,
            options={"start": (-1.0, 0.0), "goal": (0.0, 0.0)},
        )

        def fly_past(observation, state=None, episode_start=None, deterministic=True):
            action = np.tile(np.array([1, 0], np.float32), (len(observation["observation"]), 1))
            return action, state

        agent.predict = fly_past
        agent.learn(1, callback)
        latest = agent.logger.latest
        rates = latest["eval/success_rate"], latest["eval/reached_rate"]
        return rates, "eval/reached_rate" in keys

    assert shown() == ((1.0, 1.0), False)
    assert shown(continuing_task=True) == ((0.0, 1.0), True)


def test_evaluation_without_seed_repeats_between_runs_but_not_within_one():
    def goals():
        callback = EvalCallback("PointMassGoal-v0", n_eval_episodes=3, eval_freq=1, verbose=0)
        Agent().learn(2, callback)
        return [[e.goal.tolist() for e in r.episodes] for _, r in callback.evaluations]

    first, again = goals(), goals()
    assert first == again
    assert first[0] != first[1]


def test_evaluation_on_the_training_env_is_refused():
    agent = Agent()
    with pytest.raises(ValueError, match="eval_env"):
        agent.learn(2, EvalCallback(agent.env))
    with pytest.raises(ValueError, match="eval_env"):
        agent.learn(2, EvalCallback(gym.wrappers.TransformReward(agent.env, lambda r: r)))


def test_what_cannot_be_evaluated_is_refused_before_training():
    with pytest.raises(ValueError, match="n_eval_episodes must be at least 1"):
        EvalCallback("PointMassGoal-v0", n_eval_episodes=0)
    with pytest.raises(TypeError, match="eval_env must be"):
        EvalCallback(3)
    with pytest.raises(TypeError, match="Dict"):
        Agent().learn(2, EvalCallback("CartPole-v1"))
    with pytest.raises(ValueError, match="its obs_dim is 2, that of the training env is 4"):
        Agent().learn(2, EvalCallback(LineGoal()))
    # Another map has other bounds; the agent can act there all the same.
    Agent().learn(2, EvalCallback("PointMassGoal-v0", verbose=0, env_kwargs={"layout": "u"}))


def test_a_verbose_callback_prints_though_the_agent_is_silent(tmp_path, capsys):
    evaluation = EvalCallback(
        "PointMassGoal-v0", callback_after_eval=StopTrainingOnSuccess(0.1, verbose=1), eval_freq=2
    )
    Agent().learn(9, [evaluation, CheckpointCallback(1, tmp_path, verbose=2)])
    printed = capsys.readouterr().out
    assert "Evaluation after 2 steps: success" in printed
    assert "Stopping after 2 steps" in printed
    assert str(tmp_path / "rl_model_1_steps.zip") in printed


def test_eval_options_reach_the_env():
    callback = EvalCallback(
        "PointMassGoal-v0",
        n_eval_episodes=5,
        eval_freq=1,
        verbose=0,
        options={"distance": (2.0, 2.5)},
    )
    Agent().learn(1, callback)
    for episode in callback.evaluations[0][1].episodes:
        assert 2.0 - 1e-3 <= np.linalg.norm(episode.goal - episode.start) <= 2.5 + 1e-3


@pytest.mark.parametrize("beside", [True, False])
def test_stop_on_success(beside):
    stop = StopTrainingOnSuccess(0.9)
    evaluation = EvalCallback(
        "PointMassGoal-v0",
        callback_after_eval=None if beside else stop,
        n_eval_episodes=3,
        eval_freq=3,
        verbose=0,
    )
    callbacks = [evaluation, stop] if beside else evaluation
    assert Agent(skill=0.0).learn(9, callbacks).num_timesteps == 9
    assert Agent(skill=1.0).learn(9, callbacks).num_timesteps == 3


def test_stop_on_success_of_the_rollouts():
    def log(locals_, globals_):
        agent = locals_["self"]
        agent.logger.record("rollout/success_rate", agent.num_timesteps / 10)
        agent.logger.dump(agent.num_timesteps)

    stop = StopTrainingOnSuccess(0.5, key="rollout/success_rate")
    assert Agent().learn(9, [log, stop]).num_timesteps == 5
    with pytest.raises(ValueError, match="success_threshold"):
        StopTrainingOnSuccess(90)


def test_watching_a_real_agent_does_not_change_what_it_learns(tmp_path):
    """Evaluations, pictures and logs in the middle of a run leave every weight as it would be."""
    torch = pytest.importorskip("torch")

    def weights(**watch):
        agent = hierebm.HierarchicalEBMAgent(
            seed=3,
            tensorboard_log=watch.get("log"),
            hidden_sizes=(32, 32),
            batch_size=16,
            learning_starts=120,
            train_freq=10,
            n_subgoals=8,
            energy_train_freq=60,
            energy_gradient_steps=2,
            pool_size=100,
        )
        agent.learn(gym.make("PointMassGoal-v0"), 260, callback=watch.get("callback"))
        agent.save(tmp_path / "agent")
        return load_checkpoint(tmp_path / "agent")

    alone = weights()
    evaluation = EvalCallback("PointMassGoal-v0", n_eval_episodes=2, eval_freq=100, verbose=0)
    pictures = PlanFigureCallback(freq=100, n_plans=1)
    watched = weights(log=tmp_path / "runs", callback=[evaluation, pictures])
    assert len(evaluation.evaluations) == 2

    def equal(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    assert equal(alone.tensors, watched.tensors)
    assert alone.meta == watched.meta
    run = tmp_path / "runs" / "HierarchicalEBM_1"
    assert read_progress(run, "eval/success_rate")[0] == [100, 200]
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = events.EventAccumulator(str(run))
    reader.Reload()
    assert {"plan/path_0", "plan/energy_0"} <= set(reader.Tags()["images"])
