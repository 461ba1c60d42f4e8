"""Nodes: points of goal space, each with an observation that stands for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hierebm.replay import CoveredGround, EpisodeReplay
from hierebm.types import FloatArray

# A node's observation is the mean over this many stored states around it: what differs between
# visits (velocity above all) averages out.
NEIGHBOURS = 8


@dataclass(frozen=True)
class Nodes:
    """n nodes: (n, obs_dim) observations, (n, goal_dim) achieved goals, (n,) energies or NaN."""

    observation: FloatArray
    achieved_goal: FloatArray
    energy: FloatArray
    in_order: int = 0
    """This many of them, the first, are laid out from start to goal: the way leads over one after
    the other, however far apart they are (see :class:`~.subgoal_graph.SubgoalGraph`)."""

    def __len__(self) -> int:
        return len(self.achieved_goal)

    def __getitem__(self, index: NDArray[np.generic]) -> Nodes:
        return Nodes(self.observation[index], self.achieved_goal[index], self.energy[index])


class NodePool:
    """A snapshot of stored states that nodes are made of, with a k-d tree over goal space.

    Planning asks for distances *from* a node too, so that every point of goal space needs an
    observation. It is the mean observation of the stored states nearest to it, except that
    components which merely repeat the achieved goal take the point itself.

    Args:
        observation, achieved_goal: (m, obs_dim), (m, goal_dim) stored states.
    """

    def __init__(self, observation: FloatArray, achieved_goal: FloatArray) -> None:
        self.observation, self.achieved_goal = observation, achieved_goal
        self._tree = cKDTree(self.achieved_goal)
        self._copies = [
            (i, j)
            for i in range(self.observation.shape[1])
            for j in range(self.achieved_goal.shape[1])
            if np.allclose(self.observation[:, i], self.achieved_goal[:, j], atol=1e-5)
        ]

    @classmethod
    def draw(
        cls,
        replay: EpisodeReplay,
        size: int,
        rng: np.random.Generator,
        covered: CoveredGround | None = None,
    ) -> NodePool:
        """``size`` states of the replay, with replacement: uniformly, or as ``covered`` draws."""
        rows = (replay if covered is None else covered).sample_rows(size, rng)
        return cls(replay.observation[rows], replay.achieved_goal[rows])

    def __len__(self) -> int:
        return len(self.achieved_goal)

    def nodes_at(
        self, points: FloatArray, energy: FloatArray | None = None, in_order: int = 0
    ) -> Nodes:
        """(n, goal_dim) points of goal space -> nodes there."""
        points = np.ascontiguousarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != self.achieved_goal.shape[1]:
            dim = self.achieved_goal.shape[1]
            raise ValueError(f"points must be of the shape (n, {dim}), got {points.shape}")
        _, nearest = self._tree.query(points, k=min(NEIGHBOURS, len(self)))
        observation = self.observation[nearest.reshape(len(points), -1)].mean(1, dtype=np.float32)
        for i, j in self._copies:
            observation[:, i] = points[:, j]
        if energy is None:
            energy = np.full(len(points), np.nan, np.float32)
        return Nodes(observation, points, energy, in_order)

    def random_nodes(self, n: int, rng: np.random.Generator) -> Nodes:
        """n different stored states, uniformly; all of them where the pool holds no more."""
        rows = rng.choice(len(self), size=min(n, len(self)), replace=False)
        return self.nodes_at(self.achieved_goal[rows])

    def nearest(self, points: FloatArray, k: int) -> FloatArray:
        """(n, goal_dim) points of goal space -> (n, k, goal_dim), the stored ones nearest to each.

        Fewer than k where the pool holds fewer.
        """
        k = min(k, len(self))
        _, rows = self._tree.query(points, k=k)
        result: FloatArray = self.achieved_goal[rows.reshape(len(points), k)]
        return result
