"""Landmarks cover what was visited, in any number of dimensions, and are found again."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.planning.graph.landmarks import Landmarks


def grown(dim: int, settle_after: tuple[int, ...], seed: int = 0) -> tuple[Landmarks, np.ndarray]:
    """Landmarks over 6 pieces of a random walk, settled after some of them, and all its points."""
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.normal(0.0, 0.4, (600, dim)), 0).astype(np.float32)
    landmarks = Landmarks(dim)
    for i, part in enumerate(np.array_split(points, 6)):
        before = len(landmarks)
        assert landmarks.cover(part) == len(landmarks) - before
        if i in settle_after:
            landmarks.settle()
            assert landmarks.n_settled == len(landmarks)
    return landmarks, points


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(a[:, None].astype(float) - b[None].astype(float), axis=-1))


@pytest.mark.parametrize("dim", [1, 2, 6, 15])
@pytest.mark.parametrize("settle_after", [(), (0, 3), (5,)])
def test_every_point_is_near_a_landmark_and_no_two_landmarks_are_near(
    dim: int, settle_after: tuple[int, ...]
) -> None:
    landmarks, points = grown(dim, settle_after)
    assert (distances(points, landmarks.points).min(1) <= 1.0).all()
    apart = distances(landmarks.points, landmarks.points)
    assert apart[~np.eye(len(landmarks), dtype=bool)].min(initial=9.0) > 1.0 - 1e-6
    assert landmarks.cover(points) == 0


@pytest.mark.parametrize("dim", [1, 2, 6, 15])
@pytest.mark.parametrize("settle_after", [(), (0, 3), (5,)])
def test_the_nearest_is_found_among_all_and_among_settled_ones(
    dim: int, settle_after: tuple[int, ...]
) -> None:
    landmarks, points = grown(dim, settle_after)
    asked = points + np.random.default_rng(1).normal(0, 0.8, points.shape).astype(np.float32)
    gap = distances(asked, landmarks.points)
    assert np.array_equal(landmarks.nearest(asked), gap.argmin(1))
    nearest, near = landmarks.find(asked)
    assert np.array_equal(near, gap.min(1) <= 1.0)
    assert np.array_equal(nearest[near], gap.argmin(1)[near]) and not nearest[~near].any()
    settled = gap[:, : landmarks.n_settled]
    nearest, near = landmarks.find_settled(asked)
    assert np.array_equal(near, settled.min(1, initial=9.0) <= 1.0)
    if landmarks.n_settled:
        assert np.array_equal(nearest[near], settled.argmin(1)[near])


def test_landmarks_are_restored_with_what_was_settled() -> None:
    landmarks, points = grown(2, (2,))
    again = Landmarks(2)
    again.restore(landmarks.points, landmarks.n_settled)
    for name in ("find", "find_settled"):
        for mine, theirs in zip(
            getattr(landmarks, name)(points), getattr(again, name)(points), strict=True
        ):
            assert np.array_equal(mine, theirs)


def test_without_landmarks_nothing_is_near() -> None:
    nearest, near = Landmarks(2).find(np.zeros((3, 2), np.float32))
    assert not near.any() and not nearest.any()
