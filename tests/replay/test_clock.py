"""The clock: how long actions are held, from how far a step goes and what counts as reached."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.replay import EpisodeReplay
from hierebm.replay.clock import measure_action_repeat

TOLERANCE = np.full(2, 0.5, np.float32)


def _moving(speed: float | list[float], share: float = 1.0, n: int = 400) -> EpisodeReplay:
    """Episodes of 50 steps at up to ``speed`` a step, in a share of the steps."""
    rng = np.random.default_rng(0)
    replay = EpisodeReplay(2 * n, 2, 2, 1)
    at = np.zeros((1, 2), np.float32)
    for t in range(n):
        heading = rng.uniform(0, 2 * np.pi)
        length = np.sqrt(rng.random()) * (rng.random() < share)
        there = at + np.float32(speed) * length * np.array([[np.cos(heading), np.sin(heading)]])
        there = there.astype(np.float32)
        nothing, ended = np.zeros((1, 1), np.float32), np.array([t % 50 == 49])
        replay.add(at, at, at, nothing, there, there, np.zeros(1, bool), ended)
        at = there
    return replay


@pytest.mark.parametrize(("speed", "repeat"), [(0.3, 1), (0.12, 4), (0.06, 8), (1.0, 1)])
def test_a_step_goes_at_most_as_far_as_the_tolerance(speed: float, repeat: int) -> None:
    found = measure_action_repeat(_moving(speed), TOLERANCE, None)
    assert found == repeat
    assert found == 1 or found * speed <= 0.53


def test_the_unit_of_length_does_not_matter() -> None:
    metres = measure_action_repeat(_moving(0.1), TOLERANCE, 500)
    assert metres == measure_action_repeat(_moving(1e-4), TOLERANCE * np.float32(1e-3), 500)


def test_short_episodes_keep_at_least_fifty_steps() -> None:
    assert measure_action_repeat(_moving(0.01), TOLERANCE, 300) == 6
    assert measure_action_repeat(_moving(0.01), TOLERANCE, 40) == 1


def test_what_is_pushed_now_and_then_says_nothing_of_speed() -> None:
    assert measure_action_repeat(_moving(0.002, share=0.1), TOLERANCE, None) == 1
    one_axis = _moving([0.1, 1e-9])
    assert measure_action_repeat(one_axis, TOLERANCE, None) >= 5, "only the axis that moves counts"


def test_nothing_that_moves_at_all_leaves_one() -> None:
    assert measure_action_repeat(_moving(0.0), TOLERANCE, 100) == 1
