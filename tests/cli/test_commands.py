"""Every command does what it says, and explains in one line what went wrong."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

import hierebm
from hierebm import DDPGHERConfig, HierarchicalEBMConfig
from hierebm.cli.names import AGENTS
from hierebm.cli.parser import main
from hierebm.cli.values import format_rows, parse_settings, parse_value
from hierebm.data import OfflineDataset
from tests.recording.test_recording import needs_minari

TINY = ["--total-timesteps", "260", "--seed", "0", "--no-progress-bar"]
SETTINGS = {
    "hidden_sizes": "[32,32]",
    "batch_size": "16",
    "learning_starts": "120",
    "train_freq": "10",
    "n_subgoals": "8",
    "energy_train_freq": "60",
    "energy_gradient_steps": "2",
    "pool_size": "100",
}


def settings(*names):
    chosen = names or SETTINGS
    return [text for name in chosen for text in ("--set", f"{name}={SETTINGS[name]}")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint and a run folder, made by the command itself."""
    folder = tmp_path_factory.mktemp("trained")
    status = main(
        ["train", *TINY, *settings(), "--out", str(folder / "agent.zip"), "--episodes", "2",
         "--tensorboard-log", str(folder / "runs"), "--eval-freq", "200",
         "--checkpoint-freq", "200"]
    )  # fmt: skip
    assert status == 0
    return folder


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("10_000", 10_000), ("[256,256]", [256, 256]), ("true", True), ("None", None),
     ("True", True), ("ebm", "ebm"), ('"a b"', "a b"), ("four_rooms", "four_rooms"), ("", "")],
)  # fmt: skip
def test_values_from_the_command_line(text, value):
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_settings_of_groups_are_collected():
    pairs = [("tau", "0.1"), ("sequence.chains", "8"), ("sequence.levels", "1")]
    assert parse_settings(pairs) == {"tau": 0.1, "sequence": {"chains": 8, "levels": 1}}


def test_table_lines_up():
    table = format_rows([["agent", "success"], ["flat", "0.5"], ["hierarchical", "1.0"]])
    lines = table.splitlines()
    assert {line.index(word) for line, word in zip(lines[2:], ("0.5", "1.0"), strict=True)} == {
        lines[0].index("success")
    }
    assert set(lines[1]) == {"-", " "}


@pytest.mark.parametrize("agent", AGENTS)
def test_settings_are_listed(agent, capsys):
    assert main(["settings", "--agent", agent]) == 0
    header, _, *lines = capsys.readouterr().out.splitlines()
    second, third, fourth = (header.index(name) for name in ("default", "range", "meaning"))
    listed, groups = {}, []
    for before, line in pairwise(lines):
        if not before:
            groups.append(line)
        elif line:
            name, value, meaning = line[:second], line[second:third], line[fourth:]
            listed[name.strip()] = json.loads(value)
            assert len(meaning) > 5, name
    config = (HierarchicalEBMConfig if agent == "hierarchical" else DDPGHERConfig)()
    flat = {k: v for k, v in config.to_dict().items() if not isinstance(v, dict)}
    assert {k: v for k, v in listed.items() if "." not in k} == json.loads(json.dumps(flat))
    assert groups[0] == "Networks and updates of the low level"
    assert ("sequence.transition_steps" in listed) == (agent == "hierarchical")


def test_train_leaves_everything_it_was_asked_for(trained):
    assert (trained / "agent.zip").is_file()
    assert (trained / "agent_200_steps.zip").is_file()
    (run,) = (trained / "runs").iterdir()
    rows = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert any("eval/success_rate" in row for row in rows)
    assert rows[-1]["step"] == 260
    assert list(run.glob("events.out.tfevents.*"))


def test_train_shows_how_far_its_evaluation_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    argv = ["train", "--agent", "ddpg-her", "--total-timesteps", "20", "--episodes", "2"]
    assert main([*argv, "--out", str(tmp_path / "agent.zip")]) == 0
    assert "evaluate:" in capsys.readouterr().err


