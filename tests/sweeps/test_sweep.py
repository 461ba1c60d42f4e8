"""Sweeps in one process: what is left behind, what a kill costs, what is said of failures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hierebm
from hierebm.cli.parser import main
from hierebm.sweeps import trial as trial_module
from hierebm.sweeps.files import alone, read_curve, read_result
from hierebm.sweeps.run import SweepResult
from tests.sweeps.small import TINY, attempts, is_done, steps, trials

STUDY: dict[str, Any] = {
    **TINY,
    "envs": [
        {"id": "PointMassGoal-v0", "name": "open"},
        {"id": "PointMassGoal-v0", "args": {"layout": "u"}, "eval_args": {"distance": [0.5, 2.0]}},
    ],
    "seeds": "0-1",
    "compare": {"defaults": {}, "two critics": {"n_critics": 2}},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return hierebm.sweep(STUDY, tmp_path_factory.mktemp("sweeps") / "a", jobs=1)


def test_each_trial_is_a_run_folder(swept: SweepResult) -> None:
    folders = trials(swept.folder)
    assert [f"{f.parent.name}/{f.name}" for f in folders] == [
        f"{variant}/{world}-seed{seed}"
        for variant in ("defaults", "two_critics")
        for world in ("PointMassGoal-v0_layout=u", "open")
        for seed in (0, 1)
    ]
    for folder in folders:
        assert attempts(folder) == [0] and steps(folder) == [50, 100, 150, 200]
        assert [path.name for path in folder.glob("*.zip")] == ["agent.zip"]
        run = json.loads((folder / "DDPGHER_1" / "run.json").read_text())
        assert run["settings"]["n_critics"] == (2 if "two" in folder.parent.name else 1)
        assert (run["seed"], run["total_timesteps"]) == (int(folder.name[-1]), 200)
        seconds = [row["seconds"] for row in read_curve(folder)]
        assert 0 < seconds[0] < seconds[-1]


def test_a_trial_learns_what_the_train_command_learns(swept: SweepResult, tmp_path: Path) -> None:
    settings = [w for k, v in TINY["settings"].items() for w in ("--set", f"{k}={json.dumps(v)}")]
    command = ["train", "PointMassGoal-v0", "--agent", "ddpg-her", "--total-timesteps", "200"]
    command += ["--seed", "1", "--episodes", "0", "--no-progress-bar", *settings]
    assert main([*command, "--out", str(tmp_path / "agent.zip")]) == 0
    one = hierebm.DDPGHERAgent.load(tmp_path / "agent.zip").get_parameters()
    other = swept.folder / "trials" / "defaults" / "open-seed1" / "agent.zip"
    assert str(one) == str(hierebm.DDPGHERAgent.load(other).get_parameters())


def test_one_table_and_one_picture(swept: SweepResult) -> None:
    table = (swept.folder / "table.md").read_text().splitlines()
    assert len(table) == 2 + 4 and "env steps to .9" in table[0]
    assert [line.world for line in swept.lines] == ["open", "PointMassGoal-v0 layout=u"] * 2
    for line in swept.lines:
        rates = [(read_result(Path(t.folder)) or {})["success"] for t in line.trials]
        assert line.success == np.mean(rates) and len(rates) == 2
        assert 0 <= line.interval[0] <= line.success <= line.interval[1] <= 1
    assert swept.best is not None and swept.best.name == swept.lines[0].variant.name
    assert (swept.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((swept.folder / "results.json").read_text())
    assert {row["variant"] for row in told} == {"defaults", "two critics"}


def test_what_is_done_is_not_done_again(swept: SweepResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in swept.folder.glob("trials/*/*/*")}
    again = hierebm.sweep(swept.folder / "study.json", swept.folder, jobs=1)
    assert str(again) == str(swept)
    assert {p: p.stat().st_mtime_ns for p in swept.folder.glob("trials/*/*/*")} == before


def test_another_study_has_another_folder(swept: SweepResult) -> None:
    with pytest.raises(ValueError, match="holds a sweep with other episodes: choose another"):
        hierebm.sweep({**STUDY, "episodes": 5}, swept.folder, jobs=1)


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    study = tmp_path / "study.json"
    # Long enough to be killed in the middle of it.
    study.write_text(json.dumps({**TINY, "seeds": "0-2", "total_timesteps": 600, "evaluations": 6}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hierebm", "sweep", str(study), "--out", str(out)]
    process = subprocess.Popen([*command, "--jobs", "1"], stdout=subprocess.DEVNULL)
    second = out / "trials" / "default" / "PointMassGoal-v0-seed1"
    started = time.monotonic()
    while not list(second.glob("agent_*_steps.zip")):
        assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = {f for f in trials(out) if is_done(f)}
    assert {f.name[-1] for f in done} == {"0"} and not is_done(second)
    hierebm.sweep(study, out, jobs=1)
    began = {f.name[-1]: attempts(f) for f in trials(out)}
    # What was done stayed, what ran went on from a checkpoint, what is left came once.
    assert began["0"] == began["2"] == [0]
    assert len(began["1"]) == 2 and began["1"][0] == 0 < began["1"][1]
    for folder in trials(out):
        assert is_done(folder) and steps(folder) == list(range(100, 601, 100))


def test_what_is_missing_at_the_end_is_the_evaluation(tmp_path: Path) -> None:
    hierebm.sweep(TINY, tmp_path, jobs=1)
    (folder,) = trials(tmp_path)
    expected = read_result(folder)
    # Killed after the last checkpoint, before the result.
    (folder / "result.json").unlink()
    (folder / "agent.zip").rename(folder / "agent_200_steps.zip")
    hierebm.sweep(TINY, tmp_path, jobs=1)
    assert read_result(folder) == expected and attempts(folder) == [0, 200]
    assert [path.name for path in folder.glob("*.zip")] == ["agent.zip"]


def test_a_trial_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, fails = trial_module.train, [True]

    def failing(args: Any, callbacks: Any) -> None:
        if args.seed == 0 and fails:
            raise RuntimeError("the simulator broke")
        train(args, callbacks)

    monkeypatch.setattr(trial_module, "train", failing)
    study = {**TINY, "seeds": [0, 1]}
    with pytest.raises(RuntimeError, match=r"1 trial\(s\) failed.*simulator broke.*result\.json"):
        hierebm.sweep(study, tmp_path, jobs=1)
    failed, other = trials(tmp_path)
    assert (read_result(failed) or {})["status"] == "failed" and is_done(other)
    # Once the reason is gone, it is tried again as the message says.
    fails.clear()
    (failed / "result.json").unlink()
    hierebm.sweep(study, tmp_path, jobs=1)
    assert (len(attempts(failed)), len(attempts(other))) == (2, 1)


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        alone(tmp_path),
        pytest.raises(TimeoutError, match="another process is at work"),
        alone(tmp_path, patience=0.0),
    ):
        pass
    with alone(tmp_path, patience=0.0):
        pass


@pytest.mark.parametrize(
    ("module", "change", "jobs"),
    [("ray", {}, 2), ("optuna", {"search": {"n_critics": {"low": 1, "high": 2}}}, 1)],
)
def test_what_is_missing_is_named(
    module: str, change: dict[str, Any], jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'hierebm\[sweep\]'"):
        hierebm.sweep({**TINY, **change}, tmp_path, jobs=jobs)


def test_the_package_and_its_help_load_neither_ray_nor_optuna() -> None:
    code = (
        "import sys, hierebm\nfrom hierebm.cli.options import build_parser\n"
        "assert 'sweep' in build_parser().format_help()\nhierebm.sweep\n"
        "assert not {'ray', 'optuna'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_explains_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("envs: [PointMassGoal-v0]\nsettings: {batchsize: 3}\n")
    assert main(["sweep", str(path), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 1
    assert "hierebm sweep: error: default: 'batchsize' is no setting" in capsys.readouterr().err
