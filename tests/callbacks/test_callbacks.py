from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

import hierebm
from hierebm.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EventCallback,
    EveryNTimesteps,
    PlanFigureCallback,
    ProgressBarCallback,
    StopTrainingOnSuccess,
    make_callback,
)
from hierebm.checkpoint.format import load_checkpoint
from hierebm.logging.logger import JSONLinesOutput, Logger, TableOutput
from hierebm.planning.graph.plan import Plan
from hierebm.plotting.plots import read_progress
from tests.toys import LineGoal


class Agent:
    """The part of an agent that callbacks see; its policy steers to goals on its left only."""

    def __init__(self, env=None, n_envs=1, skill=1.0):
        self.env = gym.make("PointMassGoal-v0") if env is None else env
        self.n_envs, self.skill = n_envs, skill
        self.num_timesteps, self.seed = 0, 7
        self.logger = Logger()
        self.saved: list[str] = []

    def get_env(self):
        return self.env

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        offset = observation["desired_goal"] - observation["achieved_goal"]
        velocity = observation["observation"][..., 2:]
        action = np.clip(4 * offset - 6 * velocity, -1, 1) * self.skill
        return action.astype(np.float32), state

    def save(self, path):
        self.saved.append(Path(path).name)
        Path(path).write_text("model")

    def save_replay_buffer(self, path):
        self.saved.append(path.name)
        path.write_text("buffer")

    def learn(self, total_timesteps, callback=None, progress_bar=False):
        """The order of calls that an agent promises."""
        callback = make_callback(callback, progress_bar)
        callback.init_callback(self)
        callback.on_training_start({"total_timesteps": total_timesteps, "self": self}, globals())
        try:
            callback.on_rollout_start()
            while self.num_timesteps < total_timesteps:
                self.num_timesteps += self.n_envs
                callback.update_locals({"rewards": np.full(self.n_envs, -1.0)})
                if not callback.on_step():
                    break
                callback.on_rollout_end()
                callback.on_rollout_start()
            callback.on_rollout_end()
        finally:
            callback.on_training_end()
        return self


class Recorder(BaseCallback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.calls: list[str] = []
        self.stop_at = stop_at

    def _init_callback(self):
        self.calls.append("init")

    def _on_training_start(self):
        self.calls.append("training_start")
        assert self.locals["total_timesteps"] == 4
        assert self.training_env is self.model.env

    def _on_rollout_start(self):
        self.calls.append("rollout_start")

    def _on_step(self):
        self.calls.append("step")
        self.logger.record("user/n_calls", self.n_calls)
        np.testing.assert_array_equal(self.locals["rewards"], [-1, -1])
        assert self.num_timesteps == 2 * self.n_calls
        return self.num_timesteps != self.stop_at

    def _on_rollout_end(self):
        self.calls.append("rollout_end")

    def _on_training_end(self):
        self.calls.append("training_end")


COLLECT = ["rollout_start", "step", "rollout_end"]
EXPECTED = ["init", "training_start", *COLLECT, *COLLECT]
EXPECTED += ["rollout_start", "rollout_end", "training_end"]


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: CallbackList([c])])
def test_hooks_come_in_order(wrap):
    callback = Recorder()
    agent = Agent(n_envs=2).learn(4, wrap(callback))
    assert callback.calls == EXPECTED
    assert agent.logger.name_to_value == {"user/n_calls": 2}


def test_any_callback_may_stop_and_all_get_their_turn():
    first, second = Recorder(stop_at=2), Recorder()
    agent = Agent(n_envs=2).learn(4, [first, second])
    assert agent.num_timesteps == 2
    assert first.calls.count("step") == second.calls.count("step") == 1
    assert second.calls[-1] == "training_end"


def test_training_end_is_called_after_an_error():
    class Fails(Recorder):
        def _on_step(self):
            raise KeyError("boom")

    callback = Fails()
    with pytest.raises(KeyError):
        Agent(n_envs=2).learn(4, callback)
    assert callback.calls[-1] == "training_end"


