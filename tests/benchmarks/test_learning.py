"""The learning benchmark's own measures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from benchmarks import learning
from benchmarks.learning import FAR, FULL, PEER, Case, study_of, subgoal_quality, swept
from hierebm import HierarchicalEBMAgent
from hierebm.sweeps import trial

SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "n_critics": 2,
    "batch_size": 16,
    "learning_starts": 200,
    "train_freq": 20,
    "energy_width": 16,
    "energy_train_freq": 500,
    "energy_gradient_steps": 3,
}


def test_every_case_is_in_a_study() -> None:
    for case in FULL:
        if case.method == PEER:
            continue
        study = study_of([case], [0, 1])
        study.check()
        (variant,), (world,) = study.variants, study.envs
        assert variant.agent == ("ddpg-her" if case.method == "flat" else "hierarchical")
        assert (variant.name, variant.settings) == (case.method, dict(case.settings))
        assert (world.args, world.total_timesteps) == ({"layout": case.layout}, case.steps)
        assert world.eval_args == ({} if case.distance is None else {"distance": [*FAR]})


def test_our_agents_run_as_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"POINTS": 2, "CURVE_TASKS": 2, "TASKS": 4}.items():
        monkeypatch.setattr(learning, name, value)
    monkeypatch.setattr(learning, "side_by_side", lambda: 1)
    monkeypatch.setattr(learning, "subgoal_quality", partial(subgoal_quality, n_pairs=5))
    small = (*SMALL.items(), ("pool_size", 200), ("n_subgoals", 8))
    flat = tuple((k, v) for k, v in SMALL.items() if "energy" not in k)
    cases = [Case("hierarchical", "open", 600, None, small), Case("flat", "u", 200, None, flat)]
    rows = swept(cases, [0], tmp_path)
    assert [(r["method"], r["layout"], r["seed"], r["env_steps"]) for r in rows] == [
        ("hierarchical", "open", 0, 600), ("flat", "u", 0, 200),
    ]  # fmt: skip
    assert [point[0] for point in rows[0]["curve"]] == [0, 300, 600]
    assert rows[0]["path_ratio"] >= 1.0 and rows[0]["wall_s"] == rows[0]["curve"][-1][1]
    # In the same folder, nothing is measured again.
    monkeypatch.setattr(trial, "train", None)
    assert swept(cases, [0], tmp_path) == rows
    learning.draw(rows, tmp_path / "learning.png")


def test_paths_over_subgoals_are_no_shorter_than_the_straight_line() -> None:
    agent = HierarchicalEBMAgent(seed=0, **SMALL)
    agent.learn(gym.make("PointMassGoal-v0"), 800)
    quality = subgoal_quality(agent, 10)
    assert 1.0 <= quality["path_ratio"] < 2.0 and np.isfinite(quality["saddle_nats"])
