"""The lattice: some replayed states, and the cheapest ways over them.

Cheapest by the cost of transitions that plans are compared by; ways that are nearly as cheap are
found as the cheapest ones after all costs were perturbed (perturb and MAP, Papandreou & Yuille
2011).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

# Costs are multiplied by up to one more than this.
PERTURBED = 0.3
# The search takes a cost of 0 for no transition.
LEAST_COST = 1e-6


class Lattice:
    """States (M, D), and the costs (M, M) of the transitions among them; inf where there is none.

    Args:
        states: replayed states.
        costs: at least 0.
    """

    def __init__(self, states: Tensor, costs: Tensor) -> None:
        self.states, self.costs = states, costs
        table = costs.numpy()
        row, column = np.nonzero(np.isfinite(table))
        self._begin = np.searchsorted(row, np.arange(len(states) + 1)).astype(np.int32)
        self._column = column.astype(np.int32)
        self._data = table[row, column].astype(np.float64)

    def ways(
        self,
        first: Tensor,
        last: Tensor,
        direct: float,
        state_cost: float,
        n: int,
        generator: torch.Generator,
    ) -> list[Tensor]:
        """n ways from a start to a goal, the first the cheapest, as the states (m, D) between.

        Args:
            first, last: (M,) costs from the start to each state, and from each to the goal.
            direct: cost from start to goal at once.
            state_cost: cost of each state on the way.
            n: number of ways, some of which may be the same.
            generator: source of the perturbations.

        Returns:
            No states where start and goal are joined by nothing else.
        """
        starts = np.flatnonzero(np.isfinite(first.numpy()))
        data = np.concatenate([self._data, first.numpy()[starts]]) + max(state_cost, LEAST_COST)
        column = np.concatenate([self._column, starts.astype(np.int32)])
        begin = np.append(self._begin, np.int32(len(data)))
        m, ends = len(self.states), last.numpy() + state_cost
        noise = 1.0 + PERTURBED * torch.rand(n - 1, len(data), generator=generator).numpy()
        ways = []
        for factor in [np.ones(1), *noise]:
            graph = csr_array((data * factor, column, begin), shape=(m + 1, m + 1))
            cost, before = dijkstra(graph, indices=m, return_predecessors=True)
            ways.append(self.states[_states(cost[:m] + ends, before, direct + state_cost)])
        return ways


def _states(total: NDArray[np.float64], before: NDArray[np.int32], direct: float) -> Tensor:
    """The states of the way that is cheapest in total, in order."""
    m, at = len(total), int(total.argmin())
    way: list[int] = []
    if total[at] < direct:
        while at != m:
            way.append(at)
            at = int(before[at])
    return torch.tensor(way[::-1], dtype=torch.long)