def test_plain_functions():
    seen = []

    def stop_at_three(locals_, globals_):
        assert locals_["self"].num_timesteps == len(seen) + 1
        assert "Agent" in globals_
        seen.append(locals_["rewards"][0])
        return len(seen) < 3

    assert Agent().learn(10, stop_at_three).num_timesteps == 3
    assert Agent().learn(5, lambda locals_, globals_: None).num_timesteps == 5
    assert (
        Agent()
        .learn(5, [lambda locals_, globals_: True, [lambda locals_, globals_: False]])
        .num_timesteps
        == 1
    )
    assert Agent().learn(5, None).num_timesteps == 5
    assert Agent().learn(5, ConvertCallback(None)).num_timesteps == 5


def test_callback_without_return_goes_on():
    class Silent(BaseCallback):
        def _on_step(self):
            pass

    assert Agent().learn(5, Silent()).num_timesteps == 5


@pytest.mark.parametrize(
    ("bad", "message"), [(3, "got int"), ([3], "got int"), (Recorder, "pass an instance")]
)
def test_what_is_no_callback_is_refused(bad, message):
    with pytest.raises(TypeError, match=message):
        make_callback(bad)


def test_incomplete_subclass_is_refused():
    class Incomplete(BaseCallback):
        pass

    with pytest.raises(TypeError, match="_on_step"):
        Incomplete()


