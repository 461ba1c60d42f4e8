"""The walk at the frontier: it leaves known ground, gives up at walls and repeats exactly."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.planning.graph import novelty_walk
from hierebm.planning.graph.displacement import DisplacementModel
from hierebm.planning.graph.novelty_walk import CELL, LONGEST, SHORTEST, NoveltyWalk, Walk
from hierebm.planning.graph.transition_map import SPACING, TransitionMap
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray

SCALE = np.array([0.5, 0.5], np.float32)
CORRIDOR = np.array([60.0, 2.0], np.float32)


def moved(point: FloatArray, action: FloatArray) -> FloatArray:
    """One step in a corridor of 120 by 4 steps."""
    return np.clip(point + SCALE * action, 0.0, CORRIDOR).astype(np.float32)


def fill(replay: EpisodeReplay, start: FloatArray, steps: int, seed: int = 0) -> None:
    """A random trajectory."""
    rng, point = np.random.default_rng(seed), start
    for step in range(steps):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        after = moved(point, action)
        ended = np.array([step == steps - 1])
        rows = (x[None] for x in (point, point, point, action, after, after))
        replay.add(*rows, np.zeros(1, bool), ended)
        point = after


def learn(novelty: NoveltyWalk, points: list[FloatArray], actions: list[FloatArray]) -> None:
    """Take a trajectory into the map and the model."""
    replay = EpisodeReplay(len(points) + 2, 2, 2, 2)
    ends = np.arange(len(points)) == len(points) - 1
    at, acted = np.stack(points), np.stack([*actions, actions[-1]])
    replay.add_episodes(at, at, at, acted, ends)
    rows = replay.newest_rows(len(actions))
    novelty.map.add(replay, rows)
    novelty.learn(replay, rows)


def make_walk() -> NoveltyWalk:
    """In a world of which the left end is known."""
    replay = EpisodeReplay(2000, 2, 2, 2)
    fill(replay, np.array([1.0, 1.0], np.float32), 300)
    walk = NoveltyWalk(TransitionMap(SCALE), 2)
    rows = replay.newest_rows(300)
    walk.map.add(replay, rows)
    walk.learn(replay, rows)
    return walk


def follow(novelty: NoveltyWalk, start: FloatArray, steps: int, seed: int = 0) -> list[FloatArray]:
    """The points of one walk."""
    rng, walk, points = np.random.default_rng(seed), None, [start]
    for step in range(steps):
        walk = novelty.step(walk, points[-1], float(step), rng)
        points.append(moved(points[-1], walk.action))
    return points


def test_displacements_are_those_of_the_world_and_jumps_count_little() -> None:
    replay = EpisodeReplay(2000, 2, 2, 2)
    fill(replay, CORRIDOR / 2, 400)
    model = DisplacementModel(2, SCALE)
    assert (model.predict(np.ones((1, 2), np.float32)) == 0).all(), "nothing is known yet"
    model.add(replay, replay.newest_rows(400))
    actions = np.array([[1, 0], [-1, 0], [0.5, -0.5]], np.float32)
    # Walls hold some steps along the short side up.
    np.testing.assert_allclose(model.predict(actions), actions, atol=0.35)
    far = np.array([[1e6, 1e6]], np.float32)
    here = np.zeros((1, 2), np.float32)
    before = model.predict(actions)
    jump = EpisodeReplay(10, 2, 2, 2)
    jump.add(here, here, here, here, far, far, np.zeros(1, bool), np.ones(1, bool))
    model.add(jump, jump.newest_rows(1))
    np.testing.assert_allclose(model.predict(actions), before, atol=0.05)


def test_walks_get_farther_along_a_corridor_than_random_ones() -> None:
    def farthest(novel: bool, seed: int) -> float:
        """After six walks, each from where the last ones got farthest."""
        rng, novelty = np.random.default_rng(seed), make_walk()
        start = np.array([4.0, 1.0], np.float32)
        for _ in range(6):
            points, actions, walk = [start], [], None
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            for step in range(48):
                if novel:
                    walk = novelty.step(walk, points[-1], float(step), rng)
                    action = walk.action
                elif rng.random() < 1 / 8:
                    action = rng.uniform(-1, 1, 2).astype(np.float32)
                actions.append(action)
                points.append(moved(points[-1], action))
            learn(novelty, points, actions)
            start = max([start, *points], key=lambda point: float(point[0]))
        return float(start[0])

    novel, random = (np.mean([farthest(kind, seed) for seed in range(8)]) for kind in (True, False))
    assert novel - 4.0 > 1.3 * (random - 4.0)


def test_actions_are_at_full_speed_and_held_for_a_while() -> None:
    novelty, rng = make_walk(), np.random.default_rng(0)
    point, walk, held = CORRIDOR / 2, None, []
    for part in range(60 * 7):
        walk = novelty.step(walk, point, part / 7, rng)
        # Seven parts of a step, of equal length.
        point = (point + SCALE * walk.action / 7).astype(np.float32)
        if not held or not np.array_equal(held[-1][0], walk.action):
            held.append((walk.action, part / 7))
    assert all(np.abs(action).max() == 1 for action, _ in held)
    steps = np.diff([begun for _, begun in held])
    assert ((steps > SHORTEST - 0.5) & (steps < LONGEST + 0.5)).all() and len(steps) >= 4


def test_an_action_that_does_not_move_the_agent_is_given_up() -> None:
    novelty, rng = make_walk(), np.random.default_rng(0)
    corner = CORRIDOR.copy()
    walk = novelty.step(None, corner, 0.0, rng)
    first = walk.action
    walk = novelty.step(walk, corner, 1.0, rng)
    assert np.array_equal(walk.action, first), "what has momentum takes a step to get going"
    assert not np.array_equal(novelty.step(walk, corner, 2.0, rng).action, first)


def test_unknown_ground_that_was_tried_before_is_no_longer_new() -> None:
    novelty = make_walk()
    at_the_wall = np.array([1.0, 2.0], np.float32)
    up = []
    for seed in range(120):
        walk = novelty.step(None, at_the_wall, 0.0, np.random.default_rng(seed))
        up.append(walk.action[1] > 0.5)
    # Behind the wall nothing ever becomes known.
    assert np.mean(up[:20]) > 2.0 * np.mean(up[-20:])


def test_the_ends_tried_last_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty_walk, "MOST_CELLS", 20, raising=False)
    novelty, side = make_walk(), CELL * SPACING * SCALE[0]
    first = np.array([100.0, 1.0], np.float32)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # All of it is unknown, and stays so; now and then, the first ends are tried again.
        novelty.step(None, first + np.array([50.0 * seed, 0.0], np.float32), 0.0, rng)
        novelty.step(None, first, 0.0, np.random.default_rng(0))
    state = novelty.state_dict()
    assert len(state["cells"]) == len(state["tried"]) == 20
    far = state["cells"][:, 0] * side > first[0] + 50.0 * 30
    near = state["cells"][:, 0] * side < first[0] + 10.0
    assert far.sum() >= 10 and near.any() and (far | near).all()


def test_where_actions_explain_nothing_any_action_will_do() -> None:
    novelty = NoveltyWalk(TransitionMap(SCALE), 2)
    chosen = [
        novelty.step(None, np.zeros(2, np.float32), 0.0, np.random.default_rng(seed)).action
        for seed in range(200)
    ]
    assert len({tuple(action) for action in chosen}) == 200
    assert np.abs(np.mean(chosen, axis=0)).max() < 0.2


@pytest.mark.parametrize("restored", [False, True])
def test_a_restored_walk_goes_the_same_way(restored: bool) -> None:
    novelty, start = make_walk(), np.array([4.0, 1.0], np.float32)
    follow(novelty, start, 48)
    state = {name: array.copy() for name, array in novelty.state_dict().items()}
    known = {name: array.copy() for name, array in novelty.map.state_dict().items()}
    points = follow(novelty, start, 48, seed=1)
    if restored:
        copy = NoveltyWalk(TransitionMap(SCALE), 2)
        copy.map.load_state_dict(known)
        copy.load_state_dict(state)
        np.testing.assert_array_equal(follow(copy, start, 48, seed=1), points)
    else:
        # The ends that it tried meanwhile count.
        assert not np.array_equal(follow(novelty, start, 48, seed=1), points)


def test_a_walk_remembers_where_it_came_by() -> None:
    novelty = make_walk()
    points = follow(novelty, np.array([4.0, 1.0], np.float32), 10)
    walk: Walk | None = None
    for step, point in enumerate(points):
        walk = novelty.step(walk, point, float(step), np.random.default_rng(0))
    assert walk is not None
    np.testing.assert_array_equal(walk.passed, points)
