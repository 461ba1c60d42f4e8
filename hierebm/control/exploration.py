"""Exploration: noise on chosen actions, and random actions that are held for a while."""

from __future__ import annotations

import numpy as np

from hierebm.types import FloatArray

# Steps that are drawn at once: a call of the generator costs as much as a few hundred numbers.
BLOCK = 64
_LEAST, _MOST = np.array(-1.0, np.float32), np.array(1.0, np.float32)


class ExplorationNoise:
    """Turns chosen actions into exploring ones.

    Args:
        scale: standard deviation of the noise; actions are in [-1, 1].
        random_share: share of actions that are replaced by uniformly random ones.
        rng: source of the noise.
        block: steps that are drawn at once.
    """

    def __init__(
        self, scale: float, random_share: float, rng: np.random.Generator, block: int = BLOCK
    ) -> None:
        self.scale, self.random_share, self.rng, self.block = scale, random_share, rng, block
        # Of every step to come, the last one first: what to multiply actions by, and what to add.
        self._left: list[FloatArray] = []

    def add(self, action: FloatArray) -> FloatArray:
        """(n, action_dim) in [-1, 1] -> the same with the next step's noise, in [-1, 1]."""
        if not self._left or self._left[-1][0].shape != action.shape:
            self._left = list(self._draw(self.block, *action.shape))
        step = self._left.pop()
        noisy: FloatArray = action * step[0]
        noisy += step[1]
        np.maximum(noisy, _LEAST, out=noisy)
        np.minimum(noisy, _MOST, out=noisy)
        return noisy

    def _draw(self, steps: int, n: int, action_dim: int) -> FloatArray:
        """(steps, 2, n, action_dim) factors and terms."""
        noise = np.empty((steps, 2, n, action_dim), np.float32)
        at_random = self.rng.random((steps, n, 1)) < self.random_share
        noise[:, 0] = ~at_random
        shape = (steps, n, action_dim)
        gauss = self.rng.normal(0.0, self.scale, shape)
        noise[:, 1] = np.where(at_random, self.rng.uniform(-1.0, 1.0, shape), gauss)
        return noise

    def state(self) -> FloatArray:
        """What is drawn and not used yet; with the generator's state, noise goes on from there."""
        return np.array(self._left, np.float32)

    def set_state(self, state: FloatArray) -> None:
        """Restore what :meth:`state` gave."""
        self._left = list(state)


# Random actions are held for this many steps on average: a system with momentum reaches its top
# speed, which sets the scale of one step, and goes somewhere.
HOLD = 8.0


class RandomWalk:
    """Uniformly random actions that are held for a while, in n environments side by side.

    Args:
        n, action_dim: shape of the actions.
        rng: source of the actions.
        held: (n, action_dim) the current ones; None draws them.
    """

    def __init__(
        self, n: int, action_dim: int, rng: np.random.Generator, held: FloatArray | None = None
    ) -> None:
        self.rng = rng
        if held is None:
            held = rng.uniform(-1.0, 1.0, (n, action_dim)).astype(np.float32)
        self._held = held

    @property
    def held(self) -> FloatArray:
        """(n, action_dim) the current actions."""
        return self._held

    def step(self, hold: float = HOLD) -> FloatArray:
        """(n, action_dim) the next actions, in [-1, 1], held for that many steps on average."""
        new = self.rng.random((len(self._held), 1)) < 1.0 / hold
        fresh = self.rng.uniform(-1.0, 1.0, self._held.shape).astype(np.float32)
        self._held = np.where(new, fresh, self._held)
        return self._held
