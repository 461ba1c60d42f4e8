"""The transition map of many axes sees a wall that two of them make, and is saved."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.planning.graph.many_axes import ManyAxesMap, make_transition_map
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.replay import EpisodeReplay
from tests.many_axes import STEP

SCALE = np.full(6, STEP, np.float32)


@pytest.fixture(scope="module")
def replay() -> EpisodeReplay:
    """Held random actions in six axes; a wall four steps thick lies across the first of them, with
    a door where the second is above 0.5."""
    rng, n = np.random.default_rng(0), 6000
    at = np.zeros((n, 6), np.float32)
    at[0, 0] = -0.5
    for t in range(1, n):
        if t % 10 == 1:
            action = rng.uniform(-STEP, STEP, 6)
        at[t] = np.clip(at[t - 1] + action, -1.0, 1.0)
        if abs(at[t, 0]) < 0.2 and at[t, 1] <= 0.5:
            at[t, :2] = at[t - 1, :2]
    result, ends = EpisodeReplay(n + 3, 6, 6, 1, 1), np.arange(n) == n - 1
    result.add_episodes(at, at, at, np.zeros((n, 1), np.float32), ends)
    return result


def _learned(world: TransitionMap, replay: EpisodeReplay) -> TransitionMap:
    for part in np.array_split(replay.newest_rows(6000), 4):
        world.add(replay, part)
    world.search()
    return world


def test_few_axes_have_the_map_of_all_of_them() -> None:
    assert type(make_transition_map(SCALE[:3])) is TransitionMap
    assert type(make_transition_map(SCALE)) is ManyAxesMap


def test_a_wall_between_two_axes_is_seen(replay: EpisodeReplay) -> None:
    pairs, together = _learned(ManyAxesMap(SCALE), replay), _learned(TransitionMap(SCALE), replay)
    rng = np.random.default_rng(1)
    source = rng.uniform(-0.6, 0.6, (200, 6)).astype(np.float32)
    target = source + rng.uniform(-0.1, 0.1, (200, 6)).astype(np.float32)
    # From one side of the wall to the other, far from the door; and along it.
    source[:, 0], source[:, 1] = -0.4, rng.uniform(-0.8, -0.3, 200)
    across, along = target.copy(), target.copy()
    across[:, 0], along[:, 0] = 0.4, -0.4
    across[:, 1] = along[:, 1] = source[:, 1]
    predicted = np.full(200, 8.0, np.float32)
    verified = [pairs.verify(source, to, predicted)[1].mean() for to in (across, along)]
    assert verified[0] < 0.1 and verified[1] > 0.8
    # Landmarks of all axes together are farther apart than the wall is long.
    assert together.verify(source, across, predicted)[1].mean() > 0.3
    assert pairs.may_lead(source[0], across[0])
    least = pairs.least_steps(source[:20], across[:20])
    assert np.array_equal(np.diag(least), np.maximum(pairs.steps(source, across)[:20] - 4.0, 0.0))


def test_it_is_restored_and_files_from_before_are_read(replay: EpisodeReplay) -> None:
    world, again = _learned(ManyAxesMap(SCALE), replay), ManyAxesMap(SCALE)
    points = replay.achieved_goal[replay.newest_rows(60)]
    arrays = world.state_dict()
    again.load_state_dict(arrays)
    assert np.array_equal(world.least_steps(points, points), again.least_steps(points, points))
    assert np.array_equal(world.steps(points, points[::-1]), again.steps(points, points[::-1]))
    older = ManyAxesMap(SCALE)
    older.load_state_dict({k: v for k, v in arrays.items() if not k.startswith("axes_")})
    together = _learned(TransitionMap(SCALE), replay)
    assert np.array_equal(together.steps(points, points[::-1]), older.steps(points, points[::-1]))
    damaged = dict(arrays)
    del damaged["axes_0_1/landmarks"]
    with pytest.raises(ValueError, match="landmarks"):
        again.load_state_dict(damaged)
