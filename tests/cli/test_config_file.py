"""`train --config FILE`, several environments and seeds, and values as people type them."""

from __future__ import annotations

import json
import sys

import pytest

import hierebm
from hierebm.cli.config_file import read_config
from hierebm.cli.parser import main, parsed
from hierebm.cli.values import parse_value

TINY = {"hidden_sizes": [8, 8], "batch_size": 8, "learning_starts": 50, "train_freq": 20}


def loaded(path):
    return hierebm.DDPGHERAgent.load(path)


@pytest.fixture
def yaml_file(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "run.yaml"
    path.write_text(
        "agent: ddpg-her\nenv: PointMassGoal-v0\nenv_args: {layout: u}\ntotal-timesteps: 1e2\n"
        "episodes: 0\nno_progress_bar: true\nseed: 4\nn_envs: 2\n"
        f"out: {tmp_path / 'agent.zip'}\ntensorboard_log: {tmp_path / 'runs'}\n"
        "settings:\n  hidden_sizes: [8, 8]\n  batch_size: 8\n  learning_starts: 50\n"
    )
    return path


def test_a_file_says_what_options_do_and_options_go_first(yaml_file, tmp_path):
    assert main(["train", "--config", str(yaml_file), "--set", "batch_size=4", "--seed", "5"]) == 0
    agent = loaded(tmp_path / "agent.zip")
    # In two environments the last steps come together.
    assert 100 <= agent.num_timesteps <= 101 and agent.config.batch_size == 4
    assert agent.config.hidden_sizes == (8, 8) and agent.seed == hierebm.DDPGHERAgent(seed=5).seed
    run = json.loads((tmp_path / "runs" / "DDPGHER_1" / "run.json").read_text())
    assert (run["env_args"], run["n_envs"], run["seed"]) == ({"layout": "u"}, 2, 5)


def test_the_file_of_a_run_repeats_it(yaml_file, tmp_path, monkeypatch):
    assert main(["train", "--config", str(yaml_file)]) == 0
    first = loaded(tmp_path / "agent.zip").get_parameters()
    monkeypatch.chdir(tmp_path)
    again = ["--config", str(tmp_path / "runs/DDPGHER_1/run.json"), "--episodes", "0"]
    assert main(["train", *again, "--out", "again.zip"]) == 0
    second = loaded("again.zip").get_parameters()
    assert str(first) == str(second)
    # Another environment has other arguments.
    assert parsed(["train", *again]).env_args == {"layout": "u"}
    assert parsed(["train", *again, "--env", "Other-v0"]).env_args == {}
    # Other seeds than its own, one after the other.
    several = parsed(["train", *again, "--seeds", "0-1"])
    assert (several.seed, several.seeds) == (None, [0, 1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"total_timestep": 3}', "did you mean total_timesteps"),
        ('{"agent": "PPO"}', "agent must be one of hierarchical, ddpg-her"),
        ('{"seeds": "0-1"}', "'seeds' is no option of train"),
        ('{"settings": 3}', "settings must be a mapping"),
        ('{"seed": -1}', "seed must be a whole number"),
        ('{"n_envs": true}', "n_envs must be a whole number"),
        ('{"verbose": "yes"}', "verbose must be true or false"),
        ('{"settings": {"batch_sise": 3}}', "did you mean batch_size"),
        ("[1]", "holds no options"),
        ("{", "is no JSON"),
        ("[" * 100_000, "no options that can be read"),
        ("{" + " " * (1 << 20) + "}", "more than 1 MB"),
        ('{"settings": {"hidden_sizes": [' + "8," * 10_000 + "8]}}", "more than 10000 values"),
        ('{"total_timesteps": 1' + "0" * 400 + "}", "total_timesteps must be a whole number"),
        ('{"env": 7}', "env must be a word"),
        ('{"data": ["x.npz"]}', "data must be a word"),
        ('{"device": null}', "device must be a word"),
        ('{"env": "this:PointMassGoal-v0"}', "nothing that a file names is imported"),
        ('{"env_args": {"a": ["this:X-v0"]}}', "nothing that a file names is imported"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_by_name(text, says, tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text(text)
    argv = ["train", "--config", str(path), "--out", str(tmp_path / "agent.zip")]
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    assert status == 1
    assert says in capsys.readouterr().err
    assert "this" not in sys.modules


def test_the_user_may_name_the_module_that_a_file_may_not(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"env": "this:PointMassGoal-v0"}')
    named = ["train", "--config", str(path), "--env", "hierebm:PointMassGoal-v0"]
    assert parsed(named).env == "hierebm:PointMassGoal-v0"


def test_values_that_are_named_again_and_again_are_not_followed(tmp_path):
    yaml = pytest.importorskip("yaml")
    tree = [1]
    for _ in range(20):
        tree = [tree] * 10
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"settings": tree}))
    with pytest.raises(ValueError, match="more than 10000 values"):
        read_config(path, {})


def test_env_means_the_same_everywhere(tmp_path, capsys):
    out = str(tmp_path / "agent.zip")
    argv = ["train", "--agent", "ddpg-her", "--total-timesteps", "30", "--no-progress-bar"]
    argv += ["--out", out, "--episodes", "1", "--layout", "u"]
    assert main([*argv, "--env", "PointMassGoal-v0", "--json", str(tmp_path / "row.json")]) == 0
    row = json.loads((tmp_path / "row.json").read_text())
    assert row["env_kwargs"] == {"layout": "u"} and row["timesteps"] == 30
    assert main(["evaluate", out, "--env", "PointMassGoal-v0", "--episodes", "1"]) == 0
    with pytest.raises(SystemExit):
        main([*argv, "PointMassGoal-v0", "--env", "Other-v0"])
    assert "two environments are named" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [("64,64", [64, 64]), ("(64, 64)", [64, 64]), ("64,", [64]), (".5", 0.5),
     ("-.5,1e3", [-0.5, 1e3]),
     ("1_000,2", [1000, 2]), ("null", None), ("false", False), ("nan", "nan"), ("a,b", "a,b"),
     ("#..,...", "#..,..."), ("-", "-"), (",", ",")],
)  # fmt: skip
def test_numbers_as_people_type_them(text, value):
    assert parse_value(text) == value