def test_evaluate_prints_and_writes_every_episode(trained, capsys, tmp_path):
    checkpoint, out = str(trained / "agent.zip"), tmp_path / "result.json"
    argv = ["evaluate", checkpoint, "--episodes", "3", "--distance", "0.5", "0.8"]
    assert main([*argv, "--json", str(out)]) == 0
    assert "over 3 episodes" in capsys.readouterr().out
    row = json.loads(out.read_text())
    assert row["env"] == "PointMassGoal-v0" and row["options"] == {"distance": [0.5, 0.8]}
    for episode in row["episodes"]:
        distance = np.linalg.norm(np.subtract(episode["goal"], episode["start"]))
        assert 0.5 - 1e-3 <= distance <= 0.8 + 1e-3


def test_evaluate_on_another_map(trained, capsys):
    checkpoint = str(trained / "agent.zip")
    assert main(["evaluate", checkpoint, "--episodes", "1", "--layout", "u"]) == 0
    assert "over 1 episodes" in capsys.readouterr().out


@needs_minari
def test_record_writes_a_data_set_and_replaces_it_on_demand(trained, capsys, tmp_path, monkeypatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    argv = ["record", str(trained / "agent.zip"), "--distance", "0.5", "0.8", "--layout", "u"]
    assert main([*argv, "--episodes", "3", "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    name = "hierebm/PointMassGoal-v0-agent-v0"
    assert "over 3 episodes" in printed and f"wrote {name}" in printed
    dataset = minari.load_dataset(name)
    assert dataset.total_episodes == 3 and dataset.spec.env_spec.kwargs == {"layout": "u"}
    assert dataset.storage.metadata["algorithm_name"] == "HierarchicalEBMAgent"
    assert main([*argv, "--episodes", "2"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*argv, "--episodes", "2", "--overwrite"]) == 0
    assert main([*argv, "--episodes", "1", "--dataset-id", "mine/few-v3"]) == 0
    counts = {key: row["total_episodes"] for key, row in minari.list_local_datasets().items()}
    assert counts == {name: 2, "mine/few-v3": 1}


def test_record_says_what_to_install(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    assert main(["record", str(trained / "agent.zip")]) == 1
    assert 'pip install "hierebm[minari]"' in capsys.readouterr().err


@pytest.fixture
def data_file(tmp_path):
    """Random walks in PointMassGoal-v0's plane, as a file of OGBench."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (400, 2)).astype(np.float32)
    positions = np.cumsum(0.1 * actions, 0, dtype=np.float32)
    terminals = np.zeros(400)
    terminals[99::100] = 1.0
    path = tmp_path / "walks-v0.npz"
    np.savez(path, observations=positions, actions=actions, terminals=terminals)
    return path


def test_train_on_data_alone_then_evaluate(data_file, tmp_path, capsys):
    out = tmp_path / "of_data.zip"
    argv = ["train", "--data", str(data_file), "--gradient-steps", "30", "--out", str(out)]
    argv += ["--success-tolerance", "0.3", "--checkpoint-freq", "20", "--agent", "ddpg-her"]
    assert main([*argv, "--seed", "0", "--no-progress-bar"]) == 0
    assert "after 0 steps and 30 updates" in capsys.readouterr().out
    assert (tmp_path / "of_data_offline_20_steps.zip").is_file()
    assert main(["evaluate", str(out), "--env", "PointMassGoal-v0", "--episodes", "2"]) == 1
    assert "cannot act in PointMassGoal-v0" in capsys.readouterr().err


def test_the_goal_of_data_is_named_by_its_axes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = {"observations": rng.uniform(size=(400, 5)), "actions": rng.uniform(size=(400, 2))}
    path = tmp_path / "arm-v0.npz"
    np.savez(path, terminals=np.arange(400) % 100 == 99, **rows)
    out = tmp_path / "agent.zip"
    argv = ["train", "--data", str(path), "--success-tolerance", "0.5", "--out", str(out)]
    argv += ["--gradient-steps", "5", "--agent", "ddpg-her", "--no-progress-bar"]
    assert main(argv) == 1
    assert "observations of 5 numbers: pass goal=" in capsys.readouterr().err
    assert main([*argv, "--goal", "1,2,4"]) == 0
    assert hierebm.DDPGHERAgent.load(out).spaces.goal_dim == 3
    assert main([*argv, "--goal", "1,5"]) == 1
    assert "5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--goal", "x"])


def test_train_on_data_then_online(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(-1.0, 1.0, (300, 4)), rng.uniform(-1.0, 1.0, (300, 2))
    data = OfflineDataset.from_arrays(states, actions, np.arange(300) % 50 == 49, goal=(0, 1))
    monkeypatch.setattr("hierebm.cli.train.load_minari", lambda name, goal: {"a/b-v0": data}[name])
    out = tmp_path / "agent.zip"
    argv = ["train", "PointMassGoal-v0", "--data", "a/b-v0", "--gradient-steps", "20"]
    argv += ["--total-timesteps", "40", "--episodes", "2", "--out", str(out), "--seed", "0"]
    assert main([*argv, "--agent", "ddpg-her", "--no-progress-bar"]) == 0
    printed, shown = capsys.readouterr()
    assert "evaluate:" not in shown
    assert "after 40 steps and " in printed and "over 2 episodes" in printed
    assert main(["evaluate", str(out), "--episodes", "2"]) == 0


def test_diagnose_prints_the_report_and_writes_its_figures(trained, capsys, tmp_path):
    checkpoint, out = str(trained / "agent.zip"), tmp_path / "diagnosis.json"
    assert main(["diagnose", checkpoint, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "HierarchicalEBMAgent in PointMassGoal-v0 after 260 environment steps"
    )
    # The command line's files have the experience in them.
    assert "What limits it now" in printed and "no replay buffer" not in printed
    row = json.loads(out.read_text())
    assert row["timesteps"] == 260 and row["limits"][0]["name"] == "few updates"
    assert row["limits"][0]["finding"] in " ".join(printed.split())


@pytest.mark.parametrize("n_envs", [1, 3])
def test_diagnose_with_experience_of_one_or_many_envs(n_envs, capsys, tmp_path):
    tiny = {k: parse_value(v) for k, v in SETTINGS.items()}
    envs = gym.make_vec("PointMassGoal-v0", n_envs, layout="u") if n_envs > 1 else None
    agent = hierebm.HierarchicalEBMAgent(seed=0, **tiny)
    agent.learn(envs or gym.make("PointMassGoal-v0", layout="u"), 300)
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.zip")
    argv = ["diagnose", str(tmp_path / "agent.zip"), "--replay", str(tmp_path / "replay.zip")]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "relabelled goals teach nothing" in printed and "no replay buffer" not in printed
    # On another map, there is no experience of the agent.
    assert main([*argv, "--layout", "large"]) == 1
    assert "name that env with --env" in capsys.readouterr().err


def test_diagnose_needs_no_env(tmp_path, capsys):
    gym.register("Gone-v0", "hierebm.envs.point_mass:PointMassGoalEnv")
    try:
        out = str(tmp_path / "agent.zip")
        argv = ["Gone-v0", "--agent", "ddpg-her", *TINY, "--layout", "u"]
        assert main(["train", *argv, "--episodes", "0", "--out", out]) == 0
    finally:
        del gym.registry["Gone-v0"]
    capsys.readouterr()
    assert main(["diagnose", out]) == 0
    assert capsys.readouterr().out.startswith("DDPGHERAgent after 260 environment steps")
    assert main(["diagnose", out, "--env", "Gone-v0"]) == 1
    assert "Gone" in capsys.readouterr().err


def test_plot_writes_pictures(trained, capsys, tmp_path):
    (run,) = (trained / "runs").iterdir()
    argv = ["plot", str(trained / "agent.zip"), "--out", str(tmp_path), "--tasks", "1"]
    assert main([*argv, "--run", str(run)]) == 0
    written = capsys.readouterr().out
    for name in ("path_0", "energy_0", "episode_0", "success"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in written


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["evaluate", "missing.zip"], "no checkpoint"),
        (["train", "--set", "batchsize=3"], "did you mean batch_size"),
        (["train", "CartPole-v1"], "Dict"),
        (["train", "NoSuchEnv-v0"], "NoSuchEnv"),
        (["train", "--layout", "nowhere"], "four_rooms"),
        (["train", "--env-arg", "nosuch=1"], "nosuch"),
        (["train", "--device", "nosuch"], "device='nosuch'"),
        (["train", "--set", "train_freq=0"], "train_freq must be between 1 and 1e+06"),
        (["train", "--set", "tau=1", "--set", "tau.x=1"], "tau.x=1 contradicts tau=1"),
        (["train", "--set", "tau.x=1"], "tau must be a number"),
        (["train", "--out", "."], "name a file in it"),
        (
            ["train", "--data", "missing.npz", "--success-tolerance", "1"],
            "there is no data set at 'missing.npz'",
        ),
        (["train", "--gradient-steps", "5"], "go with --data"),
        (["train", "--data", "a.npz"], "takes --success-tolerance"),
        (
            ["train", "PointMassGoal-v0", "--data", "a.npz", "--success-tolerance", "1"],
            "leave --success-tolerance out",
        ),
        (["train", "--data", "a.npz", "--total-timesteps", "5"], "hierebm train ENV_ID --data"),
        (["evaluate", "."], "name a file in it"),
        (["record", "missing.zip"], "no checkpoint"),
        (["diagnose", "missing.zip"], "no checkpoint"),
        (["diagnose", "missing.zip", "--json", "."], "name a file in it"),
    ],
)
def test_errors_are_one_line_and_status_1(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"hierebm {argv[0]}: error: ") and message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "demo"])
def test_where_nothing_can_be_written_nothing_is_learnt(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    for agent in AGENTS.values():
        monkeypatch.setattr(getattr(hierebm, agent), "learn", None)
    out = tmp_path / "file" / "agent.zip"
    assert main([command, "--out", str(out)]) == 1
    assert "error" in capsys.readouterr().err
    assert (tmp_path / "file").is_file()


def test_train_says_where_it_saved_and_how_evaluations_went(tmp_path, capsys):
    argv = ["train", "--agent", "ddpg-her", *TINY, *settings("hidden_sizes", "batch_size")]
    argv += ["--eval-freq", "150", "--episodes", "0", "--out", str(tmp_path / "agent")]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert f"saved {tmp_path / 'agent.zip'} after 260 steps" in printed
    assert "Evaluation after 150 steps: success" in printed
    assert main(["train", "--out", str(tmp_path)]) == 1
    assert "name a file in it" in capsys.readouterr().err


def test_an_env_from_a_module_is_found_again_by_naming_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "its_module.py").write_text(
        "import gymnasium\n"
        "import hierebm\n"
        "gymnasium.register('Elsewhere-v0', 'hierebm.envs.point_mass:PointMassGoalEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = str(tmp_path / "agent.zip")
    argv = ["its_module:Elsewhere-v0", "--agent", "ddpg-her", *TINY, "--layout", "u"]
    assert main(["train", *argv, "--episodes", "0", "--out", out]) == 0
    # Another process has not imported it.
    del gym.registry["Elsewhere-v0"], sys.modules["its_module"]
    try:
        assert main(["evaluate", out, "--episodes", "1"]) == 1
        assert "--env MODULE:Elsewhere-v0" in capsys.readouterr().err
        json_file = tmp_path / "result.json"
        argv = ["evaluate", out, "--env", "its_module:Elsewhere-v0", "--episodes", "1"]
        assert main([*argv, "--json", str(json_file)]) == 0
        assert json.loads(json_file.read_text())["env_kwargs"] == {"layout": "u"}
    finally:
        gym.registry.pop("Elsewhere-v0", None)
        sys.modules.pop("its_module", None)


def test_traceback_on_demand():
    with pytest.raises(FileNotFoundError):
        main(["evaluate", "missing.zip", "--traceback"])


def test_foreign_checkpoints_and_envs(trained, tmp_path, capsys):
    from hierebm.checkpoint.format import save_checkpoint

    buffer = save_checkpoint(tmp_path / "buffer", meta={"agent": "replay buffer"})
    assert main(["evaluate", str(buffer)]) == 1
    assert "holds no agent" in capsys.readouterr().err
    assert main(["evaluate", str(trained / "agent.zip"), "--env", "CartPole-v1"]) == 1
    assert "cannot act in CartPole-v1" in capsys.readouterr().err


class BreaksLate(gym.Wrapper):
    steps = 0

    def step(self, action):
        self.steps += 1
        observation, *rest = self.env.step(action)
        if self.steps > 50:
            observation["achieved_goal"] = np.full(2, np.nan, np.float32)
        return observation, *rest


def test_what_was_learnt_before_an_error_is_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        gym.registry,
        "Breaks-v0",
        gym.envs.registration.EnvSpec(
            "Breaks-v0", entry_point=lambda: BreaksLate(gym.make("PointMassGoal-v0"))
        ),
    )
    out = tmp_path / "saved.zip"
    assert main(["train", "Breaks-v0", "--agent", "ddpg-her", *TINY, "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "achieved_goal" in captured.err and "Traceback" not in captured.err
    assert "saved" in captured.out and out.is_file()


def test_demo_trains_both_and_says_where_things_are(tmp_path, capsys, monkeypatch):
    from hierebm.agents.ddpg_her import DDPGHERConfig
    from hierebm.agents.hierarchical import HierarchicalEBMConfig

    for config in (DDPGHERConfig, HierarchicalEBMConfig):
        original = config.__init__
        tiny = {k: v for k, v in parse_settings(list(SETTINGS.items())).items()
                if k in config.__dataclass_fields__}  # fmt: skip
        monkeypatch.setattr(
            config,
            "__init__",
            lambda self, *, _original=original, _tiny=tiny, **kw: _original(
                self, **{**_tiny, **kw}
            ),
        )
    out = tmp_path / "demo"
    argv = ["demo", "--out", str(out), "--total-timesteps", "240", "--episodes", "2"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    table = [line.split() for line in printed.splitlines()]
    assert [row[:2] for row in table if row and row[0] in ("flat", "hierarchical")] == [
        ["flat", "240"],
        ["hierarchical", "240"],
    ]
    for name in ("flat.zip", "hierarchical.zip", "success.png", "path_0.png", "episode_2.png"):
        assert (out / name).is_file()
        assert str(out / name) in printed
    assert sorted(p.name for p in (out / "tensorboard").iterdir()) == ["flat_1", "hierarchical_1"]
    assert f"tensorboard --logdir {out / 'tensorboard'}" in printed


def test_gallery_hands_over(tmp_path, capsys, monkeypatch):
    from hierebm.energy.toys import gallery

    asked = []
    monkeypatch.setattr(
        gallery, "main", lambda out, quick: asked.append((out, quick)) or [out / "spiral.png"]
    )
    assert main(["gallery", "--out", str(tmp_path), "--quick"]) == 0
    assert asked == [(tmp_path, True)]
    assert f"wrote {tmp_path / 'spiral.png'}" in capsys.readouterr().out
