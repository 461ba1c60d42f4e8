"""The pace of the ground: ice and wind are found in steps whatever they were for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hierebm.planning.graph.displacement import DisplacementModel
from hierebm.planning.graph.pace import Pace
from hierebm.planning.graph.transition_map import ALONG, START, TransitionMap
from hierebm.replay import EpisodeReplay

STEP = np.array([0.2, 0.2], np.float32)


def _walks(pull: NDArray[np.float64], wind: float = 0.0, seed: int = 0) -> EpisodeReplay:
    """Random walks in [0, 4]^2. At x < 2 actions go ``pull[0]`` of a step, elsewhere ``pull[1]``;
    wind of so much of a step blows to the left at y < 2."""
    rng = np.random.default_rng(seed)
    n, steps = 20, 150
    replay = EpisodeReplay(n * steps * 2, 2, 2, 2, n)
    at = rng.uniform(0.0, 4.0, (n, 2)).astype(np.float32)
    for t in range(steps):
        action = rng.uniform(-1.0, 1.0, (n, 2)).astype(np.float32)
        move = action * np.where(at[:, :1] < 2.0, pull[0], pull[1])
        move[:, 0] -= wind * (at[:, 1] < 2.0)
        to = (at + STEP * (move + rng.normal(0.0, 0.2, (n, 2)))).clip(0.0, 4.0).astype(np.float32)
        ended = np.full(n, (t + 1) % 50 == 0)
        replay.add(at, at, to, action, to, to, np.zeros(n, np.bool_), ended)
        at = np.where(ended[:, None], rng.uniform(0.0, 4.0, (n, 2)), to).astype(np.float32)
    return replay


def _mapped(replay: EpisodeReplay) -> TransitionMap:
    world, model = TransitionMap(STEP), DisplacementModel(2, STEP)
    rows = replay.newest_rows(replay.capacity)
    # Piece by piece, as it is learned.
    for part in np.array_split(rows, 4):
        world.add(replay, part)
        model.add(replay, part)
        world.learn_pace(replay, part, model.commanded(replay.action[part]))
    world.search()
    return world


def _slowness(world: TransitionMap, source: tuple[float, float], to: tuple[float, float]) -> float:
    points = np.array([source, to], np.float32)
    return float(world.slowness(points[:1], points[1:])[0])


def test_ice_takes_as_many_times_longer_as_it_does() -> None:
    world = _mapped(_walks(np.array([0.3, 0.9])))
    assert _slowness(world, (2.6, 1.0), (3.6, 2.0)) == pytest.approx(1.0, abs=0.15)
    assert _slowness(world, (0.4, 1.0), (1.4, 2.0)) == pytest.approx(3.0, rel=0.25)
    assert 1.4 < _slowness(world, (1.5, 1.0), (2.5, 1.0)) < 2.6, "half of it on ice"
    assert _slowness(world, (9.0, 9.0), (9.5, 9.0)) == 1.0, "unknown"


def test_against_the_wind_it_takes_longer_than_with_it() -> None:
    world = _mapped(_walks(np.array([0.9, 0.9]), wind=0.4))
    low, high = (1.0, 1.0), (3.0, 1.0)
    against, along = _slowness(world, low, high), _slowness(world, high, low)
    still = _slowness(world, (1.0, 3.0), (3.0, 3.0))
    assert against > 1.4 * still and along < 0.85 * still
    across = _slowness(world, (2.0, 0.5), (2.0, 1.5))
    assert across == pytest.approx(still, rel=0.2)


def test_expected_steps_are_those_of_verified_edges_as_far_as_tries_confirmed_them() -> None:
    replay = _walks(np.array([0.3, 0.9]))
    world = _mapped(replay)
    rng = np.random.default_rng(1)
    a = replay.achieved_goal[replay.sample_rows(500, rng)]
    b = (a + rng.uniform(-1.0, 1.0, a.shape)).clip(0.0, 4.0).astype(np.float32)
    predicted = np.full(len(a), 12.0, np.float32)
    fewest, verified = world.verify(a, b, predicted)
    assert verified.mean() > 0.5
    expected = np.maximum(world.expected(a, b), world.least_steps(a, b).diagonal())
    length = np.abs(b - a).max(1) / 0.2
    np.testing.assert_allclose(world.expected(a, b), length * world.slowness(a, b) + START, 1e-5)
    for share in (0.5, 1.0):
        world.expected_share = share
        steps, still_verified = world.verify(a, b, predicted)
        wanted = np.where(verified, fewest + share * (expected - fewest), fewest)
        np.testing.assert_allclose(steps, wanted, rtol=1e-4)
        assert (still_verified == verified).all(), "what is verified does not depend on it"
        assert (steps >= world.least_steps(a, b).diagonal() - 1e-4)[verified].all()


def test_it_is_restored_and_older_files_go_without() -> None:
    world = _mapped(_walks(np.array([0.3, 0.9])))
    state = world.state_dict()
    points = np.random.default_rng(2).uniform(0.0, 4.0, (2, 50, 2)).astype(np.float32)
    again, old = TransitionMap(STEP), TransitionMap(STEP)
    again.load_state_dict(state)
    assert (again.slowness(*points) == world.slowness(*points)).all()
    old.load_state_dict({k: v for k, v in state.items() if not k.startswith("pace_")})
    assert (old.slowness(*points) == 1.0).all()
    with pytest.raises(ValueError, match="did"):
        again.load_state_dict({**state, "pace_did": state["pace_did"][:-1]})


def test_where_actions_move_nothing_all_ground_is_alike() -> None:
    pace = Pace(3)
    speed, drift = pace.speeds(np.arange(2))
    assert (speed == 1.0).all() and not drift.any() and drift.shape == (2, 3)
    nothing = np.zeros((8, 3))
    pace = pace.added(np.arange(8) % 2, 2, nothing, nothing.astype(np.float32))
    speed, drift = pace.speeds(np.arange(4))
    assert (speed == 1.0).all() and not drift.any() and len(ALONG) == 4
