"""Sparse, lazy answers are those of dense ones: Floyd and Warshall over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import floyd_warshall

from hierebm.planning.graph import joined_pairs
from hierebm.planning.graph.joined_pairs import JoinedPairs, StepsBetween

N = 12
Joined = list[tuple[int, int, int]]
joins = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, N - 1), st.integers(1, 9)), max_size=60
)


def of(joined: Joined) -> JoinedPairs:
    source, target, steps = np.array(joined, np.int64).reshape(-1, 3).T
    return JoinedPairs.of(np.stack([source, target], 1), steps.astype(np.float32))


def weights(joined: Joined) -> np.ndarray:
    """(N, N) fewest steps of each pair, inf where it was never joined."""
    result = np.full((N, N), np.inf)
    for source, target, steps in joined:
        if source != target:
            result[source, target] = min(result[source, target], steps)
    return result


def dense(weight: np.ndarray, limit: float) -> np.ndarray:
    """(N, N) fewest steps between all pairs, inf beyond the limit."""
    steps = floyd_warshall(np.where(np.isfinite(weight), weight, 0.0))
    return np.where(steps <= limit, steps, np.inf)


@settings(deadline=None)
@given(st.lists(joins, min_size=1, max_size=4))
def test_pieces_keep_the_fewest_steps_of_each_pair(pieces: list[Joined]) -> None:
    merged = of(pieces[0])
    for piece in pieces[1:]:
        before = merged.steps.copy()
        grown = merged.merged(of(piece))
        assert np.array_equal(merged.steps, before), "what others hold stays as it is"
        merged = grown
    expected = weights([join for piece in pieces for join in piece])
    assert np.array_equal(merged.pairs, np.argwhere(np.isfinite(expected)))
    assert np.array_equal(merged.steps, expected[np.isfinite(expected)])
    assert np.array_equal(merged.graph(N).indices, merged.pairs[:, 1])
    shown = merged.graph(N).toarray()
    assert np.array_equal(shown, np.where(np.isfinite(expected), expected, 0.0))


@settings(deadline=None)
@given(joins, st.integers(0, 30), st.integers(1, N), st.randoms(use_true_random=False))
def test_steps_from_a_few_sources_are_those_between_all(
    joined: Joined, limit: int, most_rows: int, random: object
) -> None:
    expected = dense(weights(joined), limit)
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    between = StepsBetween(of(joined).graph(N), limit)
    between.most_rows = most_rows
    for _ in range(4):
        source, target = rng.integers(N, size=(2, rng.integers(0, 20)))
        assert np.array_equal(between.pairs(source, target), expected[source, target])
        other = rng.integers(N, size=5)
        assert np.array_equal(between.grid(source, other), expected[np.ix_(source, other)])
    anywhere = np.isfinite(dense(weights(joined), np.inf))
    i, j = rng.integers(N, size=2)
    assert between.leads(i, j) == anywhere[i, j]


@settings(deadline=None)
@given(joins)
def test_implied_pairs_do_not_change_what_is_shortest(joined: Joined) -> None:
    weight = weights(joined)
    two = [
        (i, j, int(weight[i, k] + weight[k, j]))
        for i, k in np.argwhere(np.isfinite(weight))
        for j in np.flatnonzero(np.isfinite(weight[k]))
        if i != j
    ]
    source, target, steps = np.array(two, np.int64).reshape(-1, 3).T
    implied = JoinedPairs.of(
        np.stack([source, target], 1), steps.astype(np.float32), np.ones(len(two), np.bool_)
    )
    merged = of(joined).merged(implied)
    sparse = merged.graph(N, with_implied=False)
    assert sparse.nnz <= merged.graph(N).nnz
    rows = np.repeat(np.arange(N), N), np.tile(np.arange(N), N)
    found = [StepsBetween(graph, 40.0).pairs(*rows) for graph in (sparse, merged.graph(N))]
    assert np.array_equal(*found)
    assert np.array_equal(found[0].reshape(N, N), dense(weight, 40.0))


def test_a_large_map_does_not_take_the_square_of_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, fewest = 100_000, 16
    monkeypatch.setattr(joined_pairs, "FEWEST_ROWS", fewest)
    chain = np.stack([np.arange(n - 1), np.arange(1, n)], 1)
    joined = JoinedPairs.of(chain, np.full(n - 1, 4.0, np.float32))
    assert joined.keys.nbytes + joined.steps.nbytes + joined.implied.nbytes == 13 * (n - 1)
    between = StepsBetween(joined.graph(n), 32.0)
    assert between.most_rows == joined_pairs.KEPT_STEPS // n
    between.most_rows = fewest
    source = np.arange(0, n - 10, n // 50)
    assert np.array_equal(between.pairs(source, source + 5), np.full(len(source), 20.0))
    assert np.isinf(between.pairs(source + 1, source)).all()
    assert np.isinf(between.pairs(source, source + 9)).all(), "beyond the limit"
