"""The order and the arithmetic of the comparison of one worker with two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import two_cores


def test_rounds_are_interleaved_and_medians_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def timed(workers: int, steps: int, out: Path) -> dict[str, Any]:
        asked.append((workers, steps))
        return {"workers": workers, "whole_s": 100.0 / workers + 10, "work_s": 100.0 / workers}

    monkeypatch.setattr(two_cores, "timed", timed)
    *rows, ratio = two_cores.run(quick=False, seeds=None, out=tmp_path)
    assert asked == [(n, two_cores.STEPS) for n in (1, 2, 2, 1)]
    assert [row["round"] for row in rows] == [0, 0, 1, 1]
    assert (ratio["work"], ratio["whole"]) == (0.5, round(60 / 110, 3))
    two_cores.run(quick=True, seeds=None, out=tmp_path)
    assert asked[4:] == [(1, two_cores.QUICK_STEPS), (2, two_cores.QUICK_STEPS)]
