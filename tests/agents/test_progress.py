"""The warning that nothing improves: when it comes, and when it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hierebm.agents.progress import ProgressWatch


def first_alarm(
    success: Callable[[int], float],
    landmarks: Callable[[int], int] = lambda step: 0,
    *,
    until: int = 60_000,
    length: int = 100,
    begun: tuple[int, int, int] = (0, 0, 0),
) -> int | None:
    """Steps until the alarm: an episode every ``length`` steps, their successes by expectation."""
    watch, (steps, n_ended, n_successes) = ProgressWatch(*begun), begun
    total = float(n_successes)
    while steps < begun[0] + until:
        steps, n_ended = steps + length, n_ended + 1
        total += success(steps - begun[0])
        if watch.note(steps, n_ended, int(total), landmarks(steps)):
            return steps - begun[0]
    return None


@pytest.mark.parametrize("begun", [(0, 0, 0), (500_000, 3000, 2900)])
def test_it_comes_once_a_long_stretch_was_in_vain(begun: tuple[int, int, int]) -> None:
    assert first_alarm(lambda step: 0.0, begun=begun) == 20_000
    # What was learned first is lost again.
    assert first_alarm(lambda step: 0.4 if step < 9000 else 0.1, begun=begun) == 20_000


def test_few_episodes_prove_nothing() -> None:
    assert first_alarm(lambda step: 0.0, length=1000) == 50_000


@pytest.mark.parametrize(
    "success",
    [
        lambda step: step / 60_000,  # it rises slowly
        lambda step: 0.95 if step > 4000 else 0.2,
        lambda step: 0.7 - step / 200_000,  # at its best, and not low
        lambda step: 0.0 if step < 11_000 else 0.3,
    ],
)
def test_it_does_not_come_while_something_improves(success: Callable[[int], float]) -> None:
    assert first_alarm(success, until=30_000) is None


def test_known_ground_that_grows_is_an_improvement() -> None:
    assert first_alarm(lambda step: 0.0, lambda step: step // 50) is None
    assert first_alarm(lambda step: 0.0, lambda step: min(step // 50, 200)) == 20_000
    # It grew until half of the first stretch.
    assert first_alarm(lambda step: 0.0, lambda step: min(step // 50, 300)) == 30_000
