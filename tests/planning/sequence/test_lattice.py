"""The cheapest ways over the lattice."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierebm.planning.sequence.lattice import Lattice
from tests.planning.sequence.random_walk import seeded

INF = math.inf


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_the_first_way_is_the_cheapest_of_all(m: int, seed: int) -> None:
    g = seeded(seed)
    table, first, last = (torch.rand(shape, generator=g) for shape in ((m, m), (m,), (m,)))
    table[torch.rand(m, m, generator=g) < 0.3] = INF
    direct, state_cost = float(torch.rand(1, generator=g)) * 3, 0.2

    def cost(way: list[int]) -> float:
        if not way:
            return direct + state_cost
        inner = sum(float(table[i, j]) for i, j in itertools.pairwise(way))
        return float(first[way[0]]) + inner + float(last[way[-1]]) + state_cost * (len(way) + 1)

    lattice = Lattice(torch.arange(float(m)).unsqueeze(1), table)
    ways = lattice.ways(first, last, direct, state_cost, 3, g)
    assert len(ways) == 3
    found = ways[0].flatten().long().tolist()
    everything = [list(p) for n in range(m + 1) for p in itertools.permutations(range(m), n)]
    assert cost(found) == pytest.approx(min(map(cost, everything)), abs=1e-5)


def test_other_ways_are_nearly_as_cheap() -> None:
    # Two ways of cost 2 and 2.1, and one of 4.
    table = torch.full((3, 3), INF)
    first, last = torch.tensor([1.0, 1.05, 2.0]), torch.tensor([1.0, 1.05, 2.0])
    lattice = Lattice(torch.arange(3.0).unsqueeze(1), table)
    ways = lattice.ways(first, last, INF, 0.0, 50, seeded())
    taken = [way.flatten().tolist() for way in ways]
    assert taken[0] == [0.0] and [1.0] in taken and [2.0] not in taken


def test_ways_that_do_not_exist_are_not_invented() -> None:
    lattice = Lattice(torch.zeros(2, 1), torch.full((2, 2), INF))
    first, last = torch.tensor([1.0, INF]), torch.tensor([INF, 1.0])
    assert all(len(way) == 0 for way in lattice.ways(first, last, INF, 1.0, 3, seeded()))
