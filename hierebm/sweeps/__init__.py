"""Studies: environments x seeds x settings, searched by Optuna and run by Ray Tune."""

from __future__ import annotations

from hierebm.sweeps.calls import run_calls
from hierebm.sweeps.run import SweepResult, sweep
from hierebm.sweeps.study import Study, World

__all__ = ["Study", "SweepResult", "World", "run_calls", "sweep"]
