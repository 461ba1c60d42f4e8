"""The jobs behind the benchmark of Stable-Baselines3's models as low level."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")

import hierebm
from benchmarks import sb3_low_level as benchmark
from hierebm import HierarchicalEBMAgent

# Of the high level, which the benchmark leaves as it is by default.
SMALL: dict[str, Any] = {
    "learning_starts": 150,
    "energy_width": 16,
    "energy_batch_size": 16,
    "energy_negatives": 4,
    "energy_train_freq": 400,
    "energy_gradient_steps": 3,
    "pool_size": 200,
    "n_subgoals": 8,
}


@pytest.mark.slow
def test_every_job_gives_its_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hierebm, "HierarchicalEBMAgent", partial(HierarchicalEBMAgent, **SMALL))
    monkeypatch.setattr(benchmark, "QUICK_STEPS", 600)
    monkeypatch.setattr(benchmark, "PIECES", 2)
    monkeypatch.setattr(benchmark, "TASKS", 2)
    monkeypatch.setattr(benchmark, "CURVE_TASKS", 1)
    monkeypatch.setitem(benchmark.SETTINGS, "learning_starts", 150)
    monkeypatch.setitem(benchmark.SETTINGS, "train_freq", 16)
    monkeypatch.setitem(benchmark.SETTINGS, "batch_size", 16)
    monkeypatch.setitem(benchmark.SETTINGS, "policy_kwargs", {"net_arch": [16]})
    assert pickle.loads(pickle.dumps(benchmark.job)) is benchmark.job
    rows = [benchmark.job(method, 0, True) for method in benchmark.METHODS]
    alone, frozen, _ = rows
    methods = benchmark.ALONE, benchmark.FROZEN, benchmark.TRAINED
    assert tuple(row["method"] for row in rows) == methods
    for row in rows:
        steps = [0, 300, 600, 900] if row is frozen else [0, 300, 600]
        assert [point[0] for point in row["curve"]] == steps
        assert row["env_steps"] == steps[-1]
        assert 0.0 <= row["success"] <= 1.0 and 0.0 <= row["near_success"] <= 1.0
    # The frozen model is the other one.
    before = [(steps, success) for row in (alone, frozen) for steps, _, success in row["curve"][:3]]
    assert before[:3] == before[3:]
    errors = [{key for key in row if key.startswith("error_")} for row in rows]
    assert not errors[0] and errors[1] and errors[2]
    benchmark.draw(rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
