"""The progress bar counts env steps."""

from __future__ import annotations

from hierebm.callbacks import ProgressBarCallback
from tests.callbacks.agent import Agent


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
    for reached, expected in (
        (0.5, {"success": "0.50"}),
        (0.75, {"success": "0.50", "reached": "0.75"}),
    ):
        agent.logger.latest.update({"rollout/success_rate": 0.5, "rollout/reached_rate": reached})
        assert callback._rates() == expected
    assert "12/12" in capfd.readouterr().err
    Agent().learn(3, progress_bar=True)
    assert "3/3" in capfd.readouterr().err
