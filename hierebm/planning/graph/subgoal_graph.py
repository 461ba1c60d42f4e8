"""The subgoal graph: nodes joined by the low level's distances, and the shortest path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from hierebm.checkpoint.arrays import checked, plain, rows_of
from hierebm.planning.graph.edges import FARTHEST, EdgeRules
from hierebm.planning.graph.nodes import Nodes
from hierebm.planning.graph.plan import Plan
from hierebm.types import BoolArray, FloatArray, IntArray

# Edges whose ends lie within this many steps of the ends of one that failed are blocked with it.
ALIKE = 2.0
# What a placeholder edge over an unexpanded segment costs: more than any verified edge.
PLACEHOLDER_COST = 1000.0
# All that is known of pairs of nodes.
_STEPS = ("distance", "_least")
_MATRICES = (*_STEPS, "blocked", "unverified", "_unasked")
# Edges are predicted first that may be on a path of so many times the least possible cost; where no
# verified path is that short, some others are predicted after them.
LIKELY = 1.75


class SubgoalGraph:
    """The start as node 0, n sampled nodes as 1..n, the goal as node n + 1.

    While a plan is followed only the row of the start changes (:meth:`move_start`). Nothing is
    predicted before it is needed: where experience verifies a whole path, the model need not be
    asked about what is not verified, nor about most of the long edges.

    Args:
        nodes: the n subgoal candidates.
        goal: (goal_dim,).
        edges: which pairs are joined, how far apart they are, and what that costs.
        failed: (from, to) of edges that failed, in earlier graphs for the same goal too; the list
            is shared and grows with :meth:`block`.
    """

    def __init__(
        self,
        nodes: Nodes,
        goal: FloatArray,
        edges: EdgeRules,
        failed: list[tuple[FloatArray, FloatArray]] | None = None,
    ) -> None:
        self._take_rules(nodes, goal, edges)
        self.failed = [] if failed is None else failed
        n = len(nodes)
        # distance[i, j] in steps; infinite where no edge was considered or none predicted yet.
        self.distance = np.full((n + 2, n + 2), np.inf, np.float32)
        self.blocked = np.zeros((n + 2, n + 2), np.bool_)
        self.unverified = np.zeros((n + 2, n + 2), np.bool_)
        # Edges that were not predicted yet, and the steps that each takes at least if verified.
        self._unasked = np.zeros((n + 2, n + 2), np.bool_)
        self._least = np.full((n + 2, n + 2), np.inf, np.float32)
        points, targets = nodes.achieved_goal, self._targets
        i, j = edges.candidate_pairs(points, targets)
        self._unasked[i + 1, j + 1] = True
        # The goal is a target of every node within the radius, however many nodes are nearer.
        self._unasked[1:-1, -1] = edges.is_candidate(points, goal)
        self._least[1:-1, 1:] = edges.least_steps(points, targets)
        self._block_failed()

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`restored` makes the graph again from."""
        nodes = self.nodes
        failed = np.zeros((0, 2, len(self.goal)), np.float32)
        return {
            # Without energies: they chose the nodes, and are only looked at by people.
            "nodes": [nodes.observation, nodes.achieved_goal, nodes.in_order],
            "start": [self.start, self.start_observation],
            "failed": np.array(self.failed, np.float32) if self.failed else failed,
            "safe_edge": self._rules.config.safe_edge,
            **{name: getattr(self, name) for name in _MATRICES},
        }

    @classmethod
    def restored(
        cls, state: Mapping[str, Any], goal: FloatArray, edges: EdgeRules, obs_dim: int
    ) -> SubgoalGraph:
        """The graph of which :meth:`state_dict` told.

        Args:
            goal: (goal_dim,).
            obs_dim: length of an observation.
            edges: the current rules; how far an edge is safe is what it was then.

        Raises:
            ValueError: it is of other lengths, or damaged.
        """
        dim = len(edges.step_scale)
        goal = checked({"goal": goal}, "goal", (dim,), "floats")
        config = replace(edges.config, safe_edge=plain(state, "safe_edge", 1.0, FARTHEST))
        graph = cls.__new__(cls)
        graph.start, graph.start_observation = (
            checked({"start": part}, "start", (length,), "floats")
            for part, length in zip(state["start"], (dim, obs_dim), strict=True)
        )
        *stored, in_order = state["nodes"]
        observation, points = rows_of(stored, "nodes", None, (obs_dim, dim))
        n = len(points)
        in_order = int(plain({"in_order": in_order}, "in_order", 0, n))
        nodes = Nodes(observation, points, np.full(n, np.nan, np.float32), in_order)
        graph._take_rules(nodes, goal, replace(edges, config=config))
        failed = checked(state, "failed", (None, 2, dim), "floats")
        graph.failed = [(source, target) for source, target in failed]
        for name in _MATRICES:
            kind, high = ("floats", math.inf) if name in _STEPS else ("flags", 1)
            matrix = checked(state, name, (n + 2, n + 2), kind, low=0.0, high=high)
            setattr(graph, name, matrix)
        return graph

    def _take_rules(self, nodes: Nodes, goal: FloatArray, edges: EdgeRules) -> None:
        self.nodes, self.goal, self._rules = nodes, goal, edges
        self._alike = np.asarray(ALIKE * edges.step_scale, np.float32)
        self.goal_node = len(nodes) + 1
        self._targets = np.concatenate([nodes.achieved_goal, goal[None]])

    def move_start(self, observation: FloatArray, achieved_goal: FloatArray) -> None:
        """Begin at another state, (obs_dim,) and (goal_dim,); only the start's row changes."""
        self.start, self.start_observation, targets = achieved_goal, observation, self._targets
        near = self._rules.is_candidate(achieved_goal, targets)
        reached = self._rules.reached(np.tile(achieved_goal, (len(targets), 1)), targets)
        # The final goal is always worth going to: the episode says when it is reached.
        near[:-1] &= ~reached[:-1]
        self._unasked[0, 1:] = near
        self._least[0, 1:] = self._rules.least_steps(achieved_goal[None], targets)[0]
        self.distance[0], self.unverified[0], self.blocked[0] = np.inf, False, False
        for source, target in self.failed:
            if (np.abs(source - achieved_goal) <= self._alike).all():
                self.blocked[0, self._like(target)] = True

    def move_goal(self, goal: FloatArray) -> None:
        """The goal (goal_dim,) is a little elsewhere; edges to it stay as they were predicted."""
        self.goal = goal
        self._targets = np.concatenate([self._targets[:-1], goal[None]])

    def predict(self, wanted: BoolArray) -> None:
        """Predict the wanted edges, a mask (n + 2, n + 2), of those not predicted yet."""
        wanted = wanted & self._unasked
        i, j = np.nonzero(wanted)
        if not i.size:
            return
        observations = np.concatenate([self.start_observation[None], self.nodes.observation])
        points = np.concatenate([self.start[None], self._targets])
        steps, is_verified = self._rules.evaluate(observations[i], points[i], points[j])
        self.distance[i, j], self.unverified[i, j] = steps, ~is_verified
        self._unasked[wanted] = False

    def predict_from_start(self) -> None:
        """Predict the edges from the start."""
        wanted = np.zeros_like(self._unasked)
        wanted[0] = True
        self.predict(wanted)

    def evaluate(
        self, observation: FloatArray, source: FloatArray, target: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Costs, steps and whether they are verified, (n,) each, of edges that need not be in the
        graph; a cost is infinite where the graph would have no edge.

        Args:
            observation, source: (n, obs_dim), (n, goal_dim) where the edges begin.
            target: (n, goal_dim) where they end.
        """
        steps, is_verified = self._rules.evaluate(observation, source, target)
        cost = self._rules.cost(steps, is_verified)
        cost[self._rules.reached(source, target)] = np.inf
        for a, b in self.failed:
            alike = (np.abs(source - a) <= self._alike) & (np.abs(target - b) <= self._alike)
            cost[alike.all(-1)] = np.inf
        return cost, steps, is_verified

    def cost(self, steps: FloatArray, is_verified: BoolArray) -> FloatArray:
        """Costs (n,) of the graph's own edges of (n,) steps."""
        return self._rules.cost(steps, is_verified)

    def move_path(
        self, path: list[int], nodes: Nodes, steps: FloatArray, is_verified: BoolArray
    ) -> None:
        """Put the nodes of a path elsewhere; those that move keep only the path's own edges.

        Args:
            path: m nodes from 0 (the start) on; the last stays where it is.
            nodes: where those between the two are now.
            steps, is_verified: (m - 1,) what :meth:`evaluate` says of the path's edges.
        """
        inner = np.array(path[1:-1], np.int64)
        observation, points = self.nodes.observation.copy(), self.nodes.achieved_goal.copy()
        moved = inner[(points[inner - 1] != nodes.achieved_goal).any(-1)]
        observation[inner - 1], points[inner - 1] = nodes.observation, nodes.achieved_goal
        # Samplers may hand out the same nodes again. Energies stay those of the drawn nodes.
        self.nodes = replace(self.nodes, observation=observation, achieved_goal=points)
        self._targets = np.concatenate([points, self.goal[None]])
        for matrix, nothing in (
            (self.distance, np.inf),
            (self.blocked, False),
            (self._unasked, False),
        ):
            matrix[moved] = matrix[:, moved] = nothing
        self._block_failed()
        self.distance[path[:-1], path[1:]] = steps
        self.unverified[path[:-1], path[1:]] = ~is_verified

    def _block_failed(self) -> None:
        for source, target in self.failed:
            self.blocked[np.ix_(self._like(source), self._like(target))] = True

    def _like(self, point: FloatArray) -> IntArray:
        """Nodes (the start is none of them) that are about where ``point`` (goal_dim,) is."""
        result: IntArray = (
            np.flatnonzero((np.abs(self._targets - point) <= self._alike).all(-1)) + 1
        )
        return result

    def block(self, source: FloatArray, target: FloatArray) -> None:
        """The edge from source (goal_dim,) to target failed: block it and all edges like it."""
        self.failed.append((source, target))
        self.blocked[np.ix_(self._like(source), self._like(target))] = True

    def unblock(self) -> None:
        """Give every blocked edge another chance."""
        self.failed.clear()
        self.blocked[:] = False

    @property
    def costs(self) -> FloatArray:
        """(n + 2, n + 2) edge costs, infinite where there is no edge."""
        cost = self._rules.cost(self.distance, ~self.unverified)
        result: FloatArray = np.where(self.blocked, np.float32(np.inf), cost)
        return result

    def may_be_verified(self) -> bool:
        """Whether there may be a verified path from the start, as known before anything is
        predicted. Nodes laid out in order are a path as far as it is verified, so always true."""
        there, _ = _search(self._least_costs(), 0)
        return self.nodes.in_order > 0 or bool(np.isfinite(there[-1]))

    def shortest_path(self) -> list[int]:
        """Nodes from 0 (the start) to n + 1 (the goal), by weighted length; [] if there is none.

        A path over verified edges comes first; others are predicted where there is none. Nodes that
        are laid out in order are joined by placeholder edges where there are no others, and nothing
        comes first. The path ends where the first placeholder begins, and is [] if that is at the
        start.
        """
        if not self.nodes.in_order and (path := self._verified_path()):
            return path
        self.predict(self._unasked)
        costs = self.costs
        chain = np.array([*range(self.nodes.in_order + 1), self.goal_node])
        placeholder = np.zeros_like(costs, np.bool_)
        placeholder[chain[:-1], chain[1:]] = self.nodes.in_order > 0
        placeholder &= ~np.isfinite(costs) & ~self.blocked
        costs = np.where(placeholder, np.float32(PLACEHOLDER_COST), costs)
        path = _path(*_search(costs, 0))
        placeholders = np.flatnonzero(placeholder[path[:-1], path[1:]])
        if placeholders.size:
            path = path[: placeholders[0] + 1]
        return path if len(path) > 1 else []

    def _verified_path(self) -> list[int]:
        """The shortest path over verified edges; [] if there is none.

        Most edges need no prediction: what they cost at least says that they are on no such path.
        """
        at_least, shortest = self._through_costs()
        if not np.isfinite(shortest):
            return []
        self.predict(at_least <= LIKELY * shortest)
        at_least, _ = self._through_costs()
        length, before = _search(self._verified_costs(), 0)
        shorter = at_least < length[-1]
        if (self._unasked & shorter).any():
            self.predict(shorter)
            length, before = _search(self._verified_costs(), 0)
        return _path(length, before)

    def _through_costs(self) -> tuple[FloatArray, float]:
        """(n + 2, n + 2) what a verified path over each edge costs at least, and any of them."""
        there, _ = _search(least := self._least_costs(), 0)
        onwards, _ = _search(least.T, self.goal_node)
        return there[:, None] + least + onwards, float(there[-1])

    def _verified_costs(self) -> FloatArray:
        return np.where(self.unverified, np.float32(np.inf), self.costs)

    def _least_costs(self) -> FloatArray:
        """(n + 2, n + 2) what verified edges cost at least; infinite where none is possible."""
        least = self._rules.cost(self._least, np.ones_like(self._unasked))
        possible = np.where(self.blocked, np.float32(np.inf), least)
        return np.where(self._unasked, possible, self._verified_costs())

    def point(self, node: int) -> FloatArray:
        """(goal_dim,) the goal-space point of a node other than the start."""
        if node == self.goal_node:
            return self.goal
        result: FloatArray = self.nodes.achieved_goal[node - 1]
        return result

    @property
    def edges(self) -> BoolArray:
        """(n + 2, n + 2) whether an edge joins two nodes; of edges that were not predicted, those
        count that experience may verify."""
        result: BoolArray = np.isfinite(self.costs) | np.isfinite(self._least_costs())
        return result

    def to_plan(self, path: list[int]) -> Plan:
        """The graph as a :class:`Plan`."""
        edges = np.argwhere(np.isfinite(self.costs))
        nan: NDArray[np.float32] = np.full(1, np.nan, np.float32)
        return Plan(
            nodes=np.concatenate([self.start[None], self.nodes.achieved_goal, self.goal[None]]),
            edges=edges,
            distances=self.distance[edges[:, 0], edges[:, 1]],
            path=path,
            energies=np.concatenate([nan, self.nodes.energy, nan]),
        )


def _search(costs: FloatArray, source: int) -> tuple[FloatArray, IntArray]:
    """(k,) lengths of the shortest paths from a node over edges of these costs (k, k), and (k,) the
    nodes before the last."""
    i, j = np.nonzero(np.isfinite(costs))
    begin = np.searchsorted(i, np.arange(len(costs) + 1)).astype(np.int32)
    # The types that the search works with: of others it makes copies, in twice its own time.
    parts = costs[i, j].astype(np.float64), j.astype(np.int32), begin
    matrix = csr_array(parts, shape=costs.shape)
    length, before = dijkstra(matrix, indices=source, return_predecessors=True)
    return length, before


def _path(length: FloatArray, before: IntArray) -> list[int]:
    """Nodes from the first to the last; [] if there is no path."""
    if not np.isfinite(length[-1]):
        return []
    path = [len(length) - 1]
    while path[-1] != 0:
        path.append(int(before[path[-1]]))
    path.reverse()
    return path
