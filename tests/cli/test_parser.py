"""The command line is parsed, and explained, without loading what the commands need."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

import hierebm
from hierebm.cli.options import build_parser
from hierebm.cli.parser import main


def test_help_needs_no_heavy_import():
    code = (
        "import sys; from hierebm.cli.parser import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'tensorboard', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in ("train", "evaluate", "record", "plot", "demo", "gallery", "settings"):
        assert command in result.stdout


def test_help_comes_at_once():
    code = "from hierebm.cli.parser import main\nmain(['--help'])"
    # Of the processor's time, which other programs do not change; the best of three.
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


def test_a_shell_completes_commands_and_options(tmp_path):
    pytest.importorskip("argcomplete")

    def completed(line: str) -> list[str]:
        told = tmp_path / "told"
        env = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
               "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(told)}  # fmt: skip
        code = "from hierebm.cli.parser import main\nmain()"
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, check=True)
        return [word.strip() for word in told.read_text().splitlines()]

    assert completed("hierebm wa") == ["watch"]
    assert completed("hierebm train --see") == ["--seed", "--seeds"]
    assert completed("hierebm train --agent ") == ["hierarchical", "ddpg-her"]


def test_python_dash_m_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "hierebm", "--version"], capture_output=True, text=True
    )
    assert result.stdout == f"hierebm {hierebm.__version__}\n"


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "record", "plot", "demo", "gallery", "settings"]
)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"hierebm {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [[], ["fly"], ["train", "--set", "novalue"], ["train", "--total-timesteps", "1.5"],
     ["train", "--agent", "other"], ["evaluate"], ["evaluate", "x.zip", "--distance", "1"],
     ["train", "--total-timesteps", "inf"], ["train", "--total-timesteps", "nan"],
     ["train", "--total-timesteps", "0"], ["train", "--episodes", "-1"], ["train", "--seed", "-1"],
     ["evaluate", "x.zip", "--episodes", "0"], ["plot", "x.zip", "--tasks", "-1"],
     ["demo", "--episodes", "0"]],
)  # fmt: skip
def test_bad_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_counts_take_the_forms_people_write():
    args = build_parser().parse_args(["train", "--total-timesteps", "1e4", "--eval-freq", "2_000"])
    assert (args.total_timesteps, args.eval_freq) == (10_000, 2_000)


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "--env-a", "a=b"])
    assert "unrecognized arguments: --env-a" in capsys.readouterr().err
