"""Work side by side: on the cores of this machine, or on a cluster, run by Ray Tune.

Ray Tune starts the trials, restarts those whose worker has died, and stops with the sweep. What is
done is told by the folder of the sweep alone: a search that Ray restores is as old as its last
snapshot, and repeats trials that have ended since.
"""

from __future__ import annotations

import base64
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from hierebm.sweeps.files import Row
from hierebm.sweeps.source import Source, Work

# Of the folder where Tune keeps its own files; what a driver that was killed has left is removed.
SCRATCH = ".ray-"
# How often a trial is started again after its worker has died.
RESTARTS = 3
# How often Ray is started: it waits 30 seconds for itself, whatever else the machine does.
STARTS = 3


def run_all(source: Source, jobs: int, address: str | None, cpus: float, gpus: float) -> None:
    """Do what is left; see :func:`hierebm.sweeps.work.run_all`."""
    # Read when Ray is imported: no report home, none of Tune's tables beside ours, workers that are
    # no less nice than other processes (at Ray's 15 their seconds tell of the others), and that
    # stay where they are started: what they are given may name files and modules from there.
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_AIR_NEW_OUTPUT", "0"), ("RAY_worker_niceness", "0"),
        ("RAY_CHDIR_TO_TRIAL_DIR", "0"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    try:
        from ray import tune
        from ray.tune.search import Searcher
    except ImportError as error:
        raise ImportError(
            "running trials side by side needs Ray: pip install 'hierebm[sweep]', or run them one "
            "after the other with --jobs 1"
        ) from error

    class Waiting(Searcher):  # type: ignore[misc]
        """Gives Ray Tune what the source hands out."""

        def __init__(self) -> None:
            super().__init__()
            self.given: dict[str, Work] = {}

        def suggest(self, trial_id: str) -> Any:
            """The next trial."""
            if (work := source.next()) is None:
                return Searcher.FINISHED
            self.given[trial_id] = work
            # As text: Tune writes the configuration of a trial to files.
            return {"work": base64.b64encode(pickle.dumps(work)).decode()}

        def on_trial_complete(
            self, trial_id: str, result: Row | None = None, error: bool = False
        ) -> None:
            """Look at what it left."""
            source.finished(self.given[trial_id])

        def save(self, checkpoint_path: str) -> None:
            """Everything is in the folder of the sweep."""

        def restore(self, checkpoint_path: str) -> None:
            """As above."""

    def train(config: dict[str, Any]) -> None:
        work: Work = pickle.loads(base64.b64decode(config["work"]))
        work.run(tune.report)

    for left in source.folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    with (
        _ray(jobs * cpus, address),
        TemporaryDirectory(dir=source.folder, prefix=SCRATCH) as scratch,
    ):
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=Waiting(),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
            ),
        )
        tuner.fit()


@contextmanager
def _ray(cpus: float, address: str | None) -> Iterator[None]:
    """Ray on this machine or at an address; one that is running already stays as it is."""
    import ray

    if ray.is_initialized():
        yield
        return
    is_here = address in (None, "local")
    here: dict[str, Any] = (
        {"num_cpus": max(1, round(cpus)), "include_dashboard": False} if is_here else {}
    )
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **here)
            break
        except Exception as error:
            ray.shutdown()
            if attempt == STARTS:
                told = " ".join(str(error).split())
                raise RuntimeError(
                    f"Ray did not start ({told:.300}): try again when the machine is less busy, or "
                    "run the trials one after the other with --jobs 1"
                ) from error
    try:
        yield
    finally:
        ray.shutdown()
