"""Gates: ground from which jumps were made, with where they led, and whether to go there.

A *jump* is a step that no action of the agent's own could make: farther than any full-speed step,
and than the steps around it. Where it ends may be luck, so one jump is a hint and no edge: the way
to the goal is planned over what jumps from there do on average, those that went elsewhere included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from hierebm.checkpoint.arrays import checked, plain
from hierebm.replay import EpisodeReplay
from hierebm.types import LARGEST, BoolArray, FloatArray, IntArray

# A jump goes more than so many times as far as a full-speed step, and as the steps before and after
# it: an agent that has become faster than it was when its speed was measured does not jump.
JUMP = 4.0
# Jumps whose entries lie within so many spacings of landmarks belong to one gate.
RADIUS = 1.75
# The jumps and the tries that are remembered, and the gates with the most jumps that are looked at.
REMEMBERED, MOST_GATES = 2000, 32
# The prior chance that a try to jump succeeds, Beta(2, 0.5): one try in five fails.
ARRIVED, FAILED = 2.0, 0.5
# Steps of a try: after so many without a jump it has failed.
TRY = 10
# The prior of where a jump leads, as one jump to anywhere on known ground.
ANYWHERE = 1.0
# Expected steps that count as never, and landmarks that stand for all known ground.
NEVER, SAMPLED = 2000.0, 200


def far_steps(moved: FloatArray, around: FloatArray) -> BoolArray:
    """Whether steps are jumps: (..., goal_dim) in full-speed steps, and (...) the longest of those
    before and after each -> (...)."""
    length = np.abs(moved).max(-1)
    return np.asarray(length > JUMP * np.maximum(around, 1.0))


def jumps_within(replay: EpisodeReplay, rows: IntArray, n: int, scale: FloatArray) -> BoolArray:
    """(n_rows, n) whether each of the n steps from these rows on is a jump; not so beyond the end
    of an episode."""
    left = replay.steps_left(rows)
    # From the state before each row on, where there is one.
    has_earlier = replay.steps_left(replay.later(rows, -1)) == left + 1
    ahead = np.clip(np.arange(-1, n + 2), np.where(has_earlier, -1, 0)[:, None], left[:, None])
    points = replay.achieved_goal[replay.later(rows[:, None], ahead)]
    moved = np.diff(points, axis=1) / scale
    length = np.abs(moved).max(-1)
    return far_steps(moved[:, 1:-1], np.maximum(length[:, :-2], length[:, 2:]))


@dataclass(frozen=True)
class Gate:
    """Where to go to jump, and what to chase there."""

    number: int
    """Its place in the list of gates, until they are found again."""
    point: FloatArray
    """(goal_dim,) a state from which a jump was made."""
    exit: FloatArray
    """(goal_dim,) where a jump from there once led; the low level knows how to get there."""

    @classmethod
    def restored(cls, state: Mapping[str, Any], goal_dim: int) -> Gate:
        """The gate of which ``vars`` told. Raises ValueError where it is none."""
        point, out = (checked(state, name, (goal_dim,), "floats") for name in ("point", "exit"))
        return cls(int(plain(state, "number", 0, LARGEST)), point, out)


class Gates:
    """All jumps that were seen, what became of tries, and expected steps by way of them.

    Args:
        step_scale: (goal_dim,) how far one step at full speed goes.
    """

    def __init__(self, step_scale: FloatArray) -> None:
        self.step_scale = step_scale
        dim = len(step_scale)
        # (J, 3, goal_dim): the state before the jump, the entry it was heading for, the exit.
        self._jumps = np.zeros((0, 3, dim), np.float32)
        # (T, goal_dim + 1): the state before, and 1 if a jump followed.
        self._tries = np.zeros((0, dim + 1), np.float32)
        # Both as of the last `settle`.
        self._settled, self._settled_tries = self._jumps, self._tries
        self._forget()

    def _forget(self) -> None:
        # The gate of each settled jump; -1 for none.
        self._gate_of = np.full(len(self._settled), -1)
        self._graph: csr_array | None = None

    def __len__(self) -> int:
        """Number of gates at the last :meth:`settle`."""
        return 0 if self._graph is None else len(self._expected_tries)

    # ----------------------------------------------------------------- experience

    def add(self, replay: EpisodeReplay, rows: IntArray) -> None:
        """Remember the jumps among the steps that begin at these rows, each seen once."""
        if not len(rows):
            return
        jumped = rows[jumps_within(replay, rows, 1, self.step_scale)[:, 0]]
        if not len(jumped):
            return
        earlier = replay.later(jumped, -1)
        moving = replay.steps_left(earlier) == replay.steps_left(jumped) + 1
        before = replay.achieved_goal[jumped]
        momentum = np.where(moving[:, None], before - replay.achieved_goal[earlier], 0.0)
        exits = replay.achieved_goal[replay.later(jumped, 1)]
        new = np.stack([before, before + momentum, exits], axis=1).astype(np.float32)
        self._jumps = np.concatenate([self._jumps, new])[-REMEMBERED:]

    def add_try(self, point: FloatArray, jumped: bool) -> None:
        """It was tried to jump from near ``point`` (goal_dim,)."""
        row = np.append(point, jumped)[None].astype(np.float32)
        self._tries = np.concatenate([self._tries, row])[-REMEMBERED:]

    # ------------------------------------------------------------------- planning

    def settle(self, graph: csr_array, landmarks: FloatArray, spacing: FloatArray) -> None:
        """Find the gates again; until then new jumps and tries change nothing.

        Args:
            graph: steps between landmarks, without jumps.
            landmarks: (n, goal_dim) in units of their spacing.
            spacing: (goal_dim,) of landmarks.
        """
        self._settled, self._settled_tries = self._jumps, self._tries
        self.restore(graph, landmarks, spacing)

    def restore(self, graph: csr_array, landmarks: FloatArray, spacing: FloatArray) -> None:
        """Find the gates of the last :meth:`settle` again, with the arguments of that."""
        self._forget()
        self._spacing, tries_seen = spacing, self._settled_tries
        if not len(self._settled) or not len(landmarks):
            return
        unit = self._spacing
        before, entry, exits = (self._settled / unit).transpose(1, 0, 2)
        self._gate_of = _clusters(entry, RADIUS)
        count = np.bincount(self._gate_of)
        kept = np.argsort(-count, kind="stable")[:MOST_GATES]
        renumbered = np.full(len(count), -1)
        renumbered[kept] = np.arange(len(kept))
        self._gate_of = renumbered[self._gate_of]
        self._counts = count[kept]
        self._graph, self._backwards = graph, csr_array(graph.T)
        self._landmarks = landmarks
        self._exit_at = _nearest(landmarks, exits)
        # The state before a jump is a landmark's as any other.
        at = _nearest(landmarks, before)
        first = [int(np.flatnonzero(self._gate_of == gate)[0]) for gate in range(len(kept))]
        self._on_foot = dijkstra(self._backwards, indices=at[first]).astype(np.float32)
        tries, arrived = np.zeros(len(kept)), np.zeros(len(kept))
        if len(tries_seen):
            gap = np.abs(tries_seen[:, None, :-1] / unit - before[None]).max(-1)
            gap[:, self._gate_of < 0] = np.inf
            gate = self._gate_of[gap.argmin(1)]
            near = gap.min(1) <= 2.0 * RADIUS
            np.add.at(tries, gate[near], 1.0)
            np.add.at(arrived, gate[near], tries_seen[near, -1])
        # Of a chance with a Beta(a, b) posterior, E[1 / chance] = (a + b - 1) / (a - 1).
        a = ARRIVED + arrived
        self._expected_tries = (a + FAILED + tries - arrived - 1.0) / (a - 1.0)

    def route(
        self, start: FloatArray, goal: FloatArray, avoided: FloatArray, margin: FloatArray
    ) -> Gate | None:
        """The gate that the best way from (goal_dim,) to (goal_dim,) leads to first; None where the
        best way has no gates, or nothing is known of the goal.

        Args:
            start, goal: the current state and the final goal.
            avoided: (m, goal_dim) points that gates must not be near.
            margin: (goal_dim,) how far is near.
        """
        if not len(self):
            return None
        unit = self._spacing
        gap = np.linalg.norm(self._landmarks - goal / unit, axis=-1)
        if gap.min() > 1.0:
            return None
        on_foot = dijkstra(self._backwards, indices=int(gap.argmin()))
        here = int(np.linalg.norm(self._landmarks - start / unit, axis=-1).argmin())
        usable = self._usable(avoided, margin)
        expected = self._expected_steps(on_foot, usable)
        total = np.where(usable, self._on_foot[:, here] + expected, np.inf)
        best = int(total.argmin())
        if not total[best] < min(float(on_foot[here]), NEVER):
            return None
        own = np.flatnonzero(self._gate_of == best)
        points, exits = self._settled[own, 0], self._settled[own, 2]
        nearest = int(np.abs((points - start) / unit).max(-1).argmin())
        # The exit that is farthest on foot: the low level jumps to get there.
        steps = dijkstra(self._graph, indices=int(_nearest(self._landmarks, points[:1] / unit)[0]))
        far = int(np.minimum(steps[self._exit_at[own]], NEVER).argmax())
        return Gate(best, points[nearest], exits[far])

    def _usable(self, avoided: FloatArray, margin: FloatArray) -> BoolArray:
        usable = np.ones(len(self), np.bool_)
        for point in avoided:
            near = (np.abs(self._settled[:, 0] - point) <= margin).all(-1)
            gates = self._gate_of[near]
            usable[gates[gates >= 0]] = False
        return usable

    def _expected_steps(self, on_foot: FloatArray, usable: BoolArray) -> NDArray[np.float64]:
        """(G,) expected steps from each gate to the goal; (n,) those on foot from each landmark.

        Value iteration of a stochastic shortest path (Bertsekas & Tsitsiklis 1991): exits have the
        posterior mean of a Dirichlet prior that is uniform over known ground.
        """
        n = len(on_foot)
        spread = np.linspace(0, n - 1, min(n, SAMPLED)).astype(np.int64)
        jumps = np.flatnonzero(self._gate_of >= 0)
        gate, exits = self._gate_of[jumps], self._exit_at[jumps]
        where = np.concatenate([exits, spread])
        walk, to_gates = np.minimum(on_foot[where], NEVER), self._on_foot[:, where].copy()
        to_gates[~usable] = np.inf
        trying = (self._expected_tries - 1.0) * TRY + 1.0
        expected = np.zeros(len(self))
        for _ in range(200):
            steps = np.minimum(walk, (to_gates + expected[:, None]).min(0))
            seen = np.bincount(gate, steps[: len(exits)], minlength=len(self))
            anywhere = ANYWHERE * steps[len(exits) :].mean()
            new = trying + (seen + anywhere) / (self._counts + ANYWHERE)
            change = np.abs(new - expected).max()
            expected = new
            if change < 0.1 or expected.min() > NEVER:
                break
        return expected

    # ---------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores it from; :meth:`restore` is called then."""
        return {
            "jumps": self._jumps,
            "tries": self._tries,
            "settled_jumps": self._settled,
            "settled_tries": self._settled_tries,
        }

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is none of gates."""
        dim = len(self.step_scale)
        shapes = {"jumps": (None, 3, dim), "tries": (None, dim + 1)}
        jumps, tries, settled, settled_tries = (
            checked(arrays, prefix + name, shape, "floats")[-REMEMBERED:]
            for prefix in ("", "settled_")
            for name, shape in shapes.items()
        )
        self._jumps, self._tries = jumps, tries
        self._settled, self._settled_tries = settled, settled_tries
        self._forget()


def _clusters(points: FloatArray, radius: float) -> IntArray:
    """(n,) for each point (n, dim) the number of the first leader within the radius; who has none
    is one (leader clustering, Hartigan 1975)."""
    result = np.full(len(points), -1)
    count = 0
    for index in range(len(points)):
        if result[index] < 0:
            near = np.linalg.norm(points - points[index], axis=-1) <= radius
            result[near & (result < 0)] = count
            count += 1
    return result


def _nearest(landmarks: FloatArray, points: FloatArray) -> IntArray:
    return np.asarray(cKDTree(landmarks).query(points)[1], np.int64)
