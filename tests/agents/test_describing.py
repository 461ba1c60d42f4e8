"""A run's folder describes itself: settings, environment, seed, clock, versions."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import hierebm
from hierebm import DDPGHERAgent

TINY = {"hidden_sizes": (8, 8), "batch_size": 8, "learning_starts": 50}


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    env = gym.make("PointMassGoal-v0", layout="u")
    agent = DDPGHERAgent(seed=3, tensorboard_log=folder, **TINY).learn(env, 300, log_interval=1)
    return agent, folder / "DDPGHER_1"


def test_the_folder_says_how_to_run_it_again(run):
    agent, folder = run
    described = json.loads((folder / "run.json").read_text())
    assert described["agent"] == "DDPGHERAgent"
    assert (described["env"], described["env_args"]) == ("PointMassGoal-v0", {"layout": "u"})
    assert (described["seed"], described["n_envs"], described["total_timesteps"]) == (3, 1, 300)
    assert described["settings"] == json.loads(json.dumps(agent.config.to_dict()))
    assert described["clock"] == {"action_repeat": agent.action_repeat}
    assert described["versions"]["hierebm"] == hierebm.__version__
    assert {"python", "torch", "gymnasium", "numpy"} <= set(described["versions"])


def test_tensorboard_shows_the_same_and_the_hyperparameters(run):
    _, folder = run
    events = read_events(folder)
    texts = [
        json.loads(text.tensor_proto.string_val[0]) for text in events.Tensors("run/text_summary")
    ]
    assert texts[-1] == json.loads((folder / "run.json").read_text())
    assert texts[0]["clock"] == {"action_repeat": None}, "not known when the run began"

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["batch_size"].number_value == 8
    assert hparams["hidden_sizes"].string_value == "(8, 8)"
    assert hparams["env_args.layout"].string_value == "u"
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    metrics = {metric.name.tag for metric in experiment.metric_infos}
    assert "rollout/success_rate" in metrics & set(events.Tags()["scalars"])


def test_a_run_that_cannot_be_described_in_json_says_what_it_can(tmp_path):
    env = gym.make("PointMassGoal-v0", start=(0.0, 0.5), time_limit=7)
    env.spec.kwargs["start"] = object()
    DDPGHERAgent(seed=0, tensorboard_log=tmp_path, **TINY).learn(env, 10)
    described = json.loads((tmp_path / "DDPGHER_1" / "run.json").read_text())
    assert described["env"] is None and described["settings"]["batch_size"] == 8


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DDPGHERAgent(seed=0, **TINY).learn("PointMassGoal-v0", 10)
    assert not list(tmp_path.iterdir())


def test_a_seed_that_was_drawn_can_be_given_back(tmp_path):
    env = gym.make("PointMassGoal-v0", max_episode_steps=9)
    drawn = DDPGHERAgent(tensorboard_log=tmp_path, **TINY).learn(env, 10)
    described = json.loads((tmp_path / "DDPGHER_1" / "run.json").read_text())
    assert described["env_args"] == {"max_episode_steps": 9}
    assert DDPGHERAgent(seed=described["seed"], **TINY).seed == drawn.seed
