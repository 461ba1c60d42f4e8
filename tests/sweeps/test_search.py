"""Optuna draws and prunes, and a search that is interrupted goes on as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hierebm
from hierebm.callbacks import evaluation
from hierebm.evaluation import EvaluationResult
from hierebm.sweeps import trial
from hierebm.sweeps.pruning import below_median, is_behind
from hierebm.sweeps.queue import Queue
from hierebm.sweeps.search import Search
from hierebm.sweeps.study import Study
from tests.sweeps.small import TINY, attempts, trials

optuna = pytest.importorskip("optuna")

SEARCH: dict[str, Any] = {
    "actor_lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "train_freq": {"low": 10, "high": 30, "step": 10},
    "hidden_sizes": {"choices": [[8], [8, 8]]},
}


def study(**change: Any) -> Study:
    return Study.of({**TINY, "search": SEARCH, **change})


def success(settings: dict[str, Any]) -> float:
    return 1.0 - abs(settings["train_freq"] - 20) / 20 - 10 * settings["actor_lr"]


def test_an_interrupted_search_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, drawn = Search(study(candidates=14), tmp_path / "a"), []
    while (variant := one.draw()) is not None:
        one.tell(variant, success(variant.settings), [0.0, 0.1])
        drawn.append(variant)
    assert len(drawn) == 14 and len({v.settings["actor_lr"] for v in drawn}) == 14
    again = []
    for k in range(14):
        # A new process each time, killed after the draw every other time.
        other = Search(study(candidates=14), tmp_path / "b")
        variant = other.draw()
        assert variant is not None
        if k % 2:
            other = Search(study(candidates=14), tmp_path / "b")
            assert other.drawn()[-1] == (variant, False)
        other.tell(variant, success(variant.settings), [0.0, 0.1])
        again.append(variant)
    assert again == drawn
    assert Search(study(candidates=14), tmp_path / "b").draw() is None
    # More may be asked for later.
    assert Search(study(candidates=15), tmp_path / "b").draw() is not None
    for variant in drawn:
        assert 1e-4 <= variant.settings["actor_lr"] <= 1e-2
        assert variant.settings["train_freq"] in (10, 20, 30)
        assert variant.settings["hidden_sizes"] in ([8], [8, 8])


def test_what_optuna_was_told_is_in_its_own_storage(tmp_path: Path) -> None:
    result = hierebm.sweep(study(candidates=3, seeds=[0, 1], prune=False), tmp_path, jobs=1)
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    storage = optuna.storages.JournalStorage(journal)
    stored = optuna.load_study(study_name="search", storage=storage)
    best = {line.variant.name: line.success for line in result.lines}
    assert [trial.value for trial in stored.trials] == [best[f"search-{k}"] for k in range(3)]
    assert all(len(trial.intermediate_values) == 4 for trial in stored.trials)
    assert all(attempts(folder) == [0] for folder in trials(tmp_path)) and len(best) == 3


def made(root: Path, variant: str, trial: str, curve: list[float], status: str = "") -> Path:
    """A folder as a trial leaves it."""
    folder = root / "trials" / variant / trial
    folder.mkdir(parents=True)
    rows = [{"env_steps": k, "seconds": k, "success": value} for k, value in enumerate(curve)]
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status:
        result = {"status": status, "success": curve[-1]}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_variant_is_compared_in_the_same_worlds_with_the_same_seeds(tmp_path: Path) -> None:
    # The easy world is .9 for everybody, the hard one tells them apart.
    for k, hard in enumerate((0.2, 0.4, 0.6)):
        made(tmp_path, f"search-{k}", "easy", [0.5, 0.9, 0.9], "complete")
        made(tmp_path, f"search-{k}", "hard", [0.0, hard, hard], "complete")
    made(tmp_path, "named", "hard", [1.0, 1.0, 1.0], "complete")
    worse = made(tmp_path, "search-3", "hard", [0.0, 0.3])
    assert is_behind(worse, prune_after=3)
    assert not is_behind(worse, prune_after=4)
    assert not is_behind(made(tmp_path, "search-4", "hard", [0.0, 0.5]), prune_after=3)
    # Its other trials count as far as they have come: .95 and .3 beside .9 and .4.
    made(tmp_path, "search-3", "easy", [0.5, 1.0, 1.0], "complete")
    assert not is_behind(worse, prune_after=3)
    # What was given up in one world is so in all.
    made(tmp_path, "search-5", "easy", [0.0], "pruned")
    assert is_behind(made(tmp_path, "search-5", "hard", [1.0, 1.0]), prune_after=3)


def test_the_rule_is_optunas() -> None:
    others = [[0.0, 0.2], [0.1, 0.4], [0.2, 0.9]]
    assert below_median([0.0, 0.3], others, 3) and not below_median([0.0, 0.4], others, 3)
    # The best so far counts, not the last.
    assert not below_median([0.5, 0.3], others, 3)


def test_what_is_given_up_is_not_begun_in_other_worlds(tmp_path: Path) -> None:
    queue = Queue(study(candidates=2, seeds=[0, 1, 2], prune_after=1), tmp_path)
    first = queue.next()
    assert first is not None and first.variant == "search-0"
    made(tmp_path, "search-0", first.path.name, [0.0], "pruned")
    queue.finished(first)
    later = queue.next()
    assert later is not None and later.variant == "search-1"
    # A new process sees the same.
    again = Queue(study(candidates=2, seeds=[0, 1, 2], prune_after=1), tmp_path)
    left = [again.next() for _ in range(4)]
    assert [None if t is None else (t.variant, t.seed) for t in left] == [
        ("search-1", 0), ("search-1", 1), ("search-1", 2), None,
    ]  # fmt: skip


def test_a_sweep_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With learning curves that are known: straight lines up to a success that a setting tells."""

    def evaluated(model: Any, *_: Any, **__: Any) -> EvaluationResult:
        rate = model.num_timesteps / 200 * model.config.batch_size / 32
        return EvaluationResult(rate, (0.0, 1.0), rate, (0.0, 1.0), -1.0, 0.0, 1.0, [])

    for module in (evaluation, trial):
        monkeypatch.setattr(module, "evaluate", evaluated)
    given = study(candidates=8, prune_after=2, search={"batch_size": {"low": 8, "high": 32}})
    result = hierebm.sweep(given, tmp_path, jobs=1)
    best = sorted(result.lines, key=lambda line: int(line.variant.name.removeprefix("search-")))
    complete: list[int] = []
    for line in best:
        size, n_points = line.variant.settings["batch_size"], len(line.trials[0].curve)
        # A line below the median is so at its first point.
        if len(complete) >= 2 and size < np.median(complete):
            assert (line.status, n_points) == ("pruned", 1)
        else:
            assert (line.status, n_points) == ("complete", 4)
            complete.append(size)
    assert 2 < len(complete) < 8
    assert result.best is not None and result.best.settings["batch_size"] == max(complete)
