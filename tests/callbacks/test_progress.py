"""The progress bar counts env steps."""

from __future__ import annotations

import sys

from hierebm.callbacks import ProgressBarCallback
from hierebm.callbacks.progress import ProgressLines
from tests.callbacks.agent import Agent


def test_progress_bar_counts_env_steps_and_closes(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    callback = ProgressBarCallback()
    agent = Agent(n_envs=4)
    agent.num_timesteps = 8
    totals = []

    def note(locals_, globals_):
        totals.append((callback._bar.n, callback._bar.total))

    agent.learn(20, [callback, note])
    assert totals == [(4, 12), (8, 12), (12, 12)]
    assert callback._bar is None
    for reached, expected in (
        (0.5, {"success": "0.50"}),
        (0.75, {"success": "0.50", "reached": "0.75"}),
    ):
        agent.logger.latest.update({"rollout/success_rate": 0.5, "rollout/reached_rate": reached})
        assert callback._rates() == expected
    assert "12/12" in capfd.readouterr().err
    Agent().learn(3, progress_bar=True)
    assert "3/3" in capfd.readouterr().err


def test_a_log_file_gets_lines_and_few_of_them(capfd):
    agent = Agent()
    agent.logger.latest["rollout/success_rate"] = 0.5
    agent.learn(2000, progress_bar=True)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 20 and all("\r" not in line for line in lines)
    assert lines[9].startswith("1000 of 2000 (50%) steps in ")
    assert lines[9].endswith(" s left, success 0.50")
    ProgressLines(None).update(10_000)
    assert capfd.readouterr().err.startswith("10000 steps in 0 s")
