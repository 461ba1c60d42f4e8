"""Failed tries are recognised where they would be repeated, and only there."""

from __future__ import annotations

import numpy as np

from hierebm.planning.failures import goes_again, has_failed

STEP = np.array([0.1, 0.1], np.float32)
LINE = np.stack([np.linspace(0, 2, 9), np.zeros(9)], 1).astype(np.float32)


def test_a_plan_repeats_a_try_where_it_goes_straight_the_same_way() -> None:
    there, back = (LINE[2], LINE[6]), (LINE[6], LINE[2])
    assert goes_again(LINE, [back, there], STEP)
    assert not goes_again(LINE, [back], STEP) and not goes_again(LINE, [], STEP)
    bow = np.sin(np.linspace(0, np.pi, 9))[:, None] * np.array([0.0, 1.5])
    assert not goes_again((LINE + bow).astype(np.float32), [(LINE[0], LINE[8])], STEP)


def test_a_point_has_failed_from_near_where_it_was_missed() -> None:
    failed = [(LINE[0], LINE[4] + 0.1)]
    expected = [False] * 4 + [True] * 2 + [False] * 3
    near = LINE[0] + 0.1
    assert has_failed(near, LINE, failed, STEP, same_way=False).tolist() == expected
    # As far and farther in the same direction, the same wall is in the way.
    assert has_failed(LINE[0], LINE, failed, STEP).tolist() == [False] * 3 + [True] * 6
    assert not has_failed(LINE[0], LINE @ [[0, 1], [1, 0]], failed, STEP).any()
    assert not has_failed(LINE[2], LINE, failed, STEP).any()
