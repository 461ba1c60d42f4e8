"""The variants that Optuna draws, and what it is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hierebm.sweeps.pruning import quiet_optuna
from hierebm.sweeps.study import DRAWN, Study, Variant

NAME = "search"


class Search:
    """Optuna's study of a folder. It is on the disk: a new process goes on with it.

    Every draw has a generator of its own, seeded by its number: a search that was interrupted draws
    what it would have drawn otherwise, and nothing twice.

    Args:
        study: what is searched.
        folder: of the sweep.

    Raises:
        ImportError: Optuna is missing; says what to do.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend, JournalStorage
        except ImportError as error:
            raise ImportError(
                "search needs Optuna: pip install 'hierebm[sweep]', or name variants with compare"
            ) from error
        self.study = study
        # Of a process that was killed: this folder is ours alone.
        (folder / "optuna.journal.lock").unlink(missing_ok=True)
        with quiet_optuna():
            self.optuna = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
                study_name=NAME,
                direction="maximize",
                load_if_exists=True,
            )
        self._space = {name: _distribution(where) for name, where in study.search.items()}

    def drawn(self) -> list[tuple[Variant, bool]]:
        """What was drawn so far, and whether Optuna was told how it ended."""
        return [
            (self._variant(trial.number, trial.params), trial.state.is_finished())
            for trial in self.optuna.get_trials(deepcopy=False)
        ]

    def draw(self) -> Variant | None:
        """Another variant; None once there are as many as the study wants."""
        import optuna

        drawn = self.optuna.get_trials(deepcopy=False)
        if len(drawn) >= self.study.candidates:
            return None
        seed = (self.study.search_seed * 1_000_003 + len(drawn)) % 2**32
        with quiet_optuna():
            # Drawn in memory, so that it comes to the disk whole or not at all.
            memory = optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            )
            memory.add_trials(drawn)
            params = memory.ask(fixed_distributions=self._space).params
            self.optuna.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING,
                    params=params,
                    distributions=self._space,
                )
            )
        return self._variant(len(drawn), params)

    def tell(self, variant: Variant, success: float | None, curve: Sequence[float]) -> None:
        """How a variant ended.

        Args:
            variant: which one.
            success: mean over its trials; None if it was given up.
            curve: mean of their learning curves; an empty one and no success: it failed.
        """
        from optuna.trial import Trial, TrialState

        number = int(variant.name.removeprefix(DRAWN))
        frozen = self.optuna.get_trials(deepcopy=False)[number]
        trial = Trial(self.optuna, frozen._trial_id)
        for step, value in enumerate(curve):
            if step not in frozen.intermediate_values:
                trial.report(value, step)
        state = TrialState.COMPLETE
        if success is None:
            state = TrialState.PRUNED if curve else TrialState.FAIL
        with quiet_optuna():
            self.optuna.tell(number, success, state=state)

    def _variant(self, number: int, params: Mapping[str, Any]) -> Variant:
        chosen = {k: json.loads(v) if isinstance(v, str) else v for k, v in params.items()}
        return self.study.variant(f"{DRAWN}{number}", chosen)


def _distribution(where: Mapping[str, Any]) -> Any:
    from optuna import distributions

    if "choices" in where:
        # Optuna stores words and numbers; a list of layers is told as text.
        return distributions.CategoricalDistribution([json.dumps(v) for v in where["choices"]])
    low, high, log, step = where["low"], where["high"], bool(where.get("log")), where.get("step")
    if all(isinstance(number, int) for number in (low, high, step or 1)):
        return distributions.IntDistribution(low, high, log=log, step=step or 1)
    return distributions.FloatDistribution(float(low), float(high), log=log, step=step)
