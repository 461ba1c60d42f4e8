"""How large inputs are and how far a step goes: measured once, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hierebm.replay.episodes import EpisodeReplay
from hierebm.types import FloatArray

# Stored states that the scales are measured on.
N_STATES = 10_000
# A full-speed step is the 95% quantile of the steps seen. An axis that hardly moves counts as
# moving this share of its range.
FULL_SPEED, LEAST_STEP = 0.95, 0.01

Range = tuple[FloatArray, FloatArray]
"""Shift and scale that take values to about [-1, 1]."""


@dataclass(frozen=True)
class InputScales:
    """Shift and scale of observations and goals, and the length of a step; all float32."""

    observation_shift: FloatArray
    """(obs_dim,)"""
    observation_scale: FloatArray
    """(obs_dim,) positive"""
    goal_shift: FloatArray
    """(goal_dim,)"""
    goal_scale: FloatArray
    """(goal_dim,) positive"""
    step: FloatArray
    """(goal_dim,) how far the achieved goal moves in one step at full speed, along each axis."""


def measure_scales(
    replay: EpisodeReplay, given: Callable[[str], Range | None], rng: np.random.Generator
) -> InputScales:
    """Scale inputs by the spaces' bounds or, where they are infinite, by what was seen.

    Args:
        replay: stored states.
        given: (middle, half range) by the bounds of "observation" and of "desired_goal", if any.
        rng: source of the draw of states.

    Raises:
        RuntimeError: nothing was stored yet.
    """
    rows = replay.sample_rows(N_STATES, rng)
    achieved = replay.achieved_goal[rows]
    observation = given("observation") or _seen(replay.observation[rows])
    goal = given("desired_goal") or _seen(np.concatenate([achieved, replay.goal[rows]]))
    moved = np.abs(replay.achieved_goal[replay.later(rows, np.ones_like(rows))] - achieved)
    step = np.maximum(np.quantile(moved, FULL_SPEED, axis=0), LEAST_STEP * goal[1])
    return InputScales(observation[0], observation[1], goal[0], goal[1], step.astype(np.float32))


def _seen(values: FloatArray) -> Range:
    """Mean and twice the standard deviation of (n, dim) values."""
    return values.mean(0), np.maximum(2.0 * values.std(0), 1e-6)
