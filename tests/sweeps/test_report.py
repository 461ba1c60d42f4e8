"""The table's figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hierebm.sweeps.report import Ended, Line, interval_of, table
from hierebm.sweeps.study import Variant


def ended(*success: float, status: str = "complete") -> Ended:
    rows = [
        {"env_steps": 100 * (k + 1), "seconds": k + 0.5, "success": s}
        for k, s in enumerate(success)
    ]
    return Ended("folder", 0, status, success[-1], rows)


def line(*trials: Ended, name: str = "a", **settings: float) -> Line:
    values = [t.success for t in trials]
    variant = Variant(name, "ddpg-her", {"tau": 0.1, **settings})
    return Line(
        variant, "open", "complete", float(np.mean(values)), interval_of(values), 0.9, [*trials]
    )


def test_the_interval_is_students() -> None:
    # Mean .8, standard error .1 / sqrt(3), quantile 4.303 for two degrees of freedom.
    assert interval_of([0.7, 0.8, 0.9]) == pytest.approx((0.8 - 0.2484, 1.0), abs=1e-3)
    assert interval_of([1.0, 1.0]) == (1.0, 1.0)
    assert all(map(math.isnan, interval_of([0.5])))


def test_steps_and_seconds_are_those_of_the_first_point_that_is_good_enough() -> None:
    some = line(ended(0.5, 0.9, 0.8), ended(0.95, 1.0, 1.0), ended(0.1, 0.2, 0.3))
    assert some.to_threshold("env_steps") == (200.0, 2) and some.to_threshold("seconds") == (1.5, 2)
    few = line(ended(0.5, 0.9), ended(0.1, 0.2), ended(0.1, 0.2))
    assert few.to_threshold("env_steps") == (math.inf, 1)
    assert few.to_dict()["env_steps"] is None and few.to_dict()["reached"] == 1
    text = table([some, few])
    assert "200 (2 of 3)" in text and " 1.5 (2 of 3)" in text
    assert "not reached (1 of 3)" in text and "env steps to .9" in text


def test_only_settings_that_differ_are_told() -> None:
    text = table([line(ended(1.0), alpha=1.5), line(ended(0.5), name="b", alpha=2.0)])
    assert "alpha=1.5" in text and "alpha=2" in text and "tau" not in text