def test_callbacks_written_for_stable_baselines3_run(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3.common.callbacks")

    class Theirs(sb3.BaseCallback):
        def _on_step(self) -> bool:
            self.logger.record("user/theirs", self.num_timesteps)
            return self.num_timesteps < 6

    agent = Agent().learn(
        10, [Theirs(), sb3.CheckpointCallback(3, str(tmp_path), name_prefix="sb3")]
    )
    assert agent.num_timesteps == 6
    assert agent.logger.name_to_value == {"user/theirs": 6}


def test_our_callback_classes_have_the_hooks_of_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3.common.callbacks")
    for name in ("BaseCallback", "EventCallback", "CallbackList", "ConvertCallback"):
        theirs, ours = getattr(sb3, name), globals()[name]
        assert {n for n in vars(theirs) if "on_" in n} <= set(dir(ours))


def test_every_n_timesteps_counts_env_steps():
    steps = []
    inner = ConvertCallback(lambda locals_, globals_: steps.append(locals_["self"].num_timesteps))
    Agent(n_envs=3).learn(30, EveryNTimesteps(7, inner))
    assert steps == [9, 18, 27]


def test_event_callback_passes_everything_to_its_child():
    child = Recorder()

    class Always(EventCallback):
        def _on_step(self):
            return self._on_event()

    Agent(n_envs=2).learn(4, Always(child))
    assert [c for c in child.calls if "rollout" not in c] == [
        "init",
        "training_start",
        "step",
        "step",
        "training_end",
    ]
    assert child.parent is not None


def test_checkpoints(tmp_path):
    callback = CheckpointCallback(2, tmp_path / "a" / "b", "agent", save_replay_buffer=True)
    Agent(n_envs=5).learn(20, callback)
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == [
        "agent_10_steps.zip",
        "agent_20_steps.zip",
        "agent_replay_buffer_10_steps.zip",
        "agent_replay_buffer_20_steps.zip",
    ]
    with pytest.raises(ValueError, match="save_freq"):
        CheckpointCallback(0, tmp_path)


def test_full_disk_costs_the_checkpoint_not_the_training(tmp_path):
    class FullDisk(Agent):
        def save(self, path):
            raise OSError(28, "No space left on device")

    with pytest.warns(RuntimeWarning, match="No space left"):
        agent = FullDisk().learn(4, CheckpointCallback(2, tmp_path))
    assert agent.num_timesteps == 4
    with pytest.warns(RuntimeWarning, match="best_model"):
        evaluation = EvalCallback("PointMassGoal-v0", eval_freq=2, n_eval_episodes=1, verbose=0)
        evaluation.best_model_save_path = tmp_path
        agent = FullDisk().learn(4, evaluation)
    assert agent.num_timesteps == 4


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
    assert agent.logger.latest["eval/success_rate"] == 0
    assert agent.logger.latest["eval/mean_ep_length"] == 100
    assert (tmp_path / "p.jsonl").read_text().count("eval/mean_reward") == 3


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


def test_progress_bar_counts_env_steps_and_closes(capfd):
    callback = ProgressBarCallback()
    agent = Agent(n_envs=4)
    agent.num_timesteps = 8
    totals = []

    def note(locals_, globals_):
        totals.append((callback._bar.n, callback._bar.total))

    agent.learn(20, [callback, note])
    assert totals == [(4, 12), (8, 12), (12, 12)]
    assert callback._bar is None
    assert "12/12" in capfd.readouterr().err
    Agent().learn(3, progress_bar=True)
    assert "3/3" in capfd.readouterr().err


class PlanningAgent(Agent):
    ready_at = 4
    energy = SimpleNamespace(energy=lambda points, start, goal: np.sum(points**2, axis=1))

    def plan(self, observation):
        if self.num_timesteps < self.ready_at:
            raise RuntimeError("the agent cannot plan yet")
        s, g = observation["achieved_goal"], observation["desired_goal"]
        nodes = np.stack([s, (s + g) / 2, g])
        edges = np.array([[0, 1], [1, 2]])
        energies = np.array([np.nan, 0.0, np.nan], np.float32)
        return Plan(nodes, edges, np.ones(2, np.float32), [0, 1, 2], energies)


def test_plan_figures_are_drawn_for_fixed_tasks():
    agent = PlanningAgent()
    drawn = []
    agent.logger.record_figure = lambda key, figure: drawn.append((agent.num_timesteps, key))
    agent.learn(8, PlanFigureCallback(freq=2, n_plans=2, options={"distance": (1.0, 2.0)}))
    keys = ["plan/path_0", "plan/energy_0", "plan/path_1", "plan/energy_1"]
    # Not before the agent can plan, every two steps then, and once more at the end.
    assert drawn == [(step, key) for step in (4, 6, 8, 8) for key in keys]


def test_plan_figures_that_never_come_are_explained_once(capsys):
    class Never(PlanningAgent):
        ready_at = 10**9

    agent = Never()
    agent.logger = Logger(None, [TableOutput()])
    agent.learn(8, PlanFigureCallback(freq=2))
    assert capsys.readouterr().out.count("cannot plan yet") == 1

    class Broken(PlanningAgent):
        def plan(self, observation):
            raise ZeroDivisionError("broken")

    with pytest.warns(RuntimeWarning, match="broken") as caught:
        assert Broken().learn(8, PlanFigureCallback(freq=2)).num_timesteps == 8
    assert len(caught) == 1


def test_plan_figures_leave_the_training_env_alone():
    agent = PlanningAgent()
    agent.env.reset(seed=0, options={"start": (0.0, 0.0), "goal": (1.5, 1.5)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(4, PlanFigureCallback(freq=100))
    observation, *_ = agent.env.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(observation["desired_goal"], [1.5, 1.5])


@pytest.mark.parametrize("vectorization", ["vector_entry_point", "sync"])
def test_plan_figures_copy_what_a_vector_env_is_made_of(vectorization):
    env = gym.make_vec("PointMassGoal-v0", 3, vectorization, layout="u")
    agent, callback = PlanningAgent(env), PlanFigureCallback(freq=2, n_plans=1)
    drawn = []
    agent.logger.record_figure = lambda key, figure: drawn.append(key)
    agent.learn(8, callback)
    assert "plan/path_0" in drawn
    assert callback.walls is not None


def test_a_training_env_that_cannot_be_copied_costs_the_pictures_not_the_training():
    class NotRecorded(gym.Wrapper):
        pass

    agent = PlanningAgent(NotRecorded(gym.make("PointMassGoal-v0")))
    with pytest.warns(
        RuntimeWarning, match=r"cannot be copied.*PlanFigureCallback\(env="
    ) as caught:
        assert agent.learn(8, PlanFigureCallback(freq=2)).num_timesteps == 8
    assert len(caught) == 1
    with pytest.raises(gym.error.Error, match="NoSuch"):
        agent.learn(8, PlanFigureCallback(freq=2, env="NoSuch-v0"))


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
            candidates=50,
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
