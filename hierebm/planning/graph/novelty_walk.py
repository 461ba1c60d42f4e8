"""The walk at the frontier: actions that are held for a while, to where experience is rare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.planning.graph.displacement import DisplacementModel
from hierebm.planning.graph.transition_map import SPACING, TransitionMap
from hierebm.replay import EpisodeReplay
from hierebm.types import FloatArray, IntArray

# Actions to choose from, and the steps that one is held for.
CANDIDATES, SHORTEST, LONGEST = 32, 4, 12
# What an end is worth avoiding for, in visits: each time that it was tried before and is unknown
# still (there is a wall), being known at all, and having been near it in this walk.
TRIED, KNOWN, PASSED = 20.0, 10.0, 50.0
# Side of the cells that ends are counted in, in spacings of landmarks: what lies behind a wall is
# given up after a few tries.
CELL = 2.0
# Ends that differ by fewer visits than this are alike.
ALIKE = 5.0
# A step that goes less far than this share of full speed, though the action should: blocked.
BLOCKED = 0.25


@dataclass
class Walk:
    """One walk: what is being done, and where it came by."""

    action: FloatArray
    """(action_dim,) in [-1, 1]."""
    begun: float
    """When the action began, in steps since the walk did."""
    until: float
    """When it ends."""
    passed: list[FloatArray] = field(default_factory=list)
    """(goal_dim,) points, one a step."""
    looked: float = 0.0
    """When the last of them was passed."""


class NoveltyWalk:
    """Chooses actions that lead to where experience is rare (count-based exploration).

    A random walk spreads with the root of its steps, and in a corridor hardly at all. This one
    draws actions at full speed and the steps to hold them for, looks up where a linear model says
    that they lead, and takes the one whose end was visited least. Ground that is unknown counts as
    new only until it was tried: it may be a wall. Where the achieved goal does not follow the
    actions, all ends are alike and the walk is a random one.

    Args:
        known: the ground that is known.
        action_dim: length of an action.
    """

    def __init__(self, known: TransitionMap, action_dim: int) -> None:
        self.map = known
        self.displacement = DisplacementModel(action_dim, known.step_scale)
        # How often ends were tried that lay on unknown ground, by cell of a grid.
        self._tried: dict[tuple[int, ...], int] = {}

    def learn(self, replay: EpisodeReplay, rows: IntArray) -> None:
        """Take new transitions into the model: what happened at these rows of the replay."""
        self.displacement.add(replay, rows)

    def step(
        self, walk: Walk | None, point: FloatArray, elapsed: float, rng: np.random.Generator
    ) -> Walk:
        """The walk at another moment, with the action to take from now on.

        Args:
            walk: None at its beginning.
            point: (goal_dim,) the achieved goal.
            elapsed: steps since the beginning; may be called more than once a step.
            rng: source of the draws.
        """
        if walk is None:
            walk = Walk(np.zeros(0, np.float32), elapsed, elapsed, [point], elapsed)
        # Rounding: a step of the agent may be made of seven parts.
        elif elapsed > walk.looked + 1.0 - 1e-3:
            moved = np.linalg.norm((point - walk.passed[-1]) / self.map.step_scale)
            walk.passed.append(point)
            walk.looked = elapsed
            should = np.linalg.norm(self.displacement.predict(walk.action[None])[0])
            # What has momentum takes a step to get going.
            if moved < BLOCKED < should and elapsed >= walk.begun + 2.0 - 1e-3:
                walk.until = elapsed
        if elapsed >= walk.until - 1e-3:
            walk.action, steps = self._choose(walk, point, rng)
            walk.begun, walk.until = elapsed, elapsed + steps
        return walk

    def _choose(
        self, walk: Walk, point: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, int]:
        """An action (action_dim,), and for how many steps it is held."""
        action = rng.uniform(-1.0, 1.0, (CANDIDATES, self.displacement.action_dim))
        action /= np.abs(action).max(1, keepdims=True)
        steps = rng.integers(SHORTEST, LONGEST + 1, CANDIDATES)
        offset = self.displacement.predict(action) * steps[:, None]
        ends = (point + offset * self.map.step_scale).astype(np.float32)
        visits, known = self.map.visits_near(ends)
        spacing = SPACING * self.map.step_scale
        cells = [tuple(x) for x in np.floor(ends / (CELL * spacing)).astype(np.int64).tolist()]
        tried = np.array([self._tried.get(cell, 0) for cell in cells])
        apart = (ends[:, None] - np.stack(walk.passed)) / spacing
        passed = (np.linalg.norm(apart, axis=-1) <= 1.0).any(1)
        cost = np.where(known, KNOWN + visits, TRIED * tried) + PASSED * passed
        chosen = int((cost + ALIKE * rng.random(CANDIDATES)).argmin())
        if not known[chosen]:
            self._tried[cells[chosen]] = int(tried[chosen]) + 1
        return action[chosen].astype(np.float32), int(steps[chosen])

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores it from, beside the map."""
        cells = np.array(list(self._tried), np.int64).reshape(-1, len(self.map.step_scale))
        tried = np.array(list(self._tried.values()), np.int64)
        return {"cells": cells, "tried": tried, **self.displacement.state_dict()}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave."""
        cells = map(tuple, arrays["cells"].tolist())
        self._tried = dict(zip(cells, arrays["tried"].tolist(), strict=True))
        self.displacement.load_state_dict(arrays)
