"""A plan as a person wants to see it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Plan:
    """Subgoal candidates, the distances between them and the shortest way through them."""

    nodes: NDArray[np.float32]
    """(K, goal_dim) in goal space: row 0 is where we are, row K - 1 the goal."""
    edges: NDArray[np.int64]
    """(M, 2) directed edges as rows of ``nodes``."""
    distances: NDArray[np.float32]
    """(M,) predicted steps of each edge."""
    path: list[int]
    """Rows of ``nodes`` from 0 to K - 1; empty if no path was found. With ``bisection``, it may end
    before the goal: the rest is laid out from there."""
    energies: NDArray[np.float32]
    """(K,) E(w | s, g) of each node, NaN where there is none."""

    @property
    def path_points(self) -> NDArray[np.float32]:
        """(len(path), goal_dim) the points of the shortest path."""
        return self.nodes[self.path]

    @property
    def length(self) -> float:
        """Predicted steps along the path; infinite if it does not lead to the goal."""
        if not self.path or self.path[-1] != len(self.nodes) - 1:
            return float("inf")
        steps = {
            (int(i), int(j)): float(d) for (i, j), d in zip(self.edges, self.distances, strict=True)
        }
        return sum(steps[pair] for pair in pairwise(self.path))

    def to_dict(self) -> dict[str, Any]:
        """The same as lists and numbers, ready for JSON; NaN energies become None."""
        return {
            "nodes": self.nodes.tolist(),
            "edges": self.edges.tolist(),
            "distances": self.distances.tolist(),
            "path": list(self.path),
            "energies": [None if np.isnan(e) else float(e) for e in self.energies],
            "length": self.length if np.isfinite(self.length) else None,
        }
