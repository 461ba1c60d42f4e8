"""Run a study, or what is left of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierebm.cli.training import say
from hierebm.nn.threads import available_cores
from hierebm.sweeps.files import COMPLETE, alone, read_json, read_result, write_json
from hierebm.sweeps.queue import Queue
from hierebm.sweeps.report import Line, draw, lines_of, table
from hierebm.sweeps.study import Study, Variant
from hierebm.sweeps.work import complain, run_all

# What may change when a sweep goes on: how many variants are drawn, and what a trial takes up.
_MAY_CHANGE = ("candidates", "cpus", "gpus")


@dataclass(frozen=True)
class SweepResult:
    """What came of a sweep.

    Attributes:
        folder: where all of it is, with ``table.md``, ``curves.png`` and ``results.json``.
        lines: of the table, the best variant first.
    """

    folder: Path
    lines: list[Line]

    @property
    def best(self) -> Variant | None:
        """The variant with the highest success over all environments; None: none is complete."""
        return next((line.variant for line in self.lines if line.status == COMPLETE), None)

    def __str__(self) -> str:
        return table(self.lines)


def sweep(
    study: Study | dict[str, Any] | str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    jobs: int | None = None,
    address: str | None = None,
    may_import: Sequence[str] = (),
) -> SweepResult:
    """Run a study: every variant in every environment with every seed; then table and picture.

    In a folder where a sweep was stopped or killed, the trials that are done stay, those that were
    running go on from their newest checkpoints, and the others follow.

    Args:
        study: a :class:`~hierebm.sweeps.study.Study`, its fields, or a YAML or JSON file of them.
        folder: where all of it goes; default: ``sweeps/NAME``, after the file.
        jobs: trials at the same time; default: as many as there are cores. 1 runs them in this
            process, without Ray.
        address: of a Ray cluster, which then runs as many as it has room for; all its machines have
            to see the folder. ``local`` is this machine.
        may_import: modules that a file may name, as ``MODULE:ENV_ID``.

    Raises:
        OSError, TypeError, ValueError: the study or the folder is none, or another sweep's.
        ImportError: Ray or Optuna is needed and missing; says what to install.
        TimeoutError: another process runs this sweep.
        RuntimeError: trials have failed, or are not done; the others are.
    """
    if folder is None:
        named = study if isinstance(study, (str, os.PathLike)) else "study"
        folder = Path("sweeps") / Path(named).stem
    folder, study = Path(folder).absolute(), Study.of(study, may_import)
    study.check()
    with alone(folder, patience=5.0):
        _keep(study, folder)
        queue = Queue(study, folder)
        run_all(queue, jobs or available_cores(), address, study.cpus, study.gpus)
        result = SweepResult(folder, lines_of(queue, study))
        (folder / "table.md").write_text(table(result.lines, markdown=True) + "\n")
        write_json(folder / "results.json", [line.to_dict() for line in result.lines])
        draw(result.lines, study, folder / "curves.png")
    say(f"{result}\n\nwrote {folder}/table.md, curves.png and results.json")
    trials = [Path(trial.folder) for line in result.lines for trial in line.trials]
    complain({path: read_result(path) for path in trials})
    return result


def _keep(study: Study, folder: Path) -> None:
    """Write the study to its folder. Raises ValueError where another one is in there."""
    before, now = read_json(folder / "study.json"), json.loads(json.dumps(study.to_dict()))
    differ = [k for k in now if k not in _MAY_CHANGE and before and before.get(k) != now[k]]
    if differ:
        raise ValueError(
            f"{folder} holds a sweep with other {', '.join(differ)}: choose another folder, or go "
            "on with the same study"
        )
    write_json(folder / "study.json", now)