def test_seeds_run_side_by_side_and_end_in_a_table(tmp_path, capsys):
    argv = ["train", "--agent", "ddpg-her", "--total-timesteps", "40", "--episodes", "2"]
    argv += ["--out", str(tmp_path / "agent.zip"), "--seeds", "3-4", "--jobs", "2"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.zip")} == {"agent-seed3.zip", "agent-seed4.zip"}
    assert "[seed 3] saved" in printed and "the mean of 2 seeds" in printed
    assert loaded(tmp_path / "agent-seed4.zip").seed == hierebm.DDPGHERAgent(seed=4).seed
    assert main([*argv[:-4], "--seeds", "3", "--set", "batch_sise=3"]) == 1
    assert "seed 3 failed" in capsys.readouterr().err
    assert main([*argv, "--seed", "1"]) == 1


@pytest.mark.parametrize("seeds", ["4-3", "a", "", "0-9999"])
def test_what_is_no_list_of_seeds_is_refused(seeds, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--seeds", seeds])
    assert "--seeds" in capsys.readouterr().err


def test_a_terminal_gets_settings_as_wide_as_it_is(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    at = lines[0].index("meaning")
    (row,) = [i for i, line in enumerate(lines) if line.startswith("learning_starts")]
    assert lines[row + 1][:at].strip() == "" and lines[row + 1][at:].strip()


def test_settings_are_shown_with_their_ranges(capsys):
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (batch,) = [line.split() for line in lines if line.startswith("batch_size")]
    assert batch[1:5] == ["256", "1", "to", "100000"]
