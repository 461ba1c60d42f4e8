"""The subgoal graph: places joined by the low level's distances, and the shortest path through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from hierebm.planning.places import Places
from hierebm.planning.plan import Plan
from hierebm.replay.episodes import FloatArray, IntArray
from hierebm.replay.hindsight import ReachedFn


class DistanceModel(Protocol):
    """What the graph asks of the low level."""

    def distance(
        self,
        observation: FloatArray,
        achieved_goal: FloatArray,
        goal: FloatArray,
        reduce: str = "max",
    ) -> FloatArray:
        """(B, obs_dim), (B, goal_dim), (B, goal_dim) -> (B,) predicted steps."""


# Edges whose ends lie within this many steps of the ends of one that failed fail with it.
ALIKE = 2.0


@dataclass
class GraphConfig:
    """Which pairs of places become edges, and what an edge costs."""

    max_edge: float = 20.0
    """Longest edge, in predicted steps."""
    safe_edge: float = 8.0
    """Predicted steps up to which an edge costs about its length; longer ones cost far more."""
    hop_cost: float = 2.0
    """Steps added to every edge: a subgoal counts as reached at its rim, the next edge is counted
    from its centre, and a way over many near subgoals would look shorter than it is."""
    unsupported_cost: float = 50.0
    """How many times more an edge costs that no experience bears out; 1 for no such check."""
    neighbours: int = 24
    """Edges considered out of each place: to its nearest places in goal space."""

    def cost(self, distance: FloatArray, supported: NDArray[np.bool_]) -> FloatArray:
        """Convex edge cost d (1 + (d / safe_edge)^3) + hop_cost; infinite above ``max_edge``.

        A shortest path seeks out underestimated edges. Long edges are the unreliable ones; this
        prefers many safe ones without cutting a sparse graph apart.

        Args:
            distance: steps, of any shape.
            supported: whether experience bears each edge out.
        """
        cost = distance * (1.0 + (distance / self.safe_edge) ** 3) + self.hop_cost
        cost = np.where(supported, cost, self.unsupported_cost * cost)
        return np.where(distance <= self.max_edge, cost, np.inf).astype(np.float32)


def candidate_pairs(
    source: FloatArray, target: FloatArray, neighbours: int, reach: FloatArray
) -> tuple[IntArray, IntArray]:
    """Pairs (i, j) that can matter: ``target[j]`` is near ``source[i]`` in goal space.

    Args:
        source, target: (n, goal_dim), (m, goal_dim).
        neighbours: at most this many pairs for each source.
        reach: (goal_dim,) how far the longest edge can go in each dimension; also the unit in
            which nearness is measured.
    """
    k = min(neighbours + 1, len(target))
    distance, j = cKDTree(target / reach).query(source / reach, k=k, p=np.inf)
    distance, j = distance.reshape(len(source), k), j.reshape(len(source), k)
    near = distance <= 1.0
    i = np.broadcast_to(np.arange(len(source))[:, None], j.shape)
    return i[near].astype(np.int64), j[near].astype(np.int64)


class EdgeCheck(Protocol):
    """What the graph asks of experience."""

    def judge(
        self, source: FloatArray, target: FloatArray, predicted: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """(n, goal_dim), (n, goal_dim), (n,) predicted steps -> (n,) steps, (n,) supported."""

    def seldom_visited(
        self, point: FloatArray, reach: float, rng: np.random.Generator
    ) -> tuple[FloatArray, float] | None:
        """(goal_dim,) -> a place to explore at most ``reach`` steps away, and the steps to it."""


class SubgoalGraph:
    """Places as nodes 1..n, where we are as node 0, the goal as node n + 1.

    The distances between places and to the goal are computed once; while a plan is followed only
    the row of the start changes (:meth:`move_start`).

    Args:
        places: the n subgoal candidates.
        goal: (goal_dim,).
        model: gives distances in steps.
        config: edges and their cost.
        step_scale: (goal_dim,) how far one step at full speed goes, to leave out pairs that no
            policy could join within ``max_edge`` steps.
        reached: whether an achieved goal counts as a goal; an edge that leads to where we already
            are is none.
        experience: tells edges that trajectories bear out from those that only the critics do;
            None trusts the critics.
        failed: (from, to) of edges that were tried in vain, in other graphs of the same way too;
            the list is shared and grows with :meth:`fail`.
    """

    def __init__(
        self,
        places: Places,
        goal: FloatArray,
        model: DistanceModel,
        config: GraphConfig,
        step_scale: FloatArray,
        reached: ReachedFn,
        experience: EdgeCheck | None = None,
        failed: list[tuple[FloatArray, FloatArray]] | None = None,
    ) -> None:
        self.places, self.goal, self.model, self.config = places, goal, model, config
        self.reached, self.experience = reached, experience
        self.failed = [] if failed is None else failed
        self._alike = np.asarray(ALIKE * step_scale, np.float32)
        self._reach = np.asarray(1.5 * config.max_edge * step_scale, np.float32)
        n = len(places)
        self.n_nodes = n + 2
        # distance[i, j] in steps; infinite where no edge was considered.
        self.distance = np.full((n + 2, n + 2), np.inf, np.float32)
        self.barred = np.zeros((n + 2, n + 2), np.bool_)
        self.unsupported = np.zeros((n + 2, n + 2), np.bool_)
        targets = np.concatenate([places.achieved_goal, goal[None]])
        i, j = candidate_pairs(places.achieved_goal, targets, config.neighbours, self._reach)
        # The goal is a target of every place within reach, however many places are nearer.
        to_goal = np.flatnonzero((np.abs(places.achieved_goal - goal) <= self._reach).all(-1))
        keep = (j != n) & ~reached(places.achieved_goal[i], targets[j])
        i = np.concatenate([i[keep], to_goal])
        j = np.concatenate([j[keep], np.full(len(to_goal), n)])
        steps, supported = self._judge(places.observation[i], places.achieved_goal[i], targets[j])
        self.unsupported[i + 1, j + 1] = ~supported
        self.distance[i + 1, j + 1] = steps
        self._targets = targets
        self._bar_failed()

    def move_start(self, observation: FloatArray, achieved_goal: FloatArray) -> None:
        """We are at a new state now: (obs_dim,), (goal_dim,); only the start's row changes."""
        self.start, self.start_observation, targets = achieved_goal, observation, self._targets
        here = np.tile(achieved_goal, (len(targets), 1))
        near = (np.abs(targets - here) <= self._reach).all(-1)
        # The final goal is always worth going to: the episode says when it is reached.
        near &= ~self.reached(here, targets) | (np.arange(len(targets)) == len(targets) - 1)
        candidates = np.flatnonzero(near)
        self.distance[0] = np.inf
        steps, supported = self._judge(
            np.tile(observation, (len(candidates), 1)), here[candidates], targets[candidates]
        )
        self.unsupported[0, candidates + 1] = ~supported
        self.distance[0, candidates + 1] = steps
        self.barred[0] = False
        for source, target in self.failed:
            if (np.abs(source - achieved_goal) <= self._alike).all():
                self.barred[0, self._like(target)] = True

    def _judge(
        self, observation: FloatArray, source: FloatArray, target: FloatArray
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Steps (n,) of edges between any points, and whether experience bears them out (n,)."""
        steps = self.model.distance(observation, source, target)
        if self.experience is None:
            return steps, np.ones(len(steps), np.bool_)
        return self.experience.judge(source, target, steps)

    def cost_between(
        self, observation: FloatArray, source: FloatArray, target: FloatArray
    ) -> FloatArray:
        """Costs (n,) of edges that need not be in the graph; infinite where it would have none.

        Args:
            observation, source: (n, obs_dim), (n, goal_dim) where the edges begin.
            target: (n, goal_dim) where they end.
        """
        cost = self.config.cost(*self._judge(observation, source, target))
        cost[self.reached(source, target)] = np.inf
        for a, b in self.failed:
            alike = (np.abs(source - a) <= self._alike) & (np.abs(target - b) <= self._alike)
            cost[alike.all(-1)] = np.inf
        return cost

    def move_path(self, path: list[int], places: Places) -> None:
        """Put the nodes of a path elsewhere; those that move keep only the path's own edges.

        Args:
            path: nodes from 0 (the start) to n + 1 (the goal).
            places: where those between the two are now.
        """
        nodes = np.array(path[1:-1], np.int64)
        observation, points = self.places.observation.copy(), self.places.achieved_goal.copy()
        moved = nodes[(points[nodes - 1] != places.achieved_goal).any(-1)]
        observation[nodes - 1], points[nodes - 1] = places.observation, places.achieved_goal
        # Samplers may hand out the same places again. Energies stay those of the drawn nodes.
        self.places = Places(observation, points, self.places.energy)
        self._targets = np.concatenate([points, self.goal[None]])
        for matrix, nothing in ((self.distance, np.inf), (self.barred, False)):
            matrix[moved] = matrix[:, moved] = nothing
        self._bar_failed()
        i, j = np.array(path[:-1]), np.array(path[1:])
        steps, supported = self._judge(
            np.concatenate([self.start_observation[None], places.observation]),
            np.concatenate([self.start[None], places.achieved_goal]),
            self._targets[j - 1],
        )
        self.distance[i, j], self.unsupported[i, j] = steps, ~supported

    def _bar_failed(self) -> None:
        for source, target in self.failed:
            self.barred[np.ix_(self._like(source), self._like(target))] = True

    def _like(self, point: FloatArray) -> IntArray:
        """Nodes (the start is none of them) that are about where ``point`` (goal_dim,) is."""
        result: IntArray = (
            np.flatnonzero((np.abs(self._targets - point) <= self._alike).all(-1)) + 1
        )
        return result

    def fail(self, source: FloatArray, target: FloatArray) -> None:
        """The way from source (goal_dim,) to target was tried in vain: bar all edges like it."""
        self.failed.append((source, target))
        self.barred[np.ix_(self._like(source), self._like(target))] = True

    def release(self) -> None:
        """Give everything that was barred another chance."""
        self.failed.clear()
        self.barred[:] = False

    @property
    def costs(self) -> FloatArray:
        """(n + 2, n + 2) edge costs, infinite where there is no edge."""
        cost = self.config.cost(self.distance, ~self.unsupported)
        result: FloatArray = np.where(self.barred, np.float32(np.inf), cost)
        return result

    def shortest_path(self) -> list[int]:
        """Nodes from 0 (the start) to n + 1 (the goal), by weighted length; [] if there is none."""
        costs = self.costs
        i, j = np.nonzero(np.isfinite(costs))
        matrix = csr_array((costs[i, j], (i, j)), shape=costs.shape)
        length, before = dijkstra(matrix, indices=0, return_predecessors=True)
        last = self.n_nodes - 1
        if not np.isfinite(length[last]):
            return []
        path = [last]
        while path[-1] != 0:
            path.append(int(before[path[-1]]))
        return path[::-1]

    def point(self, node: int) -> FloatArray:
        """(goal_dim,) the goal-space point of a node other than the start."""
        if node == self.n_nodes - 1:
            return self.goal
        result: FloatArray = self.places.achieved_goal[node - 1]
        return result

    def largest_component(self) -> int:
        """Number of places in the largest strongly connected component."""
        edges = csr_array(np.isfinite(self.costs[1:-1, 1:-1]))
        _, labels = connected_components(edges, directed=True, connection="strong")
        return int(np.bincount(labels).max()) if len(labels) else 0

    def to_plan(self, path: list[int]) -> Plan:
        """The graph as a :class:`Plan`."""
        edges = np.argwhere(np.isfinite(self.costs))
        nan: NDArray[np.float32] = np.full(1, np.nan, np.float32)
        return Plan(
            nodes=np.concatenate([self.start[None], self.places.achieved_goal, self.goal[None]]),
            edges=edges,
            distances=self.distance[edges[:, 0], edges[:, 1]],
            path=path,
            energies=np.concatenate([nan, self.places.energy, nan]),
        )
