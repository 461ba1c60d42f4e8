"""The novelty walk from the frontier: held actions that lead to where experience is rare.

An action is held for several steps. Where those lead, its *end*, is predicted by a linear model;
how often the agent was near there, its *visits*, is looked up in the transition map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierebm.checkpoint.arrays import checked, plain
from hierebm.planning.graph.displacement import DisplacementModel
from hierebm.planning.graph.transition_map import TransitionMap
from hierebm.replay import EpisodeReplay
from hierebm.types import LARGEST, FloatArray, IntArray

# Actions to choose from, and the fewest and the most steps that one is held for.
CANDIDATES, SHORTEST, LONGEST = 32, 4, 12
# The cost of an end, in visits. On unknown ground: for each time that an action was to lead there
# and did not, as there is a wall. On known ground: besides its visits. Anywhere: where this walk
# has been within the spacing of landmarks.
TRIED, KNOWN, PASSED = 20.0, 10.0, 50.0
# Tries are counted by cells of a grid with this side, in spacings of landmarks: what lies behind a
# wall is given up after a few tries. So many cells are kept, those tried last: a large goal space
# has no end of them.
CELL, MOST_CELLS = 2.0, 20_000
# Costs that differ by less, in visits, are alike: chance decides.
ALIKE = 5.0
# A wall stops an action that should go farther than this share of full speed, and goes less far.
BLOCKED = 0.25
# Times are sums of parts of a step, and rounded.
ROUNDING = 1e-3


@dataclass
class Walk:
    """One walk of one agent: its current action and the points on its way.

    Times are in steps since the walk began.
    """

    action: FloatArray
    """(action_dim,) in [-1, 1], the one to take now."""
    begun: float
    """When the action began."""
    until: float
    """When another one is chosen."""
    passed: list[FloatArray] = field(default_factory=list)
    """(goal_dim,) achieved goals, one a step."""
    looked: float = 0.0
    """When the last of them was added."""

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`restored` makes it again from."""
        return {**vars(self), "passed": np.stack(self.passed)}

    @classmethod
    def restored(cls, state: Mapping[str, Any], goal_dim: int) -> Walk:
        """What :meth:`state_dict` told of. Raises ValueError where it is of no walk."""
        passed = list(checked(state, "passed", (None, goal_dim), "floats"))
        if not passed:
            raise ValueError("a walk that has passed no point")
        action = checked(state, "action", (None,), "floats", low=-1.0, high=1.0)
        begun, until, looked = (
            plain(state, name, -LARGEST, LARGEST) for name in ("begun", "until", "looked")
        )
        return cls(action, begun, until, passed, looked)


class NoveltyWalk:
    """Chooses actions that lead to where experience is rare.

    Count-based exploration (Bellemare et al. 2016, arXiv 1606.01868; by cells, Tang et al. 2017,
    arXiv 1611.04717), here without a reward, by actions that are held (Dabney et al. 2021, arXiv
    2006.01782).

    A random walk gets as far as the square root of its steps, and in a corridor hardly anywhere.
    This one draws actions at full speed and for how many steps to hold them, and takes the one with
    the cheapest end: the one with the fewest visits. Unknown ground is cheapest, until actions that
    were to lead there did not. Where the achieved goal does not follow the actions, all ends are
    alike and the walk is a random one.

    Args:
        known: the transition map.
        action_dim: length of an action.
    """

    def __init__(self, known: TransitionMap, action_dim: int) -> None:
        self.map = known
        self.displacement = DisplacementModel(action_dim, known.step_scale)
        # How often an end on unknown ground was chosen, by its cell; the latest last.
        self._tried: dict[tuple[int, ...], int] = {}

    def learn(self, replay: EpisodeReplay, rows: IntArray) -> None:
        """Learn where actions lead from the transitions at these rows, each seen once."""
        self.displacement.add(replay, rows)

    def step(
        self, walk: Walk | None, point: FloatArray, elapsed: float, rng: np.random.Generator
    ) -> Walk:
        """The walk (the same object) at a later moment, with the action to take from now on.

        Args:
            walk: None to begin one.
            point: (goal_dim,) the current achieved goal.
            elapsed: steps since it began. May be called several times a step, where a step of the
                agent lasts for several of the environment.
            rng: source of the draws.
        """
        if walk is None:
            walk = Walk(np.zeros(0, np.float32), elapsed, elapsed, [point], elapsed)
        elif elapsed > walk.looked + 1.0 - ROUNDING:
            moved = np.linalg.norm((point - walk.passed[-1]) / self.map.step_scale)
            walk.passed.append(point)
            walk.looked = elapsed
            should = np.linalg.norm(self.displacement.predict(walk.action[None])[0])
            # With momentum, it takes a step to get going.
            if moved < BLOCKED < should and elapsed >= walk.begun + 2.0 - ROUNDING:
                walk.until = elapsed
        if elapsed >= walk.until - ROUNDING:
            walk.action, steps = self._choose(walk, point, rng)
            walk.begun, walk.until = elapsed, elapsed + steps
        return walk

    def _choose(
        self, walk: Walk, point: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, int]:
        """An action (action_dim,), and for how many steps to hold it."""
        action = rng.uniform(-1.0, 1.0, (CANDIDATES, self.displacement.action_dim))
        # Full speed: the largest entry is 1 or -1.
        action /= np.abs(action).max(1, keepdims=True)
        steps = rng.integers(SHORTEST, LONGEST + 1, CANDIDATES)
        offset = self.displacement.predict(action) * steps[:, None]
        ends = (point + offset * self.map.step_scale).astype(np.float32)
        visits, known = self.map.visits_near(ends)
        spacing = self.map.spacing
        cells = [tuple(x) for x in np.floor(ends / (CELL * spacing)).astype(np.int64).tolist()]
        tried = np.array([self._tried.get(cell, 0) for cell in cells])
        apart = (ends[:, None] - np.stack(walk.passed)) / spacing
        passed = (np.linalg.norm(apart, axis=-1) <= 1.0).any(1)
        cost = np.where(known, KNOWN + visits, TRIED * tried) + PASSED * passed
        chosen = int((cost + ALIKE * rng.random(CANDIDATES)).argmin())
        if not known[chosen]:
            self._count(cells[chosen])
        return action[chosen].astype(np.float32), int(steps[chosen])

    def _count(self, cell: tuple[int, ...]) -> None:
        """One more try of a cell, which becomes the latest."""
        self._tried[cell] = self._tried.pop(cell, 0) + 1
        if len(self._tried) > MOST_CELLS:
            del self._tried[next(iter(self._tried))]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What :meth:`load_state_dict` restores it from, beside the map."""
        cells = np.array(list(self._tried), np.int64).reshape(-1, len(self.map.step_scale))
        tried = np.array(list(self._tried.values()), np.int64)
        return {"cells": cells, "tried": tried, **self.displacement.state_dict()}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what :meth:`state_dict` gave. Raises ValueError where it is of other lengths."""
        cells = checked(arrays, "cells", (None, len(self.map.step_scale)), "whole numbers")
        tried = checked(arrays, "tried", (len(cells),), "whole numbers", low=0)
        self._tried = dict(zip(map(tuple, cells.tolist()), tried.tolist(), strict=True))
        self.displacement.load_state_dict(arrays)
