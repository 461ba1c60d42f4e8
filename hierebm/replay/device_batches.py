"""Relabelled minibatches on a device: drawn there, or drawn on the host and sent.

Both get everything that the host has to say ready in :meth:`draw`; what :meth:`batches` then does
can be recorded in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hierebm.nn.capture import sent
from hierebm.replay.device_replay import DeviceReplay
from hierebm.replay.hindsight import TransitionBatch
from hierebm.types import FloatArray

# Updates that are made ready for at once, at most.
MOST_AT_ONCE = 8


class DeviceBatches(NamedTuple):
    """n relabelled minibatches for each of S agents, on the device; see :class:`TransitionBatch`.

    Drawing them together takes as many launches as drawing one.
    """

    observation: Tensor
    """(S, n, B, obs_dim)"""
    achieved_goal: Tensor
    """(S, n, B, goal_dim)"""
    action: Tensor
    """(S, n, B, action_dim)"""
    next_observation: Tensor
    """(S, n, B, obs_dim)"""
    next_achieved_goal: Tensor
    """(S, n, B, goal_dim)"""
    goal: Tensor
    """(S, n, B, goal_dim)"""
    reached: Tensor
    """(S, n, B) bool"""
    failure: Tensor
    """(S, n, B) bool"""


class HostBatches:
    """Batches of one agent that the host draws.

    Args:
        sample: draws one, always with as many rows.
        n: rows.
        widths: of observation, achieved goal and action.
        device: where the batches go.
    """

    def __init__(
        self,
        sample: Callable[[], TransitionBatch],
        n: int,
        widths: tuple[int, int, int],
        device: torch.device | str,
    ) -> None:
        self.sample = sample
        self._widths = (*widths, *widths[:2], widths[1], 1, 1)
        self._inputs = torch.zeros((1, MOST_AT_ONCE, n, sum(self._widths)), device=device)

    def draw(self, n: int) -> None:
        """Draw and send n batches."""
        for inputs in self._inputs[0, :n]:
            b = self.sample()
            columns = (
                b.observation, b.achieved_goal, b.action, b.next_observation, b.next_achieved_goal,
                b.goal, b.reached[:, None], b.failure[:, None],
            )  # fmt: skip
            rows = np.concatenate(columns, axis=1, dtype=np.float32)
            inputs.copy_(sent(rows, inputs.device), non_blocking=True)

    def batches(self, n: int) -> DeviceBatches:
        """The n batches that were sent."""
        *parts, reached, failure = self._inputs[:, :n].split(self._widths, -1)
        return DeviceBatches._make([*parts, reached[..., 0] > 0.0, failure[..., 0] > 0.0])


class HindsightBatches:
    """:func:`~hierebm.replay.hindsight.sample_transitions` of S agents, on the device.

    The same distribution from other random numbers: rows and goals follow from uniform numbers that
    each agent's generator says a seed for.

    Args:
        replay: where the transitions are.
        n: rows of a batch, B.
        tolerance: (S, goal_dim) half axes of the ellipsoid around a goal in which it counts as
            reached, infinite where an axis does not matter.
        rngs: of the S agents.
        future, random, horizon: as for ``sample_transitions``.
    """

    def __init__(
        self,
        replay: DeviceReplay,
        n: int,
        tolerance: FloatArray,
        rngs: Sequence[np.random.Generator],
        *,
        future: float,
        random: float,
        horizon: float,
    ) -> None:
        self.replay, self._rngs = replay, list(rngs)
        self._given = tolerance, {"future": future, "random": random, "horizon": horizon}
        self._n_future = round(future * n)
        self._n_random = min(round(random * n), n - self._n_future)
        self._n, self._horizon = n, horizon
        smallest = np.maximum(tolerance, np.finfo(np.float32).tiny)
        self._tolerance = torch.from_numpy(smallest).to(replay.device)[:, None, None]
        # Of each agent, update by update: numbers in [0, 1) for rows and those of random goals, and
        # for steps ahead.
        self._parts = n + self._n_random, self._n_future
        self._uniform = torch.zeros(
            (len(self._rngs), MOST_AT_ONCE, sum(self._parts)),
            dtype=torch.float64,
            device=replay.device,
        )
        self._generator = torch.Generator(replay.device)

    @classmethod
    def joined(cls, sources: Sequence[HindsightBatches]) -> HindsightBatches:
        """The batches of several sources, drawn together: each agent gets what it would get alone.

        Raises:
            ValueError: they differ in settings or sizes.
        """
        first = sources[0]
        kinds = [(source._n, source._given[1]) for source in sources]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(f"batches side by side must be of one kind, got {kinds}")
        return cls(
            DeviceReplay([r for source in sources for r in source.replay.replays],
                         first.replay.device),
            first._n,
            np.concatenate([source._given[0] for source in sources]),
            [rng for source in sources for rng in source._rngs],
            **first._given[1],
        )  # fmt: skip

    def draw(self, n: int) -> None:
        """Bring the rings up to date, and draw the random numbers of n batches."""
        self.replay.sync()
        for uniform, rng in zip(self._uniform, self._rngs, strict=True):
            self._generator.manual_seed(int(rng.integers(2**62)))
            uniform[:n].uniform_(generator=self._generator)

    def batches(self, n: int) -> DeviceBatches:
        """n batches of the numbers that were drawn."""
        replay, size, n_future = self.replay, self._n, self._n_future
        u_rows, u_ahead = self._uniform[:, :n].split(self._parts, -1)
        drawn = replay.rows_at(u_rows)
        rows, near = drawn[..., :size], drawn[..., :n_future]
        ahead = torch.minimum(geometric(u_ahead, self._horizon), replay.steps_left(near))
        goal_rows = torch.cat([replay.later(near, ahead), drawn[..., size:]], -1)

        observation, achieved_goal, chased, action, failure = replay.read(rows)
        next_observation, next_achieved_goal, *_ = replay.read(replay.later(rows, 1))
        _, others, *_ = replay.read(goal_rows)
        goal = torch.cat([others, chased[..., others.shape[-2] :, :]], -2)
        off = (next_achieved_goal - goal) / self._tolerance
        return DeviceBatches(
            observation,
            achieved_goal,
            action,
            next_observation,
            next_achieved_goal,
            goal,
            reached=off.square().sum(-1) <= 1.0,
            failure=failure[..., 0] > 0.0,
        )


def geometric(u: Tensor, mean: float) -> Tensor:
    """Numbers of {1, 2, ...}, geometric with this mean, of uniform u in [0, 1); whole numbers."""
    if mean <= 1.0:
        return torch.ones_like(u, dtype=torch.int64)
    # 1 - (1 - p)^k <= u for the number k before.
    return torch.log1p(-u).div_(np.log1p(-1.0 / mean)).floor_().long() + 1
