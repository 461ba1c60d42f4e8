"""``hierebm train`` stops, saves and goes on; what signals do is also in the benchmark's rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.workers import train_command
from hierebm import DDPGHERAgent
from hierebm.callbacks import CheckpointCallback
from hierebm.cli import stopping
from hierebm.cli.parser import main
from hierebm.cli.stopping import Stopped, StopSignals
from hierebm.cli.training import save_anywhere
from hierebm.files import Claim


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_only_an_impatient_one_raises(
    signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run where signals are ignored, such as under nohup.
    outside = signal.signal(signum, signal.SIG_DFL)
    try:
        with StopSignals() as signals:
            for _ in range(3):
                signal.raise_signal(signum)
            assert signals.received == signum
            monkeypatch.setattr(stopping, "PATIENCE", -1.0)
            with pytest.raises(Stopped, match=signum.name) as stopped:
                signal.raise_signal(signum)
            assert stopped.value.status == 128 + signum
            # From then on, saving is waited for.
            signal.raise_signal(signum)
        assert signal.getsignal(signum) is signal.SIG_DFL
    finally:
        signal.signal(signum, outside)


def test_an_error_that_cannot_be_told_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    assert main(["evaluate", "not_there.zip"]) == 1


def test_what_is_to_be_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def _stop_at(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SIGTERM come after so many steps, once."""
    on_step, left = stopping.StopCallback._on_step, [1]

    def stopping_step(self: Any) -> bool:
        if self.num_timesteps == steps and left[0]:
            left[0] = 0
            signal.raise_signal(signal.SIGTERM)
        return on_step(self)

    monkeypatch.setattr(stopping.StopCallback, "_on_step", stopping_step)


def test_a_stopped_run_is_gone_on_with_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "agent.zip"
    argv = train_command(out, "--checkpoint-freq", "60", "--keep-checkpoints", "1", total=300)
    _stop_at(150, monkeypatch)
    assert main([*argv, "--layout", "u"]) == 128 + signal.SIGTERM
    printed = capsys.readouterr().out
    assert f"saved {out} after 150 steps" in printed and "mean steps" not in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["agent.zip", "agent_120_steps.zip"]
    (line,) = [line for line in printed.splitlines() if line.startswith("go on with: ")]
    quiet = ["--no-progress-bar", "--episodes", "0"]
    again = line.removeprefix("go on with: hierebm ").split()
    assert main([*again, *quiet]) == 0
    agent = DDPGHERAgent.load(out)
    assert agent.num_timesteps == 300 and agent.replay is not None
    assert agent.replay.n_added == 300 and not agent.unfinished
    # That was all; more is said by its total, and a checkpoint will do as well.
    assert main([*again, *quiet]) == 1
    assert "nothing is left to do" in capsys.readouterr().err
    checkpoint = str(tmp_path / "agent_120_steps.zip")
    assert main(["train", "--resume", checkpoint, "--total-timesteps", "310", *quiet]) == 0
    agent = DDPGHERAgent.load(out)
    assert agent.num_timesteps == 310 and agent.config.hidden_sizes == (16, 16)


def _processes_of(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().decode(errors="replace")
            found += [words] if str(folder) in words else []
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_a_signal_stops_every_seed_and_each_is_saved(tmp_path: Path) -> None:
    argv = train_command(tmp_path / "agent.zip", "--checkpoint-freq", "100", "--jobs", "2")
    argv.remove("--seed")
    argv.remove("0")
    process = subprocess.Popen(
        [sys.executable, "-m", "hierebm", *argv, "--seeds", "0-2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # The tests may run where SIGINT is ignored, as it is in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until = time.monotonic() + 120
        while len({p.name.partition("_")[0] for p in tmp_path.glob("*_steps.zip")}) < 2:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT, printed
    assert _processes_of(tmp_path) == []
    # The third was never begun, and what the other two have learned is there to go on with.
    whole = {p.name for p in tmp_path.iterdir() if "_steps" not in p.name}
    assert whole == {"agent-seed0.zip", "agent-seed1.zip"}
    for seed in range(2):
        agent = DDPGHERAgent.load(tmp_path / f"agent-seed{seed}.zip")
        assert agent.num_timesteps >= 100 and agent.replay is not None
        assert f"[seed {seed}] go on with: hierebm train --resume" in printed


def test_a_second_signal_is_passed_on_where_a_step_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stuck.py").write_text(
        """import time
import gymnasium as gym
from tests.toys import LineGoal

class Stuck(LineGoal):
    def step(self, action):
        if self.total_steps >= 50:
            open("stuck", "w").close()
            time.sleep(600)
        return super().step(action)

gym.register("Stuck-v0", Stuck)
"""
    )
    root = Path(__file__).parents[2]
    argv = train_command(tmp_path / "agent.zip", "--env", "stuck:Stuck-v0", "--seeds", "5")
    argv.remove("--seed")
    argv.remove("0")
    process = subprocess.Popen(
        [sys.executable, "-m", "hierebm", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"},
    )
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "stuck").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        time.sleep(stopping.PATIENCE + 1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert DDPGHERAgent.load(tmp_path / "agent-seed5.zip").num_timesteps == 50


def test_a_file_that_another_run_writes_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "agent.zip"
    claim = Claim(tmp_path, "agent", ".zip")
    (tmp_path / ".agent-2.zip.k3j.tmp").write_text("half")
    assert main(train_command(out, total=20)) == 0
    claim.release()
    assert [p.name for p in tmp_path.iterdir()] == ["agent-2.zip"]
    assert f"another run writes to {out}" in capsys.readouterr().err


def test_where_the_folder_is_lost_the_agent_is_saved_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = DDPGHERAgent(env="PointMassGoal-v0", hidden_sizes=(16, 16))
    gone, other = tmp_path / "gone", tmp_path / "other"
    gone.write_text("no folder")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(other))
    with pytest.raises(OSError, match=r"agent.zip could not be written.*go on with hierebm train"):
        save_anywhere(agent, gone / "agent.zip")
    (saved,) = other.iterdir()
    assert DDPGHERAgent.load(saved).replay is not None


def test_what_an_earlier_run_saved_is_not_replaced_by_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = DDPGHERAgent(env="PointMassGoal-v0", hidden_sizes=(16, 16))
    out = tmp_path / "agent.zip"
    agent.save(out, replay_buffer=True)
    before, save = out.read_bytes(), agent.save

    def small(path: Path, replay_buffer: bool = False) -> None:
        if replay_buffer or path.parent != tmp_path:
            raise OSError("no space left on device")
        save(path)

    monkeypatch.setattr(agent, "save", small)
    with pytest.raises(OSError, match=r"saved to .*_0_steps_\d+.zip without its experience"):
        save_anywhere(agent, out)
    assert out.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(locals_: Any, globals_: Any) -> None:
        if locals_["self"].num_timesteps == 130:
            raise Killed

    agent = DDPGHERAgent(seed=0, hidden_sizes=(16, 16))
    callback = CheckpointCallback(100, tmp_path, "agent", save_replay_buffer=True)
    with pytest.raises(Killed):
        agent.learn("PointMassGoal-v0", 200, [callback, kill])
    argv = ["train", "--resume", str(tmp_path / "agent_100_steps.zip"), "--no-progress-bar"]
    assert main([*argv, "--episodes", "0"]) == 0
    assert DDPGHERAgent.load(tmp_path / "agent.zip").num_timesteps == 200
