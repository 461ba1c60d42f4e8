"""Exploration: Gaussian noise and, now and then, an action at random; drawn for many steps."""

from __future__ import annotations

import numpy as np

from hierebm.replay.episodes import FloatArray

# Steps that are drawn at once: a call of the generator costs as much as a few hundred numbers.
BLOCK = 64


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
        self._left = np.zeros((0, 2, 0, 0), np.float32)

    def add(self, action: FloatArray) -> FloatArray:
        """(n, action_dim) in [-1, 1] -> the same with the next step's noise, in [-1, 1]."""
        if not len(self._left) or self._left.shape[2:] != action.shape:
            self._left = self.draw(self.block, *action.shape)
        kept, added = self._left[0]
        self._left = self._left[1:]
        noisy: FloatArray = action * kept
        noisy += added
        np.maximum(noisy, -1.0, out=noisy)
        np.minimum(noisy, 1.0, out=noisy)
        return noisy

    def draw(self, steps: int, n: int, action_dim: int) -> FloatArray:
        """(steps, 2, n, action_dim): what to multiply actions by, and what to add to them."""
        noise = np.empty((steps, 2, n, action_dim), np.float32)
        at_random = self.rng.random((steps, n, 1)) < self.random_share
        noise[:, 0] = ~at_random
        shape = (steps, n, action_dim)
        gauss = self.rng.normal(0.0, self.scale, shape)
        noise[:, 1] = np.where(at_random, self.rng.uniform(-1.0, 1.0, shape), gauss)
        return noise

    def state(self) -> FloatArray:
        """What is drawn and not used yet; with the generator's state, noise goes on from there."""
        return self._left.copy()

    def set_state(self, state: FloatArray) -> None:
        """Restore what :meth:`state` gave."""
        self._left = state.copy()
