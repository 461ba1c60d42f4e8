"""What is left of a sweep, told by what is in its folder."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np

from hierebm.cli.training import say
from hierebm.sweeps.files import COMPLETE, FAILED, read_curve, read_result
from hierebm.sweeps.pruning import is_given_up
from hierebm.sweeps.search import Search
from hierebm.sweeps.study import Study, Variant, in_folders
from hierebm.sweeps.trial import Trial


class Queue:
    """Hands out the trials that are not done, one after the other; draws variants when it has none.

    Args:
        study: what is tried.
        folder: of the sweep.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self._search = Search(study, folder) if study.search else None
        self._waiting: deque[Trial] = deque()
        # Drawn, and Optuna does not know yet what came of them.
        self._open: dict[str, Variant] = {}
        for variant in study.variants:
            self._add(variant)
        for variant, is_told in [] if self._search is None else self._search.drawn():
            self._add(variant)
            if not is_told:
                self._open[variant.name] = variant
                self._close(variant.name)

    def _add(self, variant: Variant) -> None:
        self._waiting += [t for t in self.trials_of(variant) if read_result(t.path) is None]

    def variants(self) -> list[Variant]:
        """All that there are so far."""
        drawn = [] if self._search is None else self._search.drawn()
        return [*self.study.variants, *(variant for variant, _ in drawn)]

    def trials_of(self, variant: Variant) -> list[Trial]:
        """All trials of a variant."""
        s, is_drawn = self.study, variant not in self.study.variants
        return [
            Trial(
                folder=str(self.folder / "trials" / in_folders(variant.name)
                           / f"{in_folders(world.name)}-seed{seed}"),
                variant=variant.name, world=world.name, seed=seed, agent=variant.agent,
                settings=variant.settings, env=world.id, env_args=world.args,
                eval_args=world.eval_args, n_envs=s.n_envs, device=s.device,
                total_timesteps=world.total_timesteps, evaluations=s.evaluations,
                eval_episodes=s.eval_episodes, episodes=s.episodes,
                prune_after=s.prune_after if s.prune and is_drawn else 0,
            )
            for seed in s.seeds
            for world in s.envs
        ]  # fmt: skip

    def next(self) -> Trial | None:
        """The next trial; None: there will be no more."""
        while True:
            while self._waiting:
                trial = self._waiting.popleft()
                if not (trial.prune_after and is_given_up(trial.path)):
                    return trial
            variant = None if self._search is None else self._search.draw()
            if variant is None:
                return None
            self._open[variant.name] = variant
            self._add(variant)

    def finished(self, trial: Trial) -> None:
        """A trial has ended: say how. If it was the last of its variant, Optuna is told."""
        say(f"{trial.variant}, {trial.world}, seed {trial.seed}: {_in_words(trial)}")
        self._close(trial.variant)

    def _close(self, name: str) -> None:
        if (variant := self._open.get(name)) is None or self._search is None:
            return
        trials = self.trials_of(variant)
        results = [read_result(trial.path) for trial in trials]
        ended = [r for r in results if r is not None]
        if len(ended) < len(trials) and not is_given_up(trials[0].path):
            return
        del self._open[name]
        if any(result["status"] == FAILED for result in ended):
            self._search.tell(variant, None, [])
            return
        curves = [[row["success"] for row in read_curve(trial.path)] for trial in trials]
        begun = [curve for curve in curves if curve]
        curve = np.mean([c[: min(map(len, begun))] for c in begun], axis=0)
        is_complete = all(result["status"] == COMPLETE for result in ended)
        success = float(np.mean([r["success"] for r in ended])) if is_complete else None
        self._search.tell(variant, success, [float(value) for value in curve])


def _in_words(trial: Trial) -> str:
    result = read_result(trial.path)
    if result is None:
        return "pruned" if trial.prune_after and is_given_up(trial.path) else "not done"
    if result["status"] == COMPLETE:
        return f"success {result['success']:.3f}"
    return f"{result['status']} {result.get('error', '')}".strip()
