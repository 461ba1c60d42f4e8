"""When a variant that Optuna drew is given up: its learning curve is below those of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hierebm.sweeps.files import COMPLETE, PRUNED, read_curve, read_result
from hierebm.sweeps.study import DRAWN


def is_given_up(folder: Path) -> bool:
    """Whether another trial of the same variant was pruned."""
    results = (read_result(path.parent) for path in folder.parent.glob("*/result.json"))
    return any(result is not None and result["status"] == PRUNED for result in results)


def is_behind(folder: Path, prune_after: int) -> bool:
    """Whether the variant of a trial that was just evaluated is to be given up.

    Its curve is the mean over those of its trials that have come as far as this one; it is compared
    with the mean of the same environments and seeds of each variant that has completed them. The
    rule is Optuna's ``MedianPruner``: the best success so far is below the median at this step.

    Args:
        folder: of the trial.
        prune_after: other variants that there must be.
    """
    if is_given_up(folder):
        return True
    n_points = len(read_curve(folder))
    trials = [p.name for p in folder.parent.iterdir() if len(read_curve(p)) >= n_points]
    others = [
        [variant / name for name in trials]
        for variant in sorted(folder.parents[1].glob(f"{DRAWN}*"))
        if variant != folder.parent
    ]
    completed = [paths for paths in others if all(map(_is_complete, paths))]
    own = _mean_curve([folder.parent / name for name in trials], n_points)
    return below_median(own, [_mean_curve(paths, None) for paths in completed], prune_after)


def below_median(
    curve: Sequence[float], others: Sequence[Sequence[float]], prune_after: int
) -> bool:
    """What Optuna's ``MedianPruner`` says of a curve beside those of trials that were completed."""
    import optuna

    with quiet_optuna():
        pruner = optuna.pruners.MedianPruner(n_startup_trials=prune_after)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        for other in others:
            values = dict(enumerate(other))
            study.add_trial(optuna.trial.create_trial(value=other[-1], intermediate_values=values))
        trial = study.ask()
        for step, success in enumerate(curve):
            trial.report(success, step)
        return trial.should_prune()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna tells of warnings only."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _is_complete(folder: Path) -> bool:
    result = read_result(folder)
    return result is not None and result["status"] == COMPLETE


def _mean_curve(folders: Sequence[Path], n_points: int | None) -> list[float]:
    curves = [[row["success"] for row in read_curve(folder)][:n_points] for folder in folders]
    return [float(success) for success in np.mean(curves, axis=0)]
