"""The map of experience: walls that no trajectory crossed stay uncrossed, and it resumes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import floyd_warshall

from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.planning.landmark_ways import LandmarkWays
from hierebm.replay import EpisodeReplay
from hierebm.types import BoolArray, FloatArray

STEP = np.array([0.2, 0.2], np.float32)


def _walks(seed: int = 0, steps: int = 600, n: int = 40) -> EpisodeReplay:
    """Drifting walks in [0, 4]^2 with a wall of width 0.5 at x = 2, open above y = 3."""
    rng = np.random.default_rng(seed)
    replay = EpisodeReplay(steps * n * 2, 2, 2, 1, n)
    free = lambda p: (np.abs(p[:, 0] - 2.0) >= 0.25) | (p[:, 1] > 3.0)  # noqa: E731
    at = rng.uniform(0.0, 4.0, (n, 2)).astype(np.float32)
    at[~free(at), 1] = 3.5
    heading = rng.uniform(0, 2 * np.pi, n)
    for t in range(steps):
        turn = rng.random(n) < 0.15
        heading[turn] = rng.uniform(0, 2 * np.pi, int(turn.sum()))
        to = at + 0.2 * np.stack([np.cos(heading), np.sin(heading)], 1).astype(np.float32)
        stays = ~free(to) | (to < 0).any(1) | (to > 4).any(1)
        to = np.where(stays[:, None], at, to)
        ended = np.full(n, (t + 1) % 50 == 0)
        replay.add(at, at, to, np.zeros((n, 1), np.float32), to, to, np.zeros(n, bool), ended)
        at = to
    return replay


def _true_steps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    straight = np.linalg.norm(a - b, axis=1)
    gap = np.array([2.0, 3.0])
    around = np.linalg.norm(a - gap, axis=1) + np.linalg.norm(b - gap, axis=1)
    return np.where((a[:, 0] < 2) == (b[:, 0] < 2), straight, around) / 0.2


def test_experience_verifies_what_is_true_and_nothing_through_the_wall() -> None:
    replay = _walks()
    world = TransitionMap(STEP)
    world.add(replay, replay.newest_rows(replay.capacity))
    world.search()
    rng = np.random.default_rng(1)
    a, b = (replay.achieved_goal[replay.sample_rows(4000, rng)] for _ in range(2))
    straight = np.linalg.norm(a - b, axis=1) / 0.2
    near = straight < 8
    a, b, straight = a[near], b[near], straight[near]
    true = _true_steps(a, b)
    honest = true < straight + 1
    assert world.verify(a, b, true)[1][honest].mean() > 0.98
    through = true > 3 * straight + 12
    assert through.sum() > 20
    assert world.verify(a, b, straight)[1][through].mean() == 0.0


def test_ways_over_hops_lead_round_the_wall_and_are_verified() -> None:
    replay = _walks()
    world = TransitionMap(STEP)
    world.add(replay, replay.newest_rows(replay.capacity))
    start, goal = np.array([[1.0, 0.5], [3.0, 0.5]], np.float32)
    assert not len(world.hops()[0]), "nothing is known before a search"
    world.search()

    def dear(source: FloatArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
        price = 50.0 * np.abs((target - source) / STEP).max(-1)
        return price, np.zeros(len(price), np.bool_)

    ways = LandmarkWays(*world.hops(), world.spacing, STEP, dear)
    first, *others = ways.find(start, goal, [], 3, np.random.default_rng(0))
    way = first.points
    np.testing.assert_array_equal(way[[0, -1]], np.stack([start, goal]))
    assert first.is_verified and way[:, 1].max() > 2.8 and len(way) > 5
    true = _true_steps(way[:-1], way[1:])
    assert world.verify(way[:-1], way[1:], true)[1].all()
    shortest = 0.2 * _true_steps(start[None], goal[None])
    assert np.linalg.norm(np.diff(way, axis=0), axis=1).sum() < 1.4 * shortest
    assert all(other.is_verified for other in others)
    beyond = ways.find(start, goal + 10.0, [], 1, np.random.default_rng(0))[0]
    assert not beyond.is_verified and np.array_equal(beyond.points[-1], goal + 10.0)


def test_what_is_known_before_a_prediction_bounds_what_is_verified_after_it() -> None:
    replay = _walks(steps=200)
    world = TransitionMap(STEP)
    points = replay.achieved_goal[replay.sample_rows(120, np.random.default_rng(1))]
    points[:5] += 10.0
    assert np.isinf(world.least_steps(points, points[:50])).all()
    assert not world.may_lead(points[10], points[11])
    world.add(replay, replay.newest_rows(replay.capacity))
    world.search()
    least = world.least_steps(points, points[:50])
    i, j = (x.ravel() for x in np.indices(least.shape))
    verified = np.zeros(least.shape, np.bool_)
    for predicted in (1.0, 4.0, 8.0, 16.0, 40.0):
        steps, by = world.verify(points[i], points[j], np.full(len(i), predicted, np.float32))
        assert (steps[by] >= least.ravel()[by]).all()
        verified |= by.reshape(least.shape)
    assert (verified == np.isfinite(least)).all()
    assert np.isinf(least[:5]).all() and np.isfinite(least[5:]).mean() > 0.2
    leads = np.array([[world.may_lead(a, b) for b in points[:10]] for a in points[:10]])
    assert not leads[:5].any() and leads[5:, 5:].all()
    assert (leads | ~verified[:10, :10]).all()


def test_experience_grows_piece_by_piece_and_resumes() -> None:
    replay = _walks(steps=200)
    whole, pieces = TransitionMap(STEP), TransitionMap(STEP)
    rows = replay.newest_rows(replay.capacity)
    whole.add(replay, rows)
    for part in np.array_split(rows, 5):
        pieces.add(replay, part)
    whole.search()
    pieces.search()
    rng = np.random.default_rng(1)
    a, b = (replay.achieved_goal[replay.sample_rows(500, rng)] for _ in range(2))
    eight = np.full(500, 8.0, np.float32)
    agree = whole.verify(a, b, eight)[1] == pieces.verify(a, b, eight)[1]
    assert agree.mean() > 0.9
    restored = TransitionMap(STEP)
    restored.load_state_dict(pieces.state_dict())
    assert np.array_equal(restored.steps(a, b), pieces.steps(a, b))
    assert np.array_equal(restored.visits, pieces.visits)


def test_without_experience_nothing_is_verified() -> None:
    points = np.zeros((3, 2), np.float32)
    assert not TransitionMap(STEP).verify(points, points, np.ones(3, np.float32))[1].any()
    assert TransitionMap(STEP).frontier(points[0], 10.0, np.random.default_rng(0)) is None


def test_where_trajectories_were_faster_predictions_are_corrected() -> None:
    replay = _walks()
    world = TransitionMap(STEP)
    world.add(replay, replay.newest_rows(replay.capacity))
    world.search()
    a = np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)
    b = np.array([[1.5, 0.5], [3.5, 0.5]], np.float32)
    steps, verified = world.verify(a, b, np.array([30.0, 30.0], np.float32))
    assert 5.0 <= steps[0] <= 12.0, "five steps at full speed, predicted were thirty"
    assert 24.0 <= steps[1] <= 30.0, "29 steps around the wall"
    assert verified.tolist() == [True, True]


def test_where_the_fastest_took_longer_predictions_are_corrected() -> None:
    # One walk at full speed: ten steps up, four to the right, ten down.
    moves = np.repeat([[0.0, 0.2], [0.2, 0.0], [0.0, -0.2]], [10, 4, 10], axis=0)
    at = np.concatenate([np.zeros((1, 2)), moves.cumsum(0)]).astype(np.float32)
    replay = EpisodeReplay(100, 2, 2, 1, 1)
    for t, (here, there) in enumerate(zip(at[:-1, None], at[1:, None], strict=True)):
        ended = np.full(1, t == len(moves) - 1)
        replay.add(here, here, there, np.zeros((1, 1)), there, there, np.zeros(1, bool), ended)
    world = TransitionMap(STEP)
    world.add(replay, replay.newest_rows(len(moves)))
    world.search()
    ends = np.repeat(at[:1], 4, 0), np.repeat(at[-1:], 4, 0)
    known = world.steps(*ends)
    assert (known >= 16.0).all() and (known <= 28.0).all()
    said = np.array([3.0, 9.0, 14.0, 40.0], np.float32)
    steps, verified = world.verify(*ends, said)
    # Rounding to landmarks explains two steps at either end; the unverified stays as predicted.
    np.testing.assert_array_equal(verified, [False, True, True, True])
    np.testing.assert_array_equal(steps, [3.0, known[1] - 4.0, 14.0, known[3] + 2.0])


def test_exploration_goes_where_few_have_been() -> None:
    replay = _walks()
    world = TransitionMap(STEP)
    world.add(replay, replay.newest_rows(replay.capacity))
    world.search()
    # The upper left corner was rarely visited, the rest often.
    corner = (world.landmarks * 0.4 < [0.8, 9.0]).all(-1) & (world.landmarks[:, 1] * 0.4 > 3.2)
    world.visits = np.where(corner, 1, 10_000)
    rng = np.random.default_rng(0)
    here = np.array([3.5, 0.5], np.float32)
    drawn = [world.frontier(here, 8.0, rng) for _ in range(50)]
    ends = np.stack([found[0][-1] for found in drawn if found is not None])
    assert len(ends) == 50
    assert np.mean((ends[:, 0] < 0.8) & (ends[:, 1] > 3.2)) > 0.9
    for points, steps in drawn:  # type: ignore[misc]
        way = np.concatenate([here[None], points])
        straight = np.linalg.norm(np.diff(way, axis=0), axis=1) / 0.2
        # Rounding to landmarks makes experience look up to a half faster than it is.
        assert (steps <= 8.0).all() and (straight <= 1.5 * steps + 4.0).all()
        true = _true_steps(here[None], points[-1:])[0]
        assert steps.sum() >= 0.6 * true, "around the wall"


def test_the_frontier_is_known_before_the_search_and_visits_are_counted_once() -> None:
    replay, world = _walks(steps=100), TransitionMap(STEP)
    rows = replay.newest_rows(replay.capacity)
    world.add(replay, rows[:2000])
    world.search()
    far = replay.achieved_goal[rows[-400:]]
    world.add(replay, rows[1000:], len(rows) - 2000)
    assert world.visits.sum() == len(rows)
    new = np.isinf(world.steps(far, far)).mean()
    assert new < 0.5, "those not searched for are unknown, others stay known"
    found = world.frontier(far[0], 8.0, np.random.default_rng(0))
    assert found is not None
    world.search()
    assert np.isfinite(world.steps(far, far)).all()


def test_a_point_beyond_known_ground_is_verified_by_nothing() -> None:
    replay, world = _walks(), TransitionMap(STEP)
    rows = replay.newest_rows(replay.capacity)
    # Nobody was right of the wall: its left side is the nearest known ground.
    left = rows[(replay.achieved_goal[rows, 0] < 1.8) & (replay.steps_left(rows) > 8)]
    left = left[replay.achieved_goal[replay.later(left, 8), 0] < 1.8]
    world.add(replay, left)
    world.search()
    source, near = np.array([[1.0, 1.0]], np.float32), np.array([[1.5, 1.0]], np.float32)
    behind = np.array([[2.3, 1.0]], np.float32)
    ten = np.full(1, 10.0, np.float32)
    assert world.verify(source, near, ten)[1].all()
    assert not world.verify(source, behind, ten)[1].any() and not world.knows(behind).any()
    assert not world.verify(behind, source, ten)[1].any()


def _line(n: int) -> EpisodeReplay:
    """One walk along the first axis at full speed."""
    at = np.stack([0.2 * np.arange(n + 1), np.zeros(n + 1)], 1).astype(np.float32)
    replay = EpisodeReplay(n + 3, 2, 2, 1, 1)
    replay.add_episodes(at, at, at, np.zeros((n + 1, 1), np.float32), np.arange(n + 1) == n)
    return replay


def test_answers_are_those_of_a_dense_search_over_all_pairs() -> None:
    replay, world = _walks(steps=150), TransitionMap(STEP)
    for part in np.array_split(replay.newest_rows(replay.capacity), 7):
        world.add(replay, part)
    world.search()
    arrays = world.state_dict()
    n = len(arrays["landmarks"])
    weights = np.zeros((n, n))
    weights[tuple(arrays["pairs"].T)] = arrays["steps"]
    dense = floyd_warshall(weights)
    points = arrays["landmarks"] * world.spacing
    i, j = np.random.default_rng(2).integers(n, size=(2, 800))
    within = np.where(dense <= world.limit, dense, np.inf)
    assert 0.1 < np.isfinite(within[i, j]).mean() < 1.0
    assert np.array_equal(world.steps(points[i], points[j]), within[i, j])
    least = world.least_steps(points[i[:40]], points[j[:30]])
    assert np.array_equal(least, np.maximum(within[np.ix_(i[:40], j[:30])] - 4.0, 0.0))
    leads = [world.may_lead(points[a], points[b]) for a, b in zip(i[:30], j[:30], strict=True)]
    assert leads == np.isfinite(dense[i[:30], j[:30]]).tolist()


def test_a_world_of_any_size_is_mapped() -> None:
    replay, world = _line(16_000), TransitionMap(STEP)
    for part in np.array_split(replay.newest_rows(replay.capacity), 20):
        world.add(replay, part)
    world.search()
    assert len(world.landmarks) > 5000
    far, ahead = (np.arange(x, 3190.0, 50.0)[:, None] * [1.0, 0.0] for x in (0.0, 4.0))
    assert world.knows(far).all()
    assert np.isfinite(world.steps(far, ahead)).all()
    assert world.may_lead(far[0], far[-1]) and not world.may_lead(far[-1], far[0])


@pytest.mark.parametrize(("dim", "still"), [(2, 0), (3, 0), (2, 4), (4, 0), (6, 0), (15, 0)])
def test_with_many_axes_trajectories_still_meet(dim: int, still: int) -> None:
    rng = np.random.default_rng(0)
    n, every, at = 4000, dim + still, np.zeros((4000, dim + still), np.float32)
    for t in range(1, n):
        # An action is held for ten steps.
        action = rng.uniform(-0.1, 0.1, dim) if t % 10 == 1 else action  # noqa: F821
        at[t, :dim] = np.clip(at[t - 1, :dim] + action, -0.8, 0.8)
    replay, ends = EpisodeReplay(n + 3, every, every, 1, 1), np.arange(n) == n - 1
    replay.add_episodes(at, at, at, np.zeros((n, 1), np.float32), ends)
    world = TransitionMap(np.full(every, 0.1, np.float32))
    for part in np.array_split(replay.newest_rows(n), 4):
        world.add(replay, part)
    coarseness = world.spacing / 0.2
    if dim <= 3:
        assert coarseness == pytest.approx(1.0), "what does not move does not count"
    else:
        assert coarseness[0] > 1.1
    assert world.connected_share() > 0.7
    restored = TransitionMap(np.full(every, 0.1, np.float32))
    restored.load_state_dict(world.state_dict())
    assert np.array_equal(restored.spacing, world.spacing)


def test_files_from_before_the_map_was_sparse_are_read() -> None:
    replay, world = _walks(steps=100), TransitionMap(STEP)
    rows = replay.newest_rows(replay.capacity)
    world.add(replay, rows[:3000])
    world.search()
    world.add(replay, rows[3000:])
    new = {"coarseness", "implied", "searched_implied"}
    older = {name: array for name, array in world.state_dict().items() if name not in new}
    restored = TransitionMap(STEP)
    restored.load_state_dict(older)
    points = replay.achieved_goal[replay.sample_rows(60, np.random.default_rng(0))]
    assert np.array_equal(restored.least_steps(points, points), world.least_steps(points, points))
    for a, b in zip(
        *(m.frontier(points[0], 8.0, np.random.default_rng(1)) for m in (restored, world)),
        strict=True,
    ):
        assert np.array_equal(a, b)
    restored.search()
    world.search()
    assert np.array_equal(restored.least_steps(points, points), world.least_steps(points, points))
