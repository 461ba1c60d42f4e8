"""A larger replay buffer holds the same experience, and goes on as one of that size would."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.replay import EpisodeReplay
from hierebm.replay.growing import enlarged, spread


def _fill(replay: EpisodeReplay, steps: range) -> None:
    """Steps of all environments, their episodes of different lengths."""
    n = replay.n_envs
    for t in steps:
        ended = np.array([(t + 1) % (5 + env) == 0 for env in range(n)])
        here = np.full((n, 1), t, np.float32) + np.arange(n, dtype=np.float32)[:, None] / 8
        failure = ended & (t % 2 == 0)
        replay.add(here, here, -here, here, here + 1, here + 1, failure, ended)


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_steps", [0, 7, 100])
def test_it_holds_the_same_and_goes_on(n_envs: int, n_steps: int) -> None:
    small = EpisodeReplay(20 * n_envs, 1, 1, 1, n_envs)
    _fill(small, range(n_steps))
    large = enlarged(small, 30)
    assert large.n_slots == 50 and large.n_added == small.n_added
    assert large.n_transitions == small.n_transitions
    rows, same = small.newest_rows(1000), large.newest_rows(1000)
    for ours, theirs in zip(small.transitions(rows), large.transitions(same), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(small.failure[rows], large.failure[same])
    assert np.array_equal(small.steps_left(rows), large.steps_left(same))
    assert np.array_equal(small.arc_length[rows], large.arc_length[same])
    # What comes later: the newest rows are those of a buffer that was large from the beginning.
    always = EpisodeReplay(50 * n_envs, 1, 1, 1, n_envs)
    _fill(always, range(n_steps + 20))
    _fill(large, range(n_steps, n_steps + 20))
    rows, same = always.newest_rows(20 * n_envs), large.newest_rows(20 * n_envs)
    for ours, theirs in zip(always.transitions(rows), large.transitions(same), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(always.steps_left(rows), large.steps_left(same))
    # And the small one is what it was.
    assert small.n_slots == 20


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 5)])
@pytest.mark.parametrize("n_steps", [0, 7, 100])
def test_other_environments_get_all_episodes(before: int, after: int, n_steps: int) -> None:
    replay = EpisodeReplay(20 * before, 1, 1, 1, before)
    replay.note_data(bytes(16), replay.time.copy())
    _fill(replay, range(n_steps))
    held = replay.holds_data(bytes(16))
    result = spread(replay, after, 9 * after)
    assert result.n_envs == after and result.n_added == replay.n_added
    assert result.n_transitions == replay.n_transitions
    assert result.holds_data(bytes(16)) or not held
    rows, same = (np.flatnonzero(r.has_action) for r in (replay, result))
    # By what was done, which is another thing in every environment and step.
    rows, same = rows[replay.action[rows, 0].argsort()], same[result.action[same, 0].argsort()]
    for ours, theirs in zip(replay.transitions(rows), result.transitions(same), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(replay.failure[rows], result.failure[same])
    assert np.array_equal(replay.steps_left(rows), result.steps_left(same))
    _fill(result, range(n_steps, n_steps + 20))
    newest = result.action[result.newest_rows(after), 0].astype(int)
    assert (
        set(newest) <= {n_steps + 19, n_steps + 20}
        and result.n_added == replay.n_added + 20 * after
    )
