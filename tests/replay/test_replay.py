"""The episode ring, relabelling and between-triplets against a plain list of episodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.replay import EpisodeReplay, sample_between, sample_pairs, sample_transitions
from hierebm.replay.episodes import StoredStep
from hierebm.types import FloatArray


def _reached(achieved: FloatArray, goal: FloatArray) -> np.ndarray:
    return np.linalg.norm(achieved - goal, axis=-1) < 0.5


def _fill(
    replay: EpisodeReplay, n_steps: int, p_end: float, rng: np.random.Generator
) -> list[list[int]]:
    """Step all environments; the observation is a running number. Returns the episodes' numbers."""
    count = 0
    n = replay.n_envs
    current = np.arange(n)
    count = n
    episodes: list[list[int]] = [[int(c)] for c in current]
    finished = []
    for _ in range(n_steps):
        following = np.arange(count, count + n)
        count += n
        ended = rng.random(n) < p_end
        as_rows = lambda x: np.repeat(x[:, None], 2, 1).astype(np.float32)  # noqa: E731
        replay.add(
            current[:, None].astype(np.float32),
            as_rows(current),
            as_rows(-current),
            current[:, None].astype(np.float32),
            following[:, None].astype(np.float32),
            as_rows(following),
            failure=np.zeros(n, bool),
            ended=ended,
        )
        for env in range(n):
            episodes[env].append(int(following[env]))
            if ended[env]:
                finished.append(episodes[env])
                following[env] = count
                count += 1
                episodes[env] = [int(following[env])]
        current = following
    return finished + episodes


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(9, 200),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 150),
    p_end=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_rows_and_their_followers_are_those_of_the_episodes(
    capacity: int, n_envs: int, n_steps: int, p_end: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    replay = EpisodeReplay(capacity, 1, 2, 1, n_envs)
    episodes = _fill(replay, n_steps, p_end, rng)
    node = {
        number: (e, i) for e, episode in enumerate(episodes) for i, number in enumerate(episode)
    }
    rows = replay.sample_rows(64, rng)
    left = replay.steps_left(rows)
    ahead = rng.integers(0, left + 1)
    later = replay.later(rows, ahead)
    for row, steps, follower, rest in zip(rows, ahead, later, left, strict=True):
        episode, i = node[int(replay.observation[row, 0])]
        assert int(replay.observation[follower, 0]) == episodes[episode][i + steps]
        assert rest == len(episodes[episode]) - 1 - i
        assert rest >= 1
        assert replay.action[row, 0] == replay.observation[row, 0]
        assert (replay.goal[row] == -replay.achieved_goal[row]).all()


def test_every_stored_transition_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    replay = EpisodeReplay(60, 1, 2, 1, 2)
    _fill(replay, 200, 0.2, rng)
    drawn = set(replay.sample_rows(5000, rng).tolist())
    assert drawn == set(np.flatnonzero(replay.has_action).tolist())
    assert len(drawn) == replay.n_transitions


def test_an_empty_buffer_says_so() -> None:
    with pytest.raises(RuntimeError, match="no transitions yet"):
        EpisodeReplay(10, 1, 2, 1).sample_rows(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="buffer_size"):
        EpisodeReplay(5, 1, 2, 1, n_envs=2)
    with pytest.raises(ValueError, match="n_envs"):
        EpisodeReplay(5, 1, 2, 1, n_envs=0)


def _walk(length: int = 60, speed: float = 0.3) -> EpisodeReplay:
    replay = EpisodeReplay(1000, 1, 2, 1)
    for t in range(length):
        replay.add(
            *(np.full((1, d), t * speed, np.float32) for d in (1, 2, 2, 1)),
            *(np.full((1, d), (t + 1) * speed, np.float32) for d in (1, 2)),
            failure=np.zeros(1, bool),
            ended=np.array([t == length - 1]),
        )
    return replay


def test_relabelling_takes_the_shares_asked_for_and_recomputes_the_terminal_flag() -> None:
    rng = np.random.default_rng(1)
    replay = _walk()
    batch = sample_transitions(replay, 1000, _reached, rng, future=0.5, random=0.2, horizon=3.0)
    assert (batch.reached == _reached(batch.next_achieved_goal, batch.goal)).all()
    ahead = batch.goal[:500, 0] - batch.achieved_goal[:500, 0]
    assert (ahead > 0).all()
    assert np.median(ahead) < 1.2, "geometric with mean 3 steps of 0.3"
    assert (batch.goal[700:] == batch.achieved_goal[700:]).all(), "the goal that was chased"
    assert batch.reached[:500].mean() > 0.2


def test_future_goals_are_geometrically_soon_and_end_with_the_episode() -> None:
    replay = _walk(length=400)
    rng = np.random.default_rng(0)
    batch = sample_transitions(replay, 40_000, _reached, rng, future=1.0, random=0.0, horizon=4.0)
    now, then = (np.rint(x[:, 0] / 0.3) for x in (batch.achieved_goal, batch.goal))
    ahead = then - now
    assert ahead.min() == 1 and then.max() == 400
    early = ahead[now < 300]
    seen = np.bincount(early.astype(int), minlength=13)[1:13] / len(early)
    assert np.allclose(seen, 0.25 * 0.75 ** np.arange(12), atol=0.01)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 9),
    shares=st.tuples(*[st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])] * 2),
    seed=st.integers(0, 100),
)
def test_shares_of_small_batches_are_rounded_to_what_is_there(
    n: int, shares: tuple[float, float], seed: int
) -> None:
    future, random = shares
    rng = np.random.default_rng(seed)

    def draw() -> int:
        batch = sample_transitions(_walk(), n, _reached, rng, future=future, random=random)
        return len(batch.goal)

    if sum(shares) > 1.0:
        with pytest.raises(ValueError, match="sum to more than 1"):
            draw()
    else:
        assert draw() == n


