"""The map of experience: walls that no trajectory crossed stay uncrossed, and it resumes."""

from __future__ import annotations

import numpy as np

from hierebm.planning.experience import ExperienceMap
from hierebm.replay import EpisodeReplay

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


def test_experience_supports_what_is_true_and_nothing_through_the_wall() -> None:
    replay = _walks()
    world = ExperienceMap(STEP)
    world.add(replay, replay.newest_rows(replay.capacity))
    rng = np.random.default_rng(1)
    a, b = (replay.achieved_goal[replay.sample_rows(4000, rng)] for _ in range(2))
    straight = np.linalg.norm(a - b, axis=1) / 0.2
    near = straight < 8
    a, b, straight = a[near], b[near], straight[near]
    true = _true_steps(a, b)
    honest = true < straight + 1
    assert world.supports(a, b, true)[honest].mean() > 0.98
    through = true > 3 * straight + 12
    assert through.sum() > 20
    assert world.supports(a, b, straight)[through].mean() == 0.0


def test_experience_grows_piece_by_piece_and_resumes() -> None:
    replay = _walks(steps=200)
    whole, pieces = ExperienceMap(STEP), ExperienceMap(STEP)
    rows = replay.newest_rows(replay.capacity)
    whole.add(replay, rows)
    for part in np.array_split(rows, 5):
        pieces.add(replay, part)
    rng = np.random.default_rng(1)
    a, b = (replay.achieved_goal[replay.sample_rows(500, rng)] for _ in range(2))
    agree = whole.supports(a, b, np.full(500, 8.0)) == pieces.supports(a, b, np.full(500, 8.0))
    assert agree.mean() > 0.9
    restored = ExperienceMap(STEP)
    restored.load_state_dict(pieces.state_dict())
    assert np.array_equal(restored.steps(a, b), pieces.steps(a, b))


def test_without_experience_nothing_is_supported() -> None:
    points = np.zeros((3, 2), np.float32)
    assert not ExperienceMap(STEP).supports(points, points, np.ones(3)).any()
