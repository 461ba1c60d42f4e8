"""Commands import nothing that a file names, and read nothing that it points to."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from benchmarks.reliability.damage import packed, unpacked
from hierebm import DDPGHERAgent
from hierebm.cli.parser import main
from tests.toys import SMALL

FLAT = {k: v for k, v in SMALL.items() if k in DDPGHERAgent.config_class().to_dict()}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agents") / "agent.zip"
    DDPGHERAgent(seed=0, **FLAT).learn("PointMassGoal-v0", 250).save(path)
    return path


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working directory that leaves a mark when it is imported."""
    mark = tmp_path / "mark"
    (tmp_path / "evilmodule.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("evilmodule", None)
    return mark


def _says(file: Path, folder: Path, env: Any) -> str:
    """A copy that says that it was trained in this env."""
    members = unpacked(file.read_bytes())
    meta = json.loads(members["meta.json"])
    members["meta.json"] = json.dumps({**meta, "env": env}).encode()
    path = folder / "stranger.zip"
    path.write_bytes(packed(members))
    return str(path)


COMMANDS = (
    ["evaluate", "--episodes", "2"], ["plot"], ["record"], ["diagnose"],
    ["watch", "--record", "seen.gif"],
    ["train", "--total-timesteps", "300", "--resume"],
)  # fmt: skip
SHIM = "GymV26Environment-v0"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"id": "evilmodule:PointMassGoal-v0", "kwargs": {}}, "nothing that a file names"),
        ({"id": "evilmodule:", "kwargs": {}}, "nothing that a file names"),
        ({"id": SHIM, "kwargs": {"env_id": "evilmodule:X-v0"}}, "names of files and modules"),
        ({"id": "PointMassGoal-v0", "kwargs": {"layout": "/etc/passwd"}}, "files and modules"),
        ({"id": "PointMassGoal-v0", "kwargs": {"layout": ["." * 90] * 90}}, "--env-arg layout="),
        ({"id": ["PointMassGoal-v0"], "kwargs": {}}, "does not say what env"),
        ({"id": "PointMassGoal-v0", "kwargs": "layout"}, "does not say what env"),
        ("PointMassGoal-v0", "does not say what env"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_a_file_says_of_its_env_runs_nothing(
    file: Path, evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    command: list[str], env: Any, message: str,
) -> None:  # fmt: skip
    name, *options = command
    path = _says(file, tmp_path, env)
    assert main([name, *options, path] if name == "train" else [name, path, *options]) == 1
    error = capsys.readouterr().err
    assert message in error and "stranger.zip" in error and error.count("\n") == 1
    assert not evil.exists() and "evilmodule" not in sys.modules


@pytest.mark.parametrize("kwargs", [{"colour": 3}, {"layout": "none"}, {"scale": 0.5}])
def test_arguments_that_the_env_does_not_take_are_the_files_fault(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kwargs: Any
) -> None:
    path = _says(file, tmp_path, {"id": "PointMassGoal-v0", "kwargs": kwargs})
    assert main(["evaluate", path]) == 1
    assert "says that its env is PointMassGoal-v0 with" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["diagnose"], ["train", "--resume"]], ids=lambda c: c[0])
def test_a_thousand_envs_that_do_not_fit_are_not_made(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, command: list[str],
) -> None:  # fmt: skip
    made = []

    class Wide(gym.Env):
        observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (300,))

        def __init__(self) -> None:
            made.append(self)

    monkeypatch.setitem(gym.registry, "Wide-v0", EnvSpec("Wide-v0", Wide))
    members = unpacked(file.read_bytes())
    meta = json.loads(members["meta.json"])
    meta |= {"env": {"id": "Wide-v0", "kwargs": {}}, "n_envs": 1024}
    members["meta.json"] = json.dumps(meta).encode()
    np.save(times := io.BytesIO(), np.zeros(1024, np.int64))
    members["arrays/experience/replay/time.npy"] = times.getvalue()
    path = tmp_path / "stranger.zip"
    path.write_bytes(packed(members))
    assert main([*command, str(path)]) == 1
    assert "stranger.zip cannot act in Wide-v0" in capsys.readouterr().err and len(made) == 1


def test_the_user_may_name_what_the_file_may_not(
    file: Path, evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _says(file, tmp_path, {"id": "evilmodule:PointMassGoal-v0", "kwargs": {}})
    assert main(["evaluate", path, "--env", "PointMassGoal-v0", "--episodes", "1"]) == 0
    assert not evil.exists()
    assert main(["evaluate", path, "--env", "evilmodule:PointMassGoal-v0", "--episodes", "1"]) == 0
    assert evil.exists()
    wide = {"id": "PointMassGoal-v0", "kwargs": {"layout": ["." * 40] * 40, "render_mode": "human"}}
    path = _says(file, tmp_path, wide)
    assert main(["evaluate", path, "--env-arg", "layout=open", "--episodes", "1"]) == 0
    capsys.readouterr()