def test_bad_shares_and_horizons_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"future=-0\.1"):
        sample_transitions(_walk(), 5, _reached, rng, future=-0.1)
    with pytest.raises(ValueError, match="horizon"):
        sample_transitions(_walk(), 5, _reached, rng, horizon=0.5)
    with pytest.raises(ValueError, match="halfway"):
        sample_between(_walk(), 5, rng, halfway=1.5)
    with pytest.raises(ValueError, match="max_steps"):
        sample_between(_walk(), 5, rng, max_steps=0)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 60), pause=st.booleans(), seed=st.integers(0, 1000))
def test_halfway_points_cut_the_walked_path_in_two(length: int, pause: bool, seed: int) -> None:
    """On a path with turns (and stops), against interpolation over its whole length."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(size=(length, 2))
    if pause:
        moves[rng.random(length) < 0.4] = 0.0
    path = np.concatenate([np.zeros((1, 2)), moves.cumsum(0)]).astype(np.float32)
    replay = EpisodeReplay(length + 5, 1, 2, 1)
    number = np.arange(length + 1, dtype=np.float32)
    for t in range(length):
        replay.add(
            number[None, [t]], path[[t]], path[[t]], np.zeros((1, 1), np.float32),
            number[None, [t + 1]], path[[t + 1]],
            failure=np.zeros(1, bool), ended=np.array([t == length - 1]),
        )  # fmt: skip
    triplets = sample_between(replay, 40, rng, max_steps=30, halfway=1.0)
    arc = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    for start, goal, between in zip(triplets.start, triplets.goal, triplets.between, strict=True):
        # A place where the walk paused is several states of one arc length: any of them will do.
        begin, end = (arc[np.flatnonzero((path == p).all(1))[0]] for p in (start, goal))
        middle = [np.interp(0.5 * (begin + end), arc, path[:, i]) for i in (0, 1)]
        np.testing.assert_allclose(between, middle, atol=1e-3)


def test_pairs_are_steps_of_one_trajectory_apart() -> None:
    replay, rng = _walk(length=200), np.random.default_rng(0)
    pairs = sample_pairs(replay, 5000, rng, max_steps=5)
    assert pairs.shape == (5000, 2, 2)
    apart = np.rint((pairs[:, 1, 0] - pairs[:, 0, 0]) / 0.3).astype(int)
    early = apart[pairs[:, 0, 0] < 0.3 * 190]
    assert np.allclose(np.bincount(early, minlength=6)[1:] / len(early), 0.2, atol=0.03)


def test_between_points_are_uniform_in_arc_length_not_in_time() -> None:
    """A path that creeps at its ends and runs in the middle."""
    replay = EpisodeReplay(1000, 1, 2, 1)
    speeds = np.concatenate([np.full(40, 0.01), np.full(20, 1.0), np.full(40, 0.01)])
    x = np.concatenate([[0.0], np.cumsum(speeds)])
    for t in range(len(speeds)):
        replay.add(
            *(np.full((1, d), x[t], np.float32) for d in (1, 2, 2, 1)),
            *(np.full((1, d), x[t + 1], np.float32) for d in (1, 2)),
            failure=np.zeros(1, bool),
            ended=np.array([t == len(speeds) - 1]),
        )
    triplets = sample_between(replay, 20_000, np.random.default_rng(0), max_steps=100)
    s, g, w = (a[:, 0] for a in (triplets.start, triplets.goal, triplets.between))
    assert ((w >= s - 1e-4) & (w <= g + 1e-4)).all()
    far = (g - s) > 15.0
    fraction = ((w - s) / (g - s))[far]
    share, _ = np.histogram(fraction, bins=5, range=(0, 1))
    assert (np.abs(share / share.sum() - 0.2) < 0.03).all()
    assert not triplets.half.any()
    halves = sample_between(replay, 1000, np.random.default_rng(0), max_steps=100, halfway=0.25)
    assert halves.half.sum() == 250
    s, g, w = (a[halves.half, 0] for a in (halves.start, halves.goal, halves.between))
    assert np.allclose(w, (s + g) / 2.0, atol=0.01)


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(9, 120),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 120),
    p_end=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    p_idle=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 1000),
)
def test_many_steps_at_once_are_stored_as_one_after_the_other(
    capacity: int, n_envs: int, n_steps: int, p_end: float, p_idle: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    single, block = (EpisodeReplay(capacity, 1, 2, 1, n_envs) for _ in range(2))
    state = rng.normal(size=(n_envs, 2)).astype(np.float32)
    steps = []
    for _ in range(n_steps):
        valid, ended = rng.random(n_envs) >= p_idle, rng.random(n_envs) < p_end
        following = state + valid[:, None] * rng.normal(size=state.shape).astype(np.float32)
        failure = ended & (rng.random(n_envs) < 0.5)
        goal, action = rng.normal(size=state.shape), rng.normal(size=(n_envs, 1))
        before, after = (state[:, :1], state), (following[:, :1], following)
        steps.append(StoredStep(*before, goal, action, *after, failure, ended, valid))
        single.add(*steps[-1])
        # A new episode begins anywhere.
        fresh = rng.normal(size=state.shape).astype(np.float32)
        state = np.where((ended & valid)[:, None], fresh, following)
    cut = int(rng.integers(n_steps + 1))
    for step in steps[:cut]:
        block.append(step)
    block.flush()
    for step in steps[cut:]:
        block.append(step)
    assert block.n_added == single.n_added
    for replay in (single, block):
        replay.close_episodes()
    for name, array in single.state_dict().items():
        assert np.array_equal(array, block.state_dict()[name]), name


def test_the_buffer_resumes_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    replay = EpisodeReplay(50, 1, 2, 1, 2)
    _fill(replay, 70, 0.1, rng)
    saved = {k: v.copy() for k, v in replay.state_dict().items()}
    other = EpisodeReplay(50, 1, 2, 1, 2)
    other.load_state_dict(saved)
    a, b = (r.sample_rows(100, np.random.default_rng(3)) for r in (replay, other))
    assert (a == b).all() and (replay.steps_left(a) == other.steps_left(b)).all()
    with pytest.raises(ValueError, match="buffer_size"):
        EpisodeReplay(60, 1, 2, 1, 2).load_state_dict(saved)
